//! The schema of the events that [`AnthropicWriter`](super::writer) assembles.

use openapi_schema::{
    Field, SchemaRef, any_of, event_of_json, events, impl_schema, nullable, object, reference,
    required, strings, text, unsigned,
};

use super::{
    error_body::AnthropicErrorBody,
    schemas::AnthropicStopReason,
    writer::{AnthropicContentBlock, AnthropicMessage, AnthropicUsage},
};

/// Server-sent event of a streamed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnthropicEvent {}

impl_schema! {
    AnthropicEvent, uses [
        AnthropicMessage, AnthropicContentBlock, AnthropicUsage, AnthropicErrorBody,
    ],
    "Event of a streamed message.",
    events([
        named("message_start", [required("message", reference::<AnthropicMessage>())]),
        named("ping", []),
        named("content_block_start", [
            required("index", unsigned(u32::MAX as usize)),
            required("content_block", reference::<AnthropicContentBlock>()),
        ]),
        named("content_block_delta", [
            required("index", unsigned(u32::MAX as usize)),
            required("delta", delta()),
        ]),
        named("content_block_stop", [required("index", unsigned(u32::MAX as usize))]),
        named("message_delta", [
            required("delta", object([
                required("stop_reason", reference::<AnthropicStopReason>()),
                required("stop_sequence", nullable(text())),
            ])),
            required("usage", reference::<AnthropicUsage>()),
        ]),
        named("message_stop", []),
        event_of_json(Some("error"), reference::<AnthropicErrorBody>()),
    ])
}

/// An event whose data repeats its type.
fn named<const N: usize>(name: &'static str, fields: [Field; N]) -> SchemaRef {
    let kind = required("type", strings([name]));
    event_of_json(Some(name), object(fields.into_iter().chain([kind])))
}

fn delta() -> SchemaRef {
    any_of([
        object([
            required("type", strings(["text_delta"])),
            required("text", text()),
        ]),
        object([
            required("type", strings(["thinking_delta"])),
            required("thinking", text()),
        ]),
        object([
            required("type", strings(["signature_delta"])),
            required("signature", text()),
        ]),
        object([
            required("type", strings(["input_json_delta"])),
            required("partial_json", text()),
        ]),
    ])
}
