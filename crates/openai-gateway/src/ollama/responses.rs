//! The schemas of the lines and documents that [`OllamaWriter`](super::writer) assembles.

use openapi_schema::{
    SchemaRef, all_of, any_of, array, boolean, date_time, impl_schema, object, optional, reference,
    required, strings, text, unsigned,
};

use super::{
    error_body::OllamaErrorBody,
    writer::{OllamaMetrics, OllamaResponseToolCall},
};
use crate::{logprobs::ChatTokenLogprob, schemas::UNLIMITED};

/// Line of a streamed response, or the complete response of `POST /api/chat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaChatLine {}

/// Complete response of `POST /api/chat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaChatResponse {}

/// Line of a streamed response, or the complete response of `POST /api/generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaGenerateLine {}

/// Complete response of `POST /api/generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaGenerateResponse {}

impl_schema! {
    OllamaChatResponse, uses [ChatTokenLogprob, OllamaMetrics, OllamaResponseToolCall],
    "Complete response of `POST /api/chat`.",
    complete("message", chat_message())
}

impl_schema! {
    OllamaGenerateResponse, uses [ChatTokenLogprob, OllamaMetrics],
    "Complete response of `POST /api/generate`.",
    all_of([
        object([optional(
            "context",
            array(unsigned(u32::MAX as usize), 0..=UNLIMITED),
        )]),
        complete("response", text()),
    ])
}

impl_schema! {
    OllamaChatLine, uses [OllamaChatResponse, OllamaErrorBody],
    "Line of a streamed response of `POST /api/chat`. The last line has the metrics, or is an error.",
    any_of([
        part("message", chat_message()),
        reference::<OllamaChatResponse>(),
        reference::<OllamaErrorBody>(),
    ])
}

impl_schema! {
    OllamaGenerateLine, uses [OllamaGenerateResponse, OllamaErrorBody],
    "Line of a streamed response of `POST /api/generate`. The last line has the metrics, or is an \
     error.",
    any_of([
        part("response", text()),
        reference::<OllamaGenerateResponse>(),
        reference::<OllamaErrorBody>(),
    ])
}

fn chat_message() -> SchemaRef {
    object([
        required("role", strings(["assistant"])),
        required("content", text()),
        optional("thinking", text()),
        optional(
            "tool_calls",
            array(reference::<OllamaResponseToolCall>(), 1..=UNLIMITED),
        ),
    ])
}

/// A line, whose output is in the field `name`.
fn line(name: &'static str, output: SchemaRef, done: bool) -> SchemaRef {
    object([
        required("model", text()),
        required("created_at", date_time()),
        required(name, output),
        optional("thinking", text()),
        optional(
            "logprobs",
            array(reference::<ChatTokenLogprob>(), 1..=UNLIMITED),
        ),
        required("done", boolean(Some(done))),
    ])
}

fn part(name: &'static str, output: SchemaRef) -> SchemaRef {
    line(name, output, false)
}

fn complete(name: &'static str, output: SchemaRef) -> SchemaRef {
    all_of([line(name, output, true), reference::<OllamaMetrics>()])
}
