//! Checks a request and tokenizes its input before the request gets a slot.

use std::{borrow::Cow, ops::RangeInclusive};

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use serde_json::Map;
use text_codec::{Chat, Codec};
use worker_contract::{
    InferInput, InferRequest, Message, ReasoningOptions, Role, SamplingValues, TokenizeRequest,
    ToolChoice, ToolDefinition,
    limits::{self, MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES, MAX_TOP_LOGPROBS},
};

use crate::{
    errors,
    history::{self, FAR_TOO_LONG},
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
    check_sampling(request, limits.vocab_size)?;
    check_stop_sequences(&request.stop)?;
    check_tokens("continue_from", &request.continue_from, limits.vocab_size)?;
    if request.max_tokens == Some(0) {
        return Err(errors::no_max_tokens());
    }
    if let Some(count) = request.logprobs.filter(|n| *n > MAX_TOP_LOGPROBS) {
        return Err(errors::too_many_logprobs(count));
    }
    check_tokens(
        "preceding_tokens",
        &request.preceding_tokens,
        limits.vocab_size,
    )?;
    check_continuation(request)?;
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
    let max_tokens = max_output_tokens(&prompt, request, limits.context_length)?;
    Ok(Admitted {
        prompt,
        max_tokens,
        sampling: SamplerSettings::resolve(request, recommended),
        notes,
        reasoning,
    })
}

/// Tokenizes the input of a request, after the tokens that precede it.
fn tokenize_prompt(
    request: &InferRequest,
    reasoning: RequestedReasoning<'_>,
    codec: &Codec,
    limits: ModelLimits,
    notes: &mut Vec<String>,
) -> Result<(Vec<u32>, Option<OutputReasoning>), Diagnostic> {
    let chat = Chat {
        messages: &[],
        tools: rendered_tools(request, codec),
        variables: &reasoning.variables,
    };
    let (input, begun) = match (&request.input, request.continue_final_message) {
        (InferInput::Messages(messages), true) => split_continuation(messages)?,
        (input, _) => (Cow::Borrowed(input), ""),
    };
    let begun = codec.encode_continuation(begun)?;
    let mut prompt = match &*input {
        InferInput::Messages(messages) if request.drop_oldest_messages => {
            let room = limits.context_length.saturating_sub(begun.len() as u32);
            history::encode_recent(messages, chat, codec, room, notes)?
        }
        input => {
            check_input_bytes(input, codec, limits.context_length)?;
            let tokens = tokenize(input, chat, codec, limits.vocab_size, notes)?;
            after_preceding(&request.preceding_tokens, tokens, codec)?
        }
    };
    let reasoning = reasoning.output(&mut prompt, codec)?;
    prompt.extend(begun);
    Ok((prompt, reasoning))
}

/// Appends the tokens of an input to those that precede it.
fn after_preceding(
    preceding: &[u32],
    tokens: Vec<u32>,
    codec: &Codec,
) -> Result<Vec<u32>, Diagnostic> {
    if preceding.is_empty() {
        return Ok(tokens);
    }
    // The tokens that a codec adds to the beginning of a text are there already.
    let start = codec.encode("")?;
    let repeated = !start.is_empty() && preceding.starts_with(&start);
    let added = tokens.strip_prefix(&start[..]).filter(|_| repeated);
    Ok([preceding, added.unwrap_or(&tokens)].concat())
}

/// Refuses tools for a model whose tool calls cannot be parsed. A forced tool call can be
/// parsed from any model.
fn check_tools(request: &InferRequest, model: &ModelRef, codec: &Codec) -> Result<(), Diagnostic> {
    match &request.tool_choice {
        ToolChoice::Required if request.tools.is_empty() => return Err(errors::no_tools_to_call()),
        ToolChoice::Named(name) if !request.tools.iter().any(|tool| tool.name == *name) => {
            return Err(errors::unknown_tool(name));
        }
        _ => {}
    }
    if !request.may_call() {
        return Ok(());
    }
    if !matches!(request.input, InferInput::Messages(_)) {
        return Err(errors::tools_without_messages());
    }
    if codec.tool_format().is_none() && !request.tool_choice.must_call() {
        return Err(errors::no_tool_format(model));
    }
    Ok(())
}

/// Refuses to continue the last message where the output would not be the rest of it.
fn check_continuation(request: &InferRequest) -> Result<(), Diagnostic> {
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

/// Splits a conversation into the messages before the last one, and the text of that one.
fn split_continuation(messages: &[Message]) -> Result<(Cow<'_, InferInput>, &str), Diagnostic> {
    let (last, before) = messages.split_last().ok_or_else(errors::empty_input)?;
    let obstacle = if last.role != Role::Assistant {
        "it is not of the assistant"
    } else if !last.tool_calls.is_empty() {
        "it has tool calls"
    } else {
        let input = InferInput::Messages(before.to_vec());
        return Ok((Cow::Owned(input), &last.content));
    };
    Err(errors::no_continuation(obstacle))
}

/// Returns the tools to render into the prompt. A model whose chat template does not support
/// tools can still be forced to call one.
fn rendered_tools<'a>(request: &'a InferRequest, codec: &Codec) -> &'a [ToolDefinition] {
    let hidden = request.tool_choice.must_call() && !codec.supports_tools();
    if request.may_call() && !hidden {
        &request.tools
    } else {
        &[]
    }
}

/// Refuses a text that is far too long without tokenizing it, which would take time and
/// memory. A token has at most `longest_token_bytes` bytes, so the bytes of the text give a
/// lower bound for its tokens.
fn check_input_bytes(
    input: &InferInput,
    codec: &Codec,
    context_length: u32,
) -> Result<(), Diagnostic> {
    let bytes: usize = match input {
        InferInput::Prompt(text) => text.len(),
        InferInput::Messages(messages) => messages.iter().map(|m| m.content.len() + 1).sum(),
        InferInput::Tokens(_) => return Ok(()),
    };
    let least_tokens = bytes / codec.longest_token_bytes().max(1);
    if least_tokens / FAR_TOO_LONG <= context_length as usize {
        return Ok(());
    }
    Err(errors::prompt_far_too_long(least_tokens, context_length))
}

/// Tokenizes the input of `/v1/tokenize` for `model`.
pub(crate) fn admit_tokenize(
    request: &TokenizeRequest,
    model: &ModelRef,
    codec: &Codec,
    vocab_size: u32,
) -> Result<Vec<u32>, Diagnostic> {
    let TokenizeRequest { input, tools, .. } = request;
    if !tools.is_empty() && !matches!(input, InferInput::Messages(_)) {
        return Err(errors::tools_without_messages());
    }
    let notes = &mut Vec::new();
    let reasoning = RequestedReasoning::new(
        input,
        &request.reasoning,
        &request.template_variables,
        model,
        codec,
        notes,
    )?;
    let chat = Chat {
        messages: &[],
        tools,
        variables: &reasoning.variables,
    };
    let mut tokens = tokenize(input, chat, codec, vocab_size, notes)?;
    reasoning.output(&mut tokens, codec)?;
    Ok(tokens)
}

/// Tokenizes an input; messages become those of `chat`.
fn tokenize(
    input: &InferInput,
    chat: Chat<'_>,
    codec: &Codec,
    vocab_size: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>, Diagnostic> {
    let tokens = match input {
        InferInput::Prompt(text) => codec.encode(text)?,
        InferInput::Messages(messages) if messages.is_empty() => Vec::new(),
        InferInput::Messages(messages) => {
            codec.encode_conversation(&Chat { messages, ..chat }, notes)?
        }
        InferInput::Tokens(tokens) => {
            check_tokens("input", tokens, vocab_size)?;
            tokens.clone()
        }
    };
    if tokens.is_empty() {
        return Err(errors::empty_input());
    }
    Ok(tokens)
}

/// Converts tokens to text. Tokens outside the vocabulary are refused.
pub(crate) fn detokenize(
    tokens: &[u32],
    codec: &Codec,
    vocab_size: u32,
) -> Result<String, Diagnostic> {
    check_tokens("tokens", tokens, vocab_size)?;
    Ok(codec.decode(tokens))
}

/// Tokenizes the inputs of an embedding request. An input that exceeds the context length is
/// truncated if `truncate` is set and refused otherwise.
pub(crate) fn admit_embedding_inputs(
    inputs: &[InferInput],
    truncate: bool,
    codec: &Codec,
    limits: ModelLimits,
) -> Result<Vec<Vec<u32>>, Diagnostic> {
    if inputs.is_empty() {
        return Err(errors::no_inputs());
    }
    let context_length = limits.context_length;
    let admit_input = |input: &InferInput| {
        let tokens = if truncate {
            truncated_embedding_tokens(input, codec, limits)?
        } else {
            check_input_bytes(input, codec, context_length)?;
            embedding_tokens(input, codec, limits.vocab_size)?
        };
        if tokens.len() > context_length as usize {
            let count = tokens.len();
            return Err(errors::embedding_input_too_long(count, context_length));
        }
        Ok(tokens)
    };
    inputs.iter().map(admit_input).collect()
}

fn embedding_tokens(
    input: &InferInput,
    codec: &Codec,
    vocab_size: u32,
) -> Result<Vec<u32>, Diagnostic> {
    let chat = Chat {
        messages: &[],
        tools: &[],
        variables: &Map::new(),
    };
    let mut tokens = tokenize(input, chat, codec, vocab_size, &mut Vec::new())?;
    if let InferInput::Prompt(_) = input {
        codec.append_end_token(&mut tokens);
    }
    Ok(tokens)
}

/// Tokenizes an input and keeps as many tokens as fit the context. The end token of a text is
/// kept. Of a text that is far too long, only as much is tokenized as could fit.
fn truncated_embedding_tokens(
    input: &InferInput,
    codec: &Codec,
    limits: ModelLimits,
) -> Result<Vec<u32>, Diagnostic> {
    let context_length = limits.context_length as usize;
    let InferInput::Prompt(text) = input else {
        let mut tokens = embedding_tokens(input, codec, limits.vocab_size)?;
        tokens.truncate(context_length);
        return Ok(tokens);
    };
    let max_bytes = codec
        .longest_token_bytes()
        .max(1)
        .saturating_mul(FAR_TOO_LONG)
        .saturating_mul(context_length);
    let start = InferInput::Prompt(text[..text.floor_char_boundary(max_bytes)].to_owned());
    let mut tokens = embedding_tokens(&start, codec, limits.vocab_size)?;
    codec.truncate(&mut tokens, context_length);
    Ok(tokens)
}

/// Returns the maximum number of output tokens. Without `max_tokens`, or if it is only an
/// upper bound, the prompt and one token must fit the context.
fn max_output_tokens(
    prompt: &[u32],
    request: &InferRequest,
    context_length: u32,
) -> Result<u32, Diagnostic> {
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    let room = context_length.saturating_sub(prompt_tokens);
    let max_tokens = request
        .max_tokens
        .filter(|max| !request.end_with_context || *max <= room);
    if max_tokens.unwrap_or(1) <= room {
        return Ok(max_tokens.unwrap_or(room));
    }
    Err(errors::no_room_for_output(
        prompt_tokens,
        max_tokens,
        context_length,
    ))
}

fn check_sampling(request: &InferRequest, vocab_size: u32) -> Result<(), Diagnostic> {
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

fn check_range(
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

fn check_stop_sequences(stops: &[String]) -> Result<(), Diagnostic> {
    if stops.len() > MAX_STOP_SEQUENCES {
        return Err(errors::too_many_stop_sequences(stops.len()));
    }
    let invalid = |stop: &&String| stop.is_empty() || stop.len() > MAX_STOP_SEQUENCE_BYTES;
    match stops.iter().find(invalid) {
        Some(stop) => Err(errors::stop_sequence_length(stop)),
        None => Ok(()),
    }
}

fn check_tokens(param: &str, tokens: &[u32], vocab_size: u32) -> Result<(), Diagnostic> {
    match tokens.iter().find(|id| **id >= vocab_size) {
        Some(id) => Err(errors::unknown_token(param, *id, vocab_size)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diagnostics::Code;

    fn request(change: impl FnOnce(&mut InferRequest)) -> InferRequest {
        let mut request = InferRequest {
            max_tokens: Some(4),
            ..InferRequest::new("r".parse().unwrap(), InferInput::Prompt("hello".into()))
        };
        change(&mut request);
        request
    }

    fn try_admit(change: impl FnOnce(&mut InferRequest)) -> Result<Admitted, Diagnostic> {
        let limits = ModelLimits {
            context_length: 16,
            vocab_size: 257,
        };
        let model = "mock:a".parse().unwrap();
        let recommended = SamplingValues::default();
        admit(
            &request(change),
            &model,
            &Codec::byte_level(),
            limits,
            &recommended,
        )
    }

    #[test]
    fn names_the_invalid_field() {
        type Change = fn(&mut InferRequest);
        let cases: [(Change, &str); 22] = [
            (|r| r.tool_choice = ToolChoice::Required, "tool_choice"),
            (
                |r| r.tool_choice = ToolChoice::Named("f".into()),
                "tool_choice",
            ),
            (|r| r.max_tokens = Some(0), "max_tokens"),
            (|r| r.logprobs = Some(MAX_TOP_LOGPROBS + 1), "logprobs"),
            (|r| r.input = InferInput::Prompt(String::new()), "input"),
            (|r| r.input = InferInput::Messages(vec![]), "input"),
            (|r| r.input = InferInput::Tokens(vec![]), "input"),
            (|r| r.input = InferInput::Tokens(vec![257]), "input"),
            (|r| r.continue_from = vec![257], "continue_from"),
            (|r| r.stop = vec![String::new()], "stop"),
            (
                |r| r.stop = vec!["x".repeat(MAX_STOP_SEQUENCE_BYTES + 1)],
                "stop",
            ),
            (
                |r| r.stop = vec!["x".into(); MAX_STOP_SEQUENCES + 1],
                "stop",
            ),
            (
                |r| r.sampling.values.temperature = Some(-0.1),
                "sampling.temperature",
            ),
            (
                |r| r.sampling.values.temperature = Some(f32::NAN),
                "sampling.temperature",
            ),
            (
                |r| r.sampling.values.temperature = Some(f32::INFINITY),
                "sampling.temperature",
            ),
            (|r| r.sampling.values.top_p = Some(1.1), "sampling.top_p"),
            (|r| r.sampling.values.min_p = Some(-0.1), "sampling.min_p"),
            (
                |r| r.sampling.values.repetition_penalty = Some(0.0),
                "sampling.repetition_penalty",
            ),
            (
                |r| r.sampling.values.presence_penalty = Some(2.1),
                "sampling.presence_penalty",
            ),
            (
                |r| r.sampling_defaults.top_p = Some(2.0),
                "sampling_defaults.top_p",
            ),
            (
                |r| r.sampling.logit_bias = vec![(257, 1.0)],
                "sampling.logit_bias",
            ),
            (
                |r| r.sampling.logit_bias = vec![(1, f32::NAN)],
                "sampling.logit_bias",
            ),
        ];
        for (index, (change, param)) in cases.into_iter().enumerate() {
            let error = try_admit(change).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest, "case {index}: {error}");
            assert_eq!(error.param.as_deref(), Some(param), "case {index}: {error}");
        }
    }

    #[test]
    fn accepts_values_at_their_limits() {
        let at_limits = try_admit(|r| {
            r.stop = vec!["x".repeat(MAX_STOP_SEQUENCE_BYTES); MAX_STOP_SEQUENCES];
            r.logprobs = Some(MAX_TOP_LOGPROBS);
            r.sampling.values.repetition_penalty = Some(0.01);
            r.sampling.logit_bias = vec![(256, 100.0)];
        });
        assert_eq!(at_limits.unwrap().max_tokens, 4);
    }

    #[test]
    fn refuses_far_too_long_prompt_without_tokenizing_it() {
        // No token has more than 7 bytes, so these are at least 143.
        let error = try_admit(|r| r.input = InferInput::Prompt("x".repeat(1001))).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert_eq!(
            error.message,
            "the prompt has at least 143 tokens, but the context length is 16"
        );
    }

    #[test]
    fn reports_tokens_and_context_length_when_the_output_does_not_fit() {
        let error = try_admit(|r| r.max_tokens = Some(12)).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert_eq!(
            error.message,
            "the prompt has 5 tokens and max_tokens is 12, together 17, but the context length is 16"
        );
        assert_eq!(
            error.hint.as_deref(),
            Some("shorten the prompt or lower `max_tokens`")
        );
        assert_eq!(
            try_admit(|r| r.max_tokens = Some(11)).unwrap().max_tokens,
            11
        );
        assert_eq!(try_admit(|r| r.max_tokens = None).unwrap().max_tokens, 11);
        let sixteen = |r: &mut InferRequest| {
            r.max_tokens = None;
            r.input = InferInput::Prompt("0123456789abcdef".into());
        };
        let error = try_admit(sixteen).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert_eq!(error.hint.as_deref(), Some("shorten the prompt"));
        let error = try_admit(|r| r.max_tokens = Some(u32::MAX)).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
    }

    #[test]
    fn upper_bound_is_lowered_to_the_remaining_context() {
        let bound = |max: u32, prompt: &str| {
            try_admit(|r| {
                r.max_tokens = Some(max);
                r.end_with_context = true;
                r.input = InferInput::Prompt(prompt.into());
            })
        };
        for (max, admitted) in [(10, 10), (11, 11), (12, 11), (u32::MAX, 11)] {
            assert_eq!(bound(max, "hello").unwrap().max_tokens, admitted);
        }
        assert_eq!(bound(4096, "0123456789abcde").unwrap().max_tokens, 1);
        for prompt in ["0123456789abcdef", "0123456789abcdefg"] {
            let error = bound(4096, prompt).unwrap_err();
            assert_eq!(error.code, Code::ContextLengthExceeded);
            assert_eq!(error.param.as_deref(), Some("input"));
        }
        assert_eq!(bound(0, "hello").unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn preceding_tokens_come_before_the_input() {
        let admitted = try_admit(|r| r.preceding_tokens = vec![104, 256]).unwrap();
        let hello = b"hello".map(u32::from);
        assert_eq!(admitted.prompt, [&[104, 256][..], &hello].concat());
        let error = try_admit(|r| r.preceding_tokens = vec![257]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("preceding_tokens"));
    }

    #[test]
    fn the_last_message_is_continued() {
        let begun = |r: &mut InferRequest| {
            r.continue_final_message = true;
            r.input = InferInput::Messages(vec![
                Message::new(Role::User, "a"),
                Message::new(Role::Assistant, "Once "),
            ]);
        };
        let codec = Codec::byte_level();
        let prompt = |edit: &dyn Fn(&mut InferRequest)| {
            let input = InferInput::Tokens(Vec::new());
            let mut request = InferRequest::new("r".parse().unwrap(), input);
            edit(&mut request);
            let limits = ModelLimits {
                context_length: 200,
                vocab_size: 257,
            };
            let model = "mock:a".parse().unwrap();
            let recommended = SamplingValues::default();
            admit(&request, &model, &codec, limits, &recommended).map(|a| codec.decode(&a.prompt))
        };
        assert_eq!(prompt(&begun).unwrap(), "user: a\nassistant: Once ");
        let refused = |edit: &dyn Fn(&mut InferRequest)| {
            let error = prompt(&|r| {
                begun(r);
                edit(r);
            });
            let error = error.unwrap_err();
            assert_eq!(error.param.as_deref(), Some("continue_final_message"));
            error.message
        };
        let with_last = |last: Message| {
            refused(&|r| {
                r.input = InferInput::Messages(vec![Message::new(Role::User, "a"), last.clone()]);
            })
        };
        assert_eq!(
            with_last(Message::new(Role::User, "b")),
            "the last message cannot be continued: it is not of the assistant"
        );
        refused(&|r| r.constraint = Some(worker_contract::Constraint::JsonObject));
        refused(&|r| r.input = InferInput::Prompt("x".into()));
        refused(&|r| r.reasoning.enabled = Some(true));
    }

    #[test]
    fn messages_are_rendered_by_the_chat_template() {
        let chat = |r: &mut InferRequest| {
            r.max_tokens = None;
            r.input = InferInput::Messages(vec![Message::new(Role::User, "")]);
        };
        // The text that the template adds exceeds the context.
        assert_eq!(
            try_admit(chat).unwrap_err().code,
            Code::ContextLengthExceeded
        );
    }
}
