//! Schemas of values whose Rust types say less than what is enforced.

use openapi_schema::{
    SchemaRef, any, any_of, array, boolean, nullable, object, optional, required, schema_types,
    string, strings, text,
};
use worker_contract::limits::{MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES};

use crate::{images::base64, schemas::UNLIMITED};

schema_types! {
    /// Format of the output: `json`, a JSON schema, or an empty string for any text.
    OllamaFormat = any_of([strings(["", "json"]), object([])]);
    /// Whether the model thinks, or how much.
    OllamaThink = any_of([boolean(None), strings(["low", "medium", "high"])]);
    /// Up to 16 stop sequences of 1 to 1024 bytes.
    OllamaStop = array(string(1..=MAX_STOP_SEQUENCE_BYTES), 0..=MAX_STOP_SEQUENCES);
    /// Reason why the output ended.
    OllamaDoneReason = strings(["stop", "length", "load", "unload"]);
}

/// Schema of a message of a request, in which calls have the schema `tool_call`. Only messages of
/// the assistant have calls.
pub(super) fn message(tool_call: SchemaRef) -> SchemaRef {
    let of = |roles: &[&'static str], tool_calls| {
        object([
            required("role", strings(roles.iter().copied())),
            optional("content", nullable(any_of([text(), array(any(), 0..=0)]))),
            optional("images", nullable(array(base64(), 0..=UNLIMITED))),
            optional("thinking", nullable(text())),
            optional("tool_calls", nullable(tool_calls)),
            optional("tool_name", nullable(text())),
            optional("tool_call_id", nullable(text())),
        ])
    };
    any_of([
        of(&["system", "user", "tool"], array(any(), 0..=0)),
        of(&["assistant"], array(tool_call, 0..=UNLIMITED)),
    ])
}
