//! Checks a request and tokenizes its input before the request gets a slot.

mod checks;
mod embedding;
mod prompt;

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use text_codec::Codec;
use worker_contract::{InferRequest, ReasoningOptions, SamplingValues, limits::MAX_TOP_LOGPROBS};

pub use self::{checks::check_tool_choice, prompt::split_continuation};
use self::{
    checks::{check_continuation, check_sampling, check_stop_sequences, check_tokens, check_tools},
    prompt::tokenize_prompt,
};
pub(crate) use self::{
    embedding::admit_embedding_inputs,
    prompt::{admit_tokenize, detokenize},
};
use crate::{
    errors,
    reasoning_request::{OutputReasoning, RequestedReasoning},
    sampler::SamplerSettings,
};

/// Limits that follow from the model and its KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModelLimits {
    /// Maximum length of a sequence in tokens, prompt and output together.
    pub context_length: u32,
    pub vocab_size: u32,
}

/// A request that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub prompt: Vec<u32>,
    /// Maximum number of output tokens, including `continue_from`; at least 1.
    pub max_tokens: u32,
    pub sampling: SamplerSettings,
    /// What was changed in the request or ignored, as sentences for the user.
    pub notes: Vec<String>,
    /// How reasoning is separated from the answer; `None` if all of the output is the answer.
    pub reasoning: Option<OutputReasoning>,
}

/// Checks a request to `model`, which recommends `recommended`, and tokenizes its input.
pub(crate) fn admit(
    request: &InferRequest,
    model: &ModelRef,
    codec: &Codec,
    limits: ModelLimits,
    recommended: &SamplingValues,
) -> Result<Admitted, Diagnostic> {
    if request.has_images() {
        return Err(errors::no_vision(model));
    }
    check_tools(request, model, codec)?;
    check_parameters(request, limits.vocab_size)?;
    let mut notes = Vec::new();
    if let Some(expected) = request
        .expected_context
        .filter(|n| *n > limits.context_length)
    {
        notes.push(format!(
            "the context has {} tokens, not {expected}",
            limits.context_length
        ));
    }
    // A message that has begun is an answer.
    let no_reasoning = ReasoningOptions {
        enabled: Some(false),
        ..ReasoningOptions::default()
    };
    let reasoning = RequestedReasoning::new(
        &request.input,
        if request.continue_final_message {
            &no_reasoning
        } else {
            &request.reasoning
        },
        &request.template_variables,
        model,
        codec,
        &mut notes,
    )?;
    let (prompt, reasoning) = tokenize_prompt(request, reasoning, codec, limits, &mut notes)?;
    let max_tokens = max_output_tokens(&prompt, request, limits.context_length, &mut notes)?;
    Ok(Admitted {
        prompt,
        max_tokens,
        sampling: SamplerSettings::resolve(request, recommended),
        notes,
        reasoning,
    })
}

/// Checks what does not depend on the model, except for its number of tokens.
pub fn check_parameters(request: &InferRequest, vocab_size: u32) -> Result<(), Diagnostic> {
    check_sampling(request, vocab_size)?;
    check_stop_sequences(&request.stop)?;
    check_tokens("continue_from", &request.continue_from, vocab_size)?;
    if request.max_tokens == Some(0) {
        return Err(errors::no_max_tokens());
    }
    if let Some(count) = request.logprobs.filter(|n| *n > MAX_TOP_LOGPROBS) {
        return Err(errors::too_many_logprobs(count));
    }
    check_tokens("preceding_tokens", &request.preceding_tokens, vocab_size)?;
    check_continuation(request)
}

/// Returns the maximum number of output tokens. Without `max_tokens`, or if it is only an
/// upper bound, the prompt and one token must fit the context.
pub fn max_output_tokens(
    prompt: &[u32],
    request: &InferRequest,
    context_length: u32,
    notes: &mut Vec<String>,
) -> Result<u32, Diagnostic> {
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    let room = context_length.saturating_sub(prompt_tokens);
    let max_tokens = request
        .max_tokens
        .filter(|max| !request.end_with_context || *max <= room);
    if max_tokens.unwrap_or(1) <= room {
        if let (Some(max), None) = (request.max_tokens, max_tokens) {
            notes.push(format!(
                "the output ends with the context after at most {room} tokens, not {max}"
            ));
        }
        return Ok(max_tokens.unwrap_or(room));
    }
    Err(errors::no_room_for_output(
        prompt_tokens,
        max_tokens,
        context_length,
    ))
}
