//! Schemas of values that several dialects share and whose Rust types say less than what is
//! enforced.

use openapi_schema::{
    SchemaRef, any_of, array, boolean, null, object, required, schema_types, string, strings, text,
    unsigned,
};
use worker_contract::limits::{MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES};

use crate::embed::MAX_INPUTS;

/// No upper limit on a length.
pub(crate) const UNLIMITED: usize = usize::MAX;

/// Pattern of the decimal representation of a `u32`, as Rust parses it.
pub(crate) const U32_PATTERN: &str = "^\\+?0*([0-9]{1,9}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}\
     |429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}\
     |42949672[0-8][0-9]|429496729[0-5])$";

schema_types! {
    /// Only null: the field is not supported.
    Unsupported = null();
    /// Only the empty array: the field is not supported.
    UnsupportedArray = array(null(), 0..=0);
    /// Only the empty string: the field is not supported.
    UnsupportedString = string(0..=0);
    /// One stop sequence, or an array of up to 16. Each has 1 to 1024 bytes. The empty string is
    /// no stop sequence.
    StopSequences = stop_sequences();
    /// JSON schema: an object, or true for any JSON.
    JsonSchema = any_of([object([]), boolean(None)]);
    /// Text or token ids to embed, or an array of up to 2048 such inputs.
    EmbeddingsInput = embeddings_input();
}

fn stop_sequences() -> SchemaRef {
    let stop = |min| string(min..=MAX_STOP_SEQUENCE_BYTES);
    any_of([stop(0), array(stop(1), 0..=MAX_STOP_SEQUENCES)])
}

/// Token ids; whether the model has them is checked later.
pub(crate) fn token_ids() -> SchemaRef {
    array(unsigned(u32::MAX as usize), 1..=UNLIMITED)
}

fn embeddings_input() -> SchemaRef {
    any_of([
        text(),
        token_ids(),
        array(any_of([text(), token_ids()]), 1..=MAX_INPUTS),
    ])
}

/// Part of a message of type `text`.
pub(crate) fn text_part() -> SchemaRef {
    object([
        required("type", strings(["text"])),
        required("text", text()),
    ])
}
