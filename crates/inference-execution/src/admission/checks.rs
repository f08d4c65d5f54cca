//! Checks of the fields of a request.

use std::ops::RangeInclusive;

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use text_codec::Codec;
use worker_contract::{
    InferInput, InferRequest, ToolChoice,
    limits::{self, MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES},
};

use crate::errors;

/// Refuses tools for a model whose tool calls cannot be parsed. A forced tool call can be
/// parsed from any model.
pub(super) fn check_tools(
    request: &InferRequest,
    model: &ModelRef,
    codec: &Codec,
) -> Result<(), Diagnostic> {
    check_tool_choice(request)?;
    if !request.may_call() {
        return Ok(());
    }
    if codec.tool_format().is_none() && !request.tool_choice.must_call() {
        return Err(errors::no_tool_format(model));
    }
    Ok(())
}

/// Refuses to call a tool that the request does not have, and tools without a conversation.
pub fn check_tool_choice(request: &InferRequest) -> Result<(), Diagnostic> {
    match &request.tool_choice {
        ToolChoice::Required if request.tools.is_empty() => return Err(errors::no_tools_to_call()),
        ToolChoice::Named(name) if !request.tools.iter().any(|tool| tool.name == *name) => {
            return Err(errors::unknown_tool(name));
        }
        _ => {}
    }
    if request.may_call() && !matches!(request.input, InferInput::Messages(_)) {
        return Err(errors::tools_without_messages());
    }
    Ok(())
}

pub(super) fn check_sampling(request: &InferRequest, vocab_size: u32) -> Result<(), Diagnostic> {
    for (param, values) in [
        ("sampling", &request.sampling.values),
        ("sampling_defaults", &request.sampling_defaults),
    ] {
        if let Some((name, range, value)) = values.out_of_range() {
            let param = format!("{param}.{name}");
            return Err(errors::out_of_range(&param, name, &range, value));
        }
    }
    for (id, bias) in &request.sampling.logit_bias {
        let param = "sampling.logit_bias";
        check_tokens(param, &[*id], vocab_size)?;
        check_range(param, "logit_bias", &limits::LOGIT_BIAS, *bias)?;
    }
    Ok(())
}

pub(super) fn check_range(
    param: &str,
    name: &str,
    range: &RangeInclusive<f64>,
    value: f32,
) -> Result<(), Diagnostic> {
    // The bounds are rounded as the value was. NaN is in no range.
    if (*range.start() as f32..=*range.end() as f32).contains(&value) {
        return Ok(());
    }
    Err(errors::out_of_range(param, name, range, value))
}

pub(super) fn check_stop_sequences(stops: &[String]) -> Result<(), Diagnostic> {
    if stops.len() > MAX_STOP_SEQUENCES {
        return Err(errors::too_many_stop_sequences(stops.len()));
    }
    let invalid = |stop: &&String| stop.is_empty() || stop.len() > MAX_STOP_SEQUENCE_BYTES;
    match stops.iter().find(invalid) {
        Some(stop) => Err(errors::stop_sequence_length(stop)),
        None => Ok(()),
    }
}

pub(super) fn check_tokens(param: &str, tokens: &[u32], vocab_size: u32) -> Result<(), Diagnostic> {
    match tokens.iter().find(|id| **id >= vocab_size) {
        Some(id) => Err(errors::unknown_token(param, *id, vocab_size)),
        None => Ok(()),
    }
}

/// Refuses to continue the last message where the output would not be the rest of it.
pub(super) fn check_continuation(request: &InferRequest) -> Result<(), Diagnostic> {
    if !request.continue_final_message {
        return Ok(());
    }
    let obstacle = if !matches!(request.input, InferInput::Messages(_)) {
        "the input has no messages"
    } else if request.constraint.is_some() {
        "the constraint applies to the whole answer"
    } else if request.tool_choice.must_call() {
        "the answer must be a tool call"
    } else if request.reasoning.enabled == Some(true) {
        "the model reasons before it answers"
    } else {
        return Ok(());
    };
    Err(errors::no_continuation(obstacle))
}
