//! Tokenizes the input of a request.

use std::borrow::Cow;

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use text_codec::{Chat, Codec};
use worker_contract::{InferInput, InferRequest, Message, Role, TokenizeRequest, ToolDefinition};

use super::{ModelLimits, checks::check_tokens};
use crate::{
    errors,
    history::{self, FAR_TOO_LONG},
    reasoning_request::{OutputReasoning, RequestedReasoning},
};

/// Tokenizes the input of a request, after the tokens that precede it.
pub(super) fn tokenize_prompt(
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
pub(super) fn after_preceding(
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

/// Splits a conversation into the messages before the last one, and the text of that one.
pub fn split_continuation(messages: &[Message]) -> Result<(Cow<'_, InferInput>, &str), Diagnostic> {
    let (last, before) = messages.split_last().ok_or_else(errors::no_messages)?;
    let obstacle = if last.role != Role::Assistant {
        "it is not of the assistant"
    } else if !last.tool_calls.is_empty() {
        "it has tool calls"
    } else if before.is_empty() {
        return Err(errors::nothing_to_answer());
    } else {
        let input = InferInput::Messages(before.to_vec());
        return Ok((Cow::Owned(input), &last.content));
    };
    Err(errors::no_continuation(obstacle))
}

/// Returns the tools to render into the prompt. A model whose chat template does not support
/// tools can still be forced to call one.
pub(super) fn rendered_tools<'a>(request: &'a InferRequest, codec: &Codec) -> &'a [ToolDefinition] {
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
pub(super) fn check_input_bytes(
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

/// Tokenizes an input; messages become those of `chat`.
pub(super) fn tokenize(
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
        return Err(errors::empty_input(input));
    }
    Ok(tokens)
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

/// Converts tokens to text. Tokens outside the vocabulary are refused.
pub(crate) fn detokenize(
    tokens: &[u32],
    codec: &Codec,
    vocab_size: u32,
) -> Result<String, Diagnostic> {
    check_tokens("tokens", tokens, vocab_size)?;
    Ok(codec.decode(tokens))
}
