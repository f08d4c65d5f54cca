//! Schemas of values whose Rust types say less than what is enforced.

use openapi_schema::{
    SchemaRef, any_of, array, boolean, integer, nullable, object, optional, pattern, required,
    schema_types, strings, text,
};

use super::limits::{EFFORTS, MIN_BUDGET};
use crate::{
    images::image_block,
    schemas::{UNLIMITED, text_part},
};

schema_types! {
    /// Reason why the output ended.
    AnthropicStopReason = strings(["end_turn", "stop_sequence", "max_tokens", "tool_use"]);
    /// How much the model thinks.
    AnthropicEffort = strings(EFFORTS);
    /// String, or blocks of type `text`.
    AnthropicText = text_content();
    /// Edits that remove parts of the conversation. They are ignored.
    AnthropicContextManagement = object([optional(
        "edits",
        array(object([required("type", pattern("^clear_"))]), 0..=UNLIMITED),
    )]);
}

fn text_content() -> SchemaRef {
    any_of([text(), array(text_part(), 0..=UNLIMITED)])
}

fn content_of(blocks: impl IntoIterator<Item = SchemaRef>) -> SchemaRef {
    any_of([text(), array(any_of(blocks), 0..=UNLIMITED)])
}

/// Schema of a message. Which blocks it may have depends on its role.
pub(super) fn message() -> SchemaRef {
    let tool_result = object([
        required("type", strings(["tool_result"])),
        required("tool_use_id", text()),
        optional("content", nullable(text_content())),
    ]);
    let tool_use = object([
        required("type", strings(["tool_use"])),
        required("id", text()),
        required("name", text()),
        required("input", object([])),
    ]);
    let thinking = object([
        required("type", strings(["thinking"])),
        required("thinking", text()),
    ]);
    let redacted = object([required("type", strings(["redacted_thinking"]))]);
    any_of([
        object([
            required("role", strings(["user"])),
            required(
                "content",
                content_of([text_part(), tool_result, image_block()]),
            ),
        ]),
        object([
            required("role", strings(["assistant"])),
            optional(
                "content",
                nullable(content_of([text_part(), tool_use, thinking, redacted])),
            ),
        ]),
        object([
            required("role", strings(["system"])),
            required("content", text_content()),
        ]),
    ])
}

pub(super) fn thinking() -> SchemaRef {
    any_of([
        object([
            required("type", strings(["enabled"])),
            required("budget_tokens", integer(MIN_BUDGET..=i64::MAX)),
        ]),
        object([
            required("type", strings(["disabled", "adaptive"])),
            optional("budget_tokens", nullable(integer(i64::MIN..=i64::MAX))),
        ]),
    ])
}

pub(super) fn tool_choice() -> SchemaRef {
    let parallel = || optional("disable_parallel_tool_use", nullable(boolean(None)));
    any_of([
        object([
            required("type", strings(["auto", "any", "none"])),
            optional("name", nullable(text())),
            parallel(),
        ]),
        object([
            required("type", strings(["tool"])),
            required("name", text()),
            parallel(),
        ]),
    ])
}
