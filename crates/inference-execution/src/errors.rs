//! The errors of this crate.

use std::{fmt::Display, io, ops::RangeInclusive};

use diagnostics::{Code, Diagnostic, escape, excerpt};
use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use worker_contract::{
    InferInput,
    limits::{MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES, MAX_TOP_LOGPROBS},
};

const SHORTEN_PROMPT: &str = "shorten the prompt";
const SHORTEN_PROMPT_OR_OUTPUT: &str = "shorten the prompt or lower `max_tokens`";

// Requests that are refused before they get a slot.

fn invalid(param: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, message).param(param)
}

pub(crate) fn no_max_tokens() -> Diagnostic {
    invalid("max_tokens", "max_tokens must be at least 1, not 0")
}

pub(crate) fn too_many_logprobs(count: u8) -> Diagnostic {
    let message = format!("logprobs must be at most {MAX_TOP_LOGPROBS}, not {count}");
    invalid("logprobs", message)
}

/// The words are those of Ollama, whose clients look for them.
pub fn cannot_reason(model: &ModelRef) -> Diagnostic {
    let message = format!("\"{model}\" does not support thinking");
    invalid("reasoning.enabled", message)
}

pub(crate) fn no_tools_to_call() -> Diagnostic {
    let message = "tool_choice requires a tool call, but the request has no tools";
    invalid("tool_choice", message)
}

pub(crate) fn unknown_tool(name: &str) -> Diagnostic {
    let name = excerpt(name, 80);
    let message = format!("tool_choice names \"{name}\", which is not one of the tools");
    invalid("tool_choice", message)
}

pub fn tools_without_messages() -> Diagnostic {
    invalid("tools", "tools require messages as the input")
}

pub fn no_vision(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        format!("the model {model} cannot see images"),
    )
    .hint("remove the images from the messages")
    .param("input")
}

pub(crate) fn no_tool_format(model: &ModelRef) -> Diagnostic {
    let message = format!("the model {model} has no known format for tool calls");
    let hint = "leave `tools` out, or use a model whose chat template has a place for tools";
    Diagnostic::new(Code::UnsupportedParameter, message)
        .hint(hint)
        .param("tools")
}

/// The output cannot continue the last message; `obstacle` is a clause that says why.
pub fn no_continuation(obstacle: &str) -> Diagnostic {
    let message = format!("the last message cannot be continued: {obstacle}");
    Diagnostic::new(Code::InvalidRequest, message)
        .param("continue_final_message")
        .hint("end the conversation with a message of the user")
}

fn context_exceeded(message: String, prompt_tokens: usize, context_length: u32) -> Diagnostic {
    Diagnostic::new(Code::ContextLengthExceeded, message)
        .hint(SHORTEN_PROMPT)
        .param("input")
        .detail("prompt_tokens", prompt_tokens)
        .detail("context_length", context_length)
}

pub(crate) fn prompt_far_too_long(least_tokens: usize, context_length: u32) -> Diagnostic {
    let message = format!(
        "the prompt has at least {least_tokens} tokens, but the context length is {context_length}"
    );
    context_exceeded(message, least_tokens, context_length)
}

pub(crate) fn embedding_input_too_long(tokens: usize, context_length: u32) -> Diagnostic {
    let message =
        format!("an input has {tokens} tokens, but the context length is {context_length}");
    context_exceeded(message, tokens, context_length).hint("split the text into shorter pieces")
}

/// The prompt and `max_tokens`, if the request has it, do not fit the context.
pub(crate) fn no_room_for_output(
    prompt_tokens: u32,
    max_tokens: Option<u32>,
    context_length: u32,
) -> Diagnostic {
    let message = match max_tokens {
        Some(max) => format!(
            "the prompt has {prompt_tokens} tokens and max_tokens is {max}, together {}, \
             but the context length is {context_length}",
            u64::from(prompt_tokens) + u64::from(max)
        ),
        None => format!(
            "the prompt has {prompt_tokens} tokens, which leaves no room for output: \
             the context length is {context_length}"
        ),
    };
    let error = context_exceeded(message, prompt_tokens as usize, context_length)
        .detail("max_tokens", max_tokens.unwrap_or(1));
    if prompt_tokens < context_length {
        error.hint(SHORTEN_PROMPT_OR_OUTPUT).param("max_tokens")
    } else {
        error
    }
}

/// The input has no tokens.
pub fn empty_input(input: &InferInput) -> Diagnostic {
    let (message, hint) = match input {
        InferInput::Prompt(_) => ("the prompt is empty", "send at least one character"),
        InferInput::Tokens(_) => ("the prompt has no tokens", "send at least one token"),
        InferInput::Messages(messages) if messages.is_empty() => return no_messages(),
        InferInput::Messages(_) => (
            "the messages become an empty prompt in the model's chat template",
            "send a message that has text",
        ),
    };
    invalid("input", message).hint(hint)
}

pub(crate) fn no_messages() -> Diagnostic {
    invalid("input", "the conversation has no messages").hint("send at least one message")
}

/// The conversation is only the start of the answer.
pub fn nothing_to_answer() -> Diagnostic {
    let message = "the conversation has only the start of the assistant's answer, and no message \
                   that it answers";
    invalid("input", message).hint("send a message of the user before the one of the assistant")
}

pub fn no_inputs() -> Diagnostic {
    invalid("inputs", "inputs must have at least one element")
}

pub(crate) fn out_of_range(
    param: &str,
    name: &str,
    range: &RangeInclusive<f64>,
    value: f32,
) -> Diagnostic {
    let (least, most) = (range.start(), range.end());
    invalid(
        param,
        format!("{name} must be from {least} to {most}, not {value}"),
    )
}

pub(crate) fn too_many_stop_sequences(count: usize) -> Diagnostic {
    let message =
        format!("the request has {count} stop sequences, at most {MAX_STOP_SEQUENCES} are allowed");
    invalid("stop", message)
}

pub(crate) fn stop_sequence_length(stop: &str) -> Diagnostic {
    let message = format!(
        "a stop sequence must have 1 to {MAX_STOP_SEQUENCE_BYTES} bytes, \"{}\" has {}",
        excerpt(stop, 40),
        stop.len()
    );
    invalid("stop", message)
}

/// `param` is a path such as `sampling.logit_bias`; the message shows its last component.
pub(crate) fn unknown_token(param: &str, id: u32, vocab_size: u32) -> Diagnostic {
    let name = param.rsplit('.').next().unwrap_or(param);
    let message = format!("{name} contains token {id}, but the vocabulary has {vocab_size} tokens");
    invalid(param, message)
}

pub(crate) fn no_embeddings(model: &ModelRef) -> Diagnostic {
    let message = format!("the model {model} does not compute embeddings");
    Diagnostic::new(Code::UnsupportedModel, message).param("model")
}

pub(crate) fn deadline_passed_on_arrival(deadline: Timestamp) -> Diagnostic {
    let message = format!("the request's deadline {deadline} passed before it arrived");
    Diagnostic::new(Code::DeadlineExceeded, message)
        .hint("allow more time")
        .param("deadline")
}

pub(crate) fn all_slots_busy(slots: u32) -> Diagnostic {
    let hint = "try again when a request has finished, or run more replicas";
    Diagnostic::new(Code::AllSlotsBusy, format!("all {slots} slots are busy"))
        .hint(hint)
        .detail("slots", slots)
        .detail("retry_after_seconds", 1)
}

pub(crate) fn draining() -> Diagnostic {
    let message = "the worker is draining and accepts no new requests";
    Diagnostic::new(Code::Draining, message).hint("send the request to another worker")
}

pub(crate) fn duplicate_request(id: &RequestId) -> Diagnostic {
    let message = format!("a request with the id {id} is already running");
    Diagnostic::new(Code::DuplicateRequest, message)
        .hint("use a different id for every request")
        .param("request_id")
}

pub(crate) fn no_seed(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot draw a random seed: {cause}"))
}

// Requests that end without a result.

pub fn cancelled() -> Diagnostic {
    Diagnostic::new(Code::Cancelled, "the request was cancelled")
}

pub fn generation_expired() -> Diagnostic {
    let message = "the request's deadline passed before the output was complete";
    Diagnostic::new(Code::DeadlineExceeded, message).hint("allow more time or lower `max_tokens`")
}

pub(crate) fn embedding_expired() -> Diagnostic {
    let message = "the request's deadline passed before all inputs were embedded";
    Diagnostic::new(Code::DeadlineExceeded, message)
        .hint("allow more time or embed fewer inputs per request")
}

pub(crate) fn exceeds_kv_cache() -> Diagnostic {
    let message = "the request does not fit the KV cache";
    Diagnostic::new(Code::ContextLengthExceeded, message).hint(SHORTEN_PROMPT_OR_OUTPUT)
}

pub(crate) fn no_logits() -> Diagnostic {
    Diagnostic::internal("the engine returned no logits for the sequence")
}

pub(crate) fn nothing_to_sample() -> Diagnostic {
    let message = "no token can be sampled: every logit is NaN or negative infinity";
    Diagnostic::internal(message)
}

pub(crate) fn not_normalizable() -> Diagnostic {
    Diagnostic::internal("the engine returned an embedding whose length is zero or not finite")
}

// Threads and the engine.

pub(crate) fn thread_not_started(name: &str, cause: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot start the thread `{name}`: {cause}"))
}

pub(crate) fn mask_thread_exited() -> Diagnostic {
    Diagnostic::internal("the thread that computes token masks has exited")
}

pub(crate) fn token_without_mask() -> Diagnostic {
    Diagnostic::internal("a token was accepted before its mask was computed")
}

pub(crate) fn engine_exited() -> Diagnostic {
    Diagnostic::internal("the engine thread exited before the request finished")
}

pub(crate) fn engine_panicked(panic: &str) -> Diagnostic {
    Diagnostic::internal(format!("the engine panicked: {}", escape(panic)))
}

// The mock engine.

pub(crate) fn mock_load_fault() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        "loading failed, as the mock engine's settings request",
    )
}

pub(crate) fn invalid_mock_setting(entry: &str, keys: &str) -> Diagnostic {
    let message = format!("invalid mock engine setting: \"{}\"", excerpt(entry, 80));
    Diagnostic::new(Code::InvalidModelRef, message).hint(format!(
        "write settings as `key=value,…` with the keys {keys}"
    ))
}
