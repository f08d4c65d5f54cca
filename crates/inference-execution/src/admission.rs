//! Which requests are taken: everything that can be checked before a slot is used.

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::ModelRef;
use text_codec::Codec;
use worker_contract::{InferInput, InferRequest, Sampling, ToolChoice, ToolDefinition};

/// Most stop texts of a request.
pub const MAX_STOPS: usize = 16;
/// Longest stop text, in bytes.
pub const MAX_STOP_BYTES: usize = 512;
/// Most alternatives reported at each position.
pub const MAX_LOGPROBS: u8 = 20;

/// What a request may use, given the model and its KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest prompt plus answer, in tokens.
    pub context_length: u32,
    /// Ids below this exist.
    pub vocab_size: u32,
}

/// A request that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer, `continue_from` included; at least 1.
    pub max_tokens: u32,
}

/// Checks a request to `model` and encodes its input.
pub fn admit(
    request: &InferRequest,
    model: &ModelRef,
    codec: &Codec,
    limits: Limits,
) -> Result<Admitted, Diagnostic> {
    check_tools(request, model, codec)?;
    check_sampling(&request.sampling, limits.vocab_size)?;
    check_stops(&request.stop)?;
    check_ids(&request.continue_from, limits.vocab_size, "continue_from")?;
    if request.max_tokens == Some(0) {
        return Err(invalid("max_tokens", "max_tokens must be at least 1, is 0"));
    }
    if let Some(n) = request.logprobs.filter(|n| *n > MAX_LOGPROBS) {
        let message = format!("logprobs must be at most {MAX_LOGPROBS}, is {n}");
        return Err(invalid("logprobs", message));
    }
    refuse_far_too_long(&request.input, codec, limits.context_length)?;
    let tools = shown(request, codec);
    let prompt = encode(&request.input, tools, codec, limits.vocab_size)?;
    let max_tokens = fit(&prompt, request, limits.context_length)?;
    Ok(Admitted { prompt, max_tokens })
}

/// Tools are only shown to a model whose calls can be read. A call that is forced can be read
/// from any model.
fn check_tools(request: &InferRequest, model: &ModelRef, codec: &Codec) -> Result<(), Diagnostic> {
    match &request.tool_choice {
        ToolChoice::Required if request.tools.is_empty() => {
            return Err(invalid(
                "tool_choice",
                "tool_choice asks for a call, and there are no tools",
            ));
        }
        ToolChoice::Named(name) if !request.tools.iter().any(|tool| tool.name == *name) => {
            let message = format!(
                "tool_choice names \"{}\", which is none of the tools",
                excerpt(name, 80)
            );
            return Err(invalid("tool_choice", message));
        }
        _ => {}
    }
    if !request.may_call() {
        return Ok(());
    }
    if !matches!(request.input, InferInput::Messages(_)) {
        return Err(invalid(
            "tools",
            "tools go with messages, not with a prompt",
        ));
    }
    if codec.tool_style().is_none() && !request.tool_choice.must_call() {
        return Err(Diagnostic::new(
            Code::UnsupportedParameter,
            format!("the model {model} does not call tools in a way that is known here"),
        )
        .param("tools")
        .hint("leave `tools` out, or use a model that was trained with tools: Llama 3.1 and later, Qwen 2.5 and 3, Hermes, Mistral"));
    }
    Ok(())
}

/// The tools that the model is told of. One without a place for them can still be made to
/// call one.
fn shown<'a>(request: &'a InferRequest, codec: &Codec) -> &'a [ToolDefinition] {
    let hidden = request.tool_choice.must_call() && !codec.supports_tools();
    if request.may_call() && !hidden {
        &request.tools
    } else {
        &[]
    }
}

/// How many times over the context a text is refused without being encoded.
const FAR: usize = 4;

/// Encoding takes time and memory, and no token stands for more bytes than the longest: a
/// text that is far too long for that reason alone is refused before. Not one that is merely
/// too long, since a chat template may leave out part of it.
fn refuse_far_too_long(
    input: &InferInput,
    codec: &Codec,
    context_length: u32,
) -> Result<(), Diagnostic> {
    let bytes: usize = match input {
        InferInput::Prompt(text) => text.len(),
        InferInput::Messages(messages) => messages.iter().map(|m| m.content.len() + 1).sum(),
        InferInput::Tokens(_) => return Ok(()),
    };
    let least = bytes / codec.longest_token_bytes().max(1);
    if least / FAR <= context_length as usize {
        return Ok(());
    }
    Err(Diagnostic::new(
        Code::ContextLengthExceeded,
        format!("the prompt has at least {least} tokens, the context has {context_length}"),
    )
    .hint("shorten the prompt")
    .param("input")
    .detail("prompt_tokens", least)
    .detail("context_length", context_length))
}

/// The tokens of an input with the tools that are shown; an input without tokens is refused.
pub fn encode(
    input: &InferInput,
    tools: &[ToolDefinition],
    codec: &Codec,
    vocab_size: u32,
) -> Result<Vec<u32>, Diagnostic> {
    let tokens = match input {
        InferInput::Prompt(text) => codec.encode(text)?,
        InferInput::Messages(messages) if messages.is_empty() => Vec::new(),
        InferInput::Messages(messages) => codec.encode_chat(messages, tools)?,
        InferInput::Tokens(tokens) => {
            check_ids(tokens, vocab_size, "input")?;
            tokens.clone()
        }
    };
    if tokens.is_empty() {
        return Err(invalid("input", "the input is empty")
            .hint("give at least one message, character or token"));
    }
    Ok(tokens)
}

/// The text of tokens; one that the model does not have is refused.
pub fn decode(tokens: &[u32], codec: &Codec, vocab_size: u32) -> Result<String, Diagnostic> {
    check_ids(tokens, vocab_size, "tokens")?;
    Ok(codec.decode(tokens))
}

/// The tokens of inputs that become vectors, each of which must fit the context or is cut to
/// its beginning.
pub fn admit_texts(
    inputs: &[InferInput],
    truncate: bool,
    codec: &Codec,
    limits: Limits,
) -> Result<Vec<Vec<u32>>, Diagnostic> {
    if inputs.is_empty() {
        return Err(invalid("inputs", "there is nothing to embed"));
    }
    let context = limits.context_length;
    let admit = |input: &InferInput| {
        let tokens = if truncate {
            beginning(input, codec, limits)?
        } else {
            refuse_far_too_long(input, codec, context)?;
            whole(input, codec, limits.vocab_size)?
        };
        if tokens.len() > context as usize {
            let message = format!(
                "an input has {} tokens, the context {context}",
                tokens.len()
            );
            return Err(Diagnostic::new(Code::ContextLengthExceeded, message)
                .hint("cut the text into shorter pieces")
                .param("input")
                .detail("prompt_tokens", tokens.len())
                .detail("context_length", context));
        }
        Ok(tokens)
    };
    inputs.iter().map(admit).collect()
}

/// All tokens of an input that becomes a vector.
fn whole(input: &InferInput, codec: &Codec, vocab_size: u32) -> Result<Vec<u32>, Diagnostic> {
    let mut tokens = encode(input, &[], codec, vocab_size)?;
    if let InferInput::Prompt(_) = input {
        codec.append_end_token(&mut tokens);
    }
    Ok(tokens)
}

/// As many of them as fit the context. The model's end token stays behind those of a text,
/// and of one that is far too long only so much is encoded as could fit.
fn beginning(input: &InferInput, codec: &Codec, limits: Limits) -> Result<Vec<u32>, Diagnostic> {
    let context = limits.context_length as usize;
    let InferInput::Prompt(text) = input else {
        let mut tokens = whole(input, codec, limits.vocab_size)?;
        tokens.truncate(context);
        return Ok(tokens);
    };
    let most = codec
        .longest_token_bytes()
        .max(1)
        .saturating_mul(FAR)
        .saturating_mul(context);
    let enough = InferInput::Prompt(text[..text.floor_char_boundary(most)].to_owned());
    let mut tokens = whole(&enough, codec, limits.vocab_size)?;
    codec.truncate(&mut tokens, context);
    Ok(tokens)
}

/// How long the answer may become. Without `max_tokens`, or where it is a bound only, the
/// prompt and one token must fit.
fn fit(prompt: &[u32], request: &InferRequest, context_length: u32) -> Result<u32, Diagnostic> {
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    let room = context_length.saturating_sub(prompt_tokens);
    let max_tokens = request
        .max_tokens
        .filter(|max| !request.end_with_context || *max <= room);
    let wanted = max_tokens.unwrap_or(1);
    if wanted <= room {
        return Ok(max_tokens.unwrap_or(room));
    }
    let message = match max_tokens {
        Some(max) => format!(
            "the prompt of {prompt_tokens} tokens and max_tokens {max} are {} tokens, the context has {context_length}",
            u64::from(prompt_tokens) + u64::from(max)
        ),
        None => format!(
            "the prompt of {prompt_tokens} tokens leaves no room for an answer, the context has {context_length}"
        ),
    };
    let (param, hint) = if prompt_tokens < context_length {
        ("max_tokens", "shorten the prompt, or ask for fewer tokens")
    } else {
        ("input", "shorten the prompt")
    };
    Err(Diagnostic::new(Code::ContextLengthExceeded, message)
        .hint(hint)
        .param(param)
        .detail("prompt_tokens", prompt_tokens)
        .detail("max_tokens", wanted)
        .detail("context_length", context_length))
}

fn check_sampling(sampling: &Sampling, vocab_size: u32) -> Result<(), Diagnostic> {
    for (name, value, least, most) in [
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 0.0, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        (
            "repetition_penalty",
            sampling.repetition_penalty,
            0.01,
            100.0,
        ),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
    ] {
        // A value that is not a number is in no range.
        if !(least..=most).contains(&value) {
            let message = format!("{name} must be from {least} to {most}, is {value}");
            return Err(invalid(&format!("sampling.{name}"), message));
        }
    }
    for (id, bias) in &sampling.logit_bias {
        if *id >= vocab_size {
            let message = format!("logit_bias names token {id}, the model has {vocab_size}");
            return Err(invalid("sampling.logit_bias", message));
        }
        if !(-100.0..=100.0).contains(bias) {
            let message = format!("logit_bias must be from -100 to 100, is {bias}");
            return Err(invalid("sampling.logit_bias", message));
        }
    }
    Ok(())
}

fn check_stops(stops: &[String]) -> Result<(), Diagnostic> {
    if stops.len() > MAX_STOPS {
        let message = format!(
            "at most {MAX_STOPS} stop texts are possible, there are {}",
            stops.len()
        );
        return Err(invalid("stop", message));
    }
    for stop in stops {
        if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
            let message = format!(
                "a stop text must have 1 to {MAX_STOP_BYTES} bytes, \"{}\" has {}",
                excerpt(stop, 40),
                stop.len()
            );
            return Err(invalid("stop", message));
        }
    }
    Ok(())
}

fn check_ids(tokens: &[u32], vocab_size: u32, param: &str) -> Result<(), Diagnostic> {
    match tokens.iter().find(|id| **id >= vocab_size) {
        Some(id) => Err(invalid(
            param,
            format!("{param} has token {id}, the model's are below {vocab_size}"),
        )),
        None => Ok(()),
    }
}

fn invalid(param: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, message).param(param)
}

#[cfg(test)]
mod tests {
    use worker_contract::{Message, Role};

    use super::*;

    fn request(change: impl FnOnce(&mut InferRequest)) -> InferRequest {
        let mut request = InferRequest {
            max_tokens: Some(4),
            ..InferRequest::new("r".parse().unwrap(), InferInput::Prompt("hello".into()))
        };
        change(&mut request);
        request
    }

    fn try_admit(change: impl FnOnce(&mut InferRequest)) -> Result<Admitted, Diagnostic> {
        let limits = Limits {
            context_length: 16,
            vocab_size: 257,
        };
        let model = "mock:a".parse().unwrap();
        admit(&request(change), &model, &Codec::byte_level(), limits)
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut InferRequest);
        let cases: [(Change, &str); 21] = [
            (|r| r.tool_choice = ToolChoice::Required, "tool_choice"),
            (
                |r| r.tool_choice = ToolChoice::Named("f".into()),
                "tool_choice",
            ),
            (|r| r.max_tokens = Some(0), "max_tokens"),
            (|r| r.logprobs = Some(21), "logprobs"),
            (|r| r.input = InferInput::Prompt(String::new()), "input"),
            (|r| r.input = InferInput::Messages(vec![]), "input"),
            (|r| r.input = InferInput::Tokens(vec![]), "input"),
            (|r| r.input = InferInput::Tokens(vec![257]), "input"),
            (|r| r.continue_from = vec![257], "continue_from"),
            (|r| r.stop = vec![String::new()], "stop"),
            (|r| r.stop = vec!["x".repeat(513)], "stop"),
            (|r| r.stop = vec!["x".into(); 17], "stop"),
            (|r| r.sampling.temperature = -0.1, "sampling.temperature"),
            (
                |r| r.sampling.temperature = f32::NAN,
                "sampling.temperature",
            ),
            (
                |r| r.sampling.temperature = f32::INFINITY,
                "sampling.temperature",
            ),
            (|r| r.sampling.top_p = 1.1, "sampling.top_p"),
            (|r| r.sampling.min_p = -0.1, "sampling.min_p"),
            (
                |r| r.sampling.repetition_penalty = 0.0,
                "sampling.repetition_penalty",
            ),
            (
                |r| r.sampling.presence_penalty = 2.1,
                "sampling.presence_penalty",
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
    fn what_is_far_too_long_is_refused_without_being_encoded() {
        // No token has more than 7 bytes, so these are at least 143.
        let error = try_admit(|r| r.input = InferInput::Prompt("x".repeat(1001))).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert!(error.message.contains("at least 143"), "{error}");
        assert!(error.message.contains("16"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() {
        let error = try_admit(|r| r.max_tokens = Some(12)).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert!(
            error.message.contains("17") && error.message.contains("16"),
            "{error}"
        );
        assert_eq!(
            error.hint.as_deref(),
            Some("shorten the prompt, or ask for fewer tokens")
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
        assert!(try_admit(|r| r.max_tokens = Some(u32::MAX)).is_err());
    }

    #[test]
    fn a_bound_above_the_room_is_the_room() {
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
    fn a_conversation_goes_through_the_template() {
        let chat = |r: &mut InferRequest| {
            r.max_tokens = None;
            r.input = InferInput::Messages(vec![Message::new(Role::User, "")]);
        };
        // Longer than the context by the template's own text.
        assert_eq!(
            try_admit(chat).unwrap_err().code,
            Code::ContextLengthExceeded
        );
    }
}
