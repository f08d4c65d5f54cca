//! Schemas of values whose Rust types say less than what is enforced, and of the chunks of
//! streamed responses, which [`ChunkWriter`](super::chunks) assembles by hand.

use openapi_schema::{
    SchemaRef, any, any_of, array, boolean, described, event, event_of_json, events, impl_schema,
    integer, map, null, nullable, number, object, optional, pattern, reference, required,
    schema_types, string, strings, text, unsigned,
};
use utoipa::ToSchema;
use worker_contract::limits::LOGIT_BIAS;

use super::{
    constraint::MAX_GUIDED_CHOICES,
    error_body::OpenAiErrorBody,
    limits::{EFFORTS, MAX_TOTAL_CHOICES},
    usage::CompletionUsage,
};
use crate::{
    images::image_url_part,
    logprobs::{ChatLogprobs, CompletionLogprobs},
    schemas::{U32_PATTERN, UNLIMITED, text_part, token_ids},
};

schema_types! {
    /// Values to add to logits, by token id.
    LogitBiases = map(pattern(U32_PATTERN), number(&LOGIT_BIAS));
    /// Format of the output.
    OpenAiResponseFormat = response_format();
    /// JSON schema that the output must match, as an object or its text.
    GuidedJson = any_of([object([]), text()]);
    /// Strings, one of which is the output.
    GuidedChoice = array(string(1..=UNLIMITED), 1..=MAX_GUIDED_CHOICES);
    /// Whether and which functions the model calls.
    OpenAiToolChoice = tool_choice();
    /// Only `none` and `auto`: the field is not supported.
    UnsupportedFunctionCall = strings(["none", "auto"]);
    /// How much the model reasons.
    ReasoningEffort = strings(EFFORTS);
    /// Only text.
    Modalities = array(strings(["text"]), 1..=1);
    /// Only 1: the field is not supported.
    UnsupportedBestOf = integer(1..=1);
    /// Only false: the field is not supported.
    UnsupportedEcho = boolean(Some(false));
    /// Format of vectors in the response.
    EncodingFormat = strings(["float", "base64"]);
    /// Reason why the output of a chat completion ended.
    ChatFinishReason = strings(["stop", "length", "tool_calls"]);
    /// Reason why the output of a text completion ended.
    CompletionFinishReason = strings(["stop", "length"]);
}

fn response_format() -> SchemaRef {
    let json_schema = object([
        required("schema", object([])),
        optional("strict", nullable(boolean(None))),
    ]);
    any_of([
        object([required("type", strings(["text", "json_object"]))]),
        object([
            required("type", strings(["json_schema"])),
            required("json_schema", json_schema),
        ]),
    ])
}

fn tool_choice() -> SchemaRef {
    any_of([
        strings(["auto", "none", "required"]),
        object([
            required("type", strings(["function"])),
            required("function", object([required("name", text())])),
        ]),
    ])
}

/// Schema of a message, in which calls have the schema `tool_call`. Which fields a message must
/// have depends on its role.
pub(super) fn message(tool_call: &SchemaRef) -> SchemaRef {
    let content = || {
        let part = any_of([text_part(), refusal_part(), image_url_part()]);
        let content = any_of([text(), array(part, 0..=UNLIMITED)]);
        described(
            content,
            &[
                "String, or array of parts of type `text`, `refusal` or `image_url`. Images require a worker with the capability `vision`.",
            ],
        )
    };
    let calls = || described(tool_call.clone(), &["Earlier tool call."]);
    let name = || {
        let lines = [
            " Of a `tool` message, the name of the function. Of other messages, the name of the",
            " speaker, which only some chat templates pass to the model.",
        ];
        described(nullable(text()), &lines)
    };
    let common = || {
        [
            optional("name", name()),
            optional("function_call", described(null(), &["Not supported."])),
            optional("audio", described(null(), &["Not supported."])),
        ]
    };
    let no_calls = || {
        let none = nullable(array(any(), 0..=0));
        optional(
            "tool_calls",
            described(none, &["Only allowed in a message of the assistant."]),
        )
    };
    let reasoning = || {
        let lines = [" Reasoning, which only some chat templates pass to the model."];
        described(nullable(text()), &lines)
    };
    let call_id = || described(text(), &["Id of the call that produced the result."]);
    any_of([
        object(common().into_iter().chain([
            required("role", strings(["system", "developer", "user"])),
            required("content", content()),
            no_calls(),
            optional("tool_call_id", nullable(text())),
        ])),
        object(common().into_iter().chain([
            required("role", strings(["tool"])),
            required("content", content()),
            no_calls(),
            required("tool_call_id", call_id()),
        ])),
        object(common().into_iter().chain([
            required("role", strings(["assistant"])),
            optional("content", nullable(content())),
            optional("refusal", nullable(text())),
            optional("prefix", nullable(boolean(None))),
            optional("tool_calls", nullable(array(calls(), 0..=UNLIMITED))),
            optional("tool_call_id", nullable(text())),
            optional("reasoning_content", reasoning()),
            optional("reasoning", reasoning()),
        ])),
    ])
}

/// Part of a message in which a model refused to answer.
fn refusal_part() -> SchemaRef {
    object([
        required("type", strings(["refusal"])),
        required("refusal", text()),
    ])
}

/// Prompt of a text completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompletionPrompt {}

impl_schema! {
    CompletionPrompt, uses [],
    "Text, token ids, or an array of up to 128 such prompts.",
    any_of([
        text(),
        token_ids(),
        array(any_of([text(), token_ids()]), 1..=MAX_TOTAL_CHOICES as usize),
    ])
}

/// Server-sent event of a streamed chat completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatCompletionEvent {}

impl_schema! {
    ChatCompletionEvent, uses [ChatCompletionChunk, OpenAiErrorBody],
    "Event of a streamed chat completion: a chunk; last, `[DONE]` or an error.",
    stream_of::<ChatCompletionChunk>()
}

/// Server-sent event of a streamed text completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextCompletionEvent {}

impl_schema! {
    TextCompletionEvent, uses [TextCompletionChunk, OpenAiErrorBody],
    "Event of a streamed text completion: a chunk; last, `[DONE]` or an error.",
    stream_of::<TextCompletionChunk>()
}

fn stream_of<Chunk: ToSchema>() -> SchemaRef {
    events([
        event_of_json(None, reference::<Chunk>()),
        event_of_json(None, reference::<OpenAiErrorBody>()),
        event(None, strings(["[DONE]"])),
    ])
}

/// Chunk of a streamed chat completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChatCompletionChunk {}

impl_schema! {
    ChatCompletionChunk, uses [ChatLogprobs, CompletionUsage],
    "Chunk of a streamed chat completion.",
    chunk("chat.completion.chunk", object([
        required("index", unsigned(u32::MAX as usize)),
        required("delta", chat_delta()),
        required("logprobs", nullable(reference::<ChatLogprobs>())),
        required("finish_reason", nullable(strings(["stop", "length", "tool_calls"]))),
    ]))
}

/// Chunk of a streamed text completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextCompletionChunk {}

impl_schema! {
    TextCompletionChunk, uses [CompletionLogprobs, CompletionUsage],
    "Chunk of a streamed text completion.",
    chunk("text_completion", object([
        required("index", unsigned(u32::MAX as usize)),
        required("text", text()),
        required("logprobs", nullable(reference::<CompletionLogprobs>())),
        required("finish_reason", nullable(strings(["stop", "length"]))),
    ]))
}

/// A chunk with the choices of one index. The last chunk before `[DONE]` has no choice if the
/// request includes the usage.
fn chunk(kind: &'static str, choice: SchemaRef) -> SchemaRef {
    object([
        required("id", text()),
        required("object", strings([kind])),
        required("created", integer(0..=i64::MAX)),
        required("model", text()),
        required("system_fingerprint", text()),
        required("choices", array(choice, 0..=1)),
        optional("usage", nullable(reference::<CompletionUsage>())),
    ])
}

fn chat_delta() -> SchemaRef {
    let call = object([
        required("index", unsigned(u32::MAX as usize)),
        optional("id", text()),
        optional("type", strings(["function"])),
        required(
            "function",
            object([optional("name", text()), required("arguments", text())]),
        ),
    ]);
    object([
        optional("role", strings(["assistant"])),
        optional("content", text()),
        optional("refusal", null()),
        optional("reasoning_content", text()),
        optional("reasoning", text()),
        optional("tool_calls", array(call, 1..=UNLIMITED)),
    ])
}
