//! Tokenizes the inputs of an embedding request.

use diagnostics::Diagnostic;
use serde_json::Map;
use text_codec::{Chat, Codec};
use worker_contract::InferInput;

use super::{
    ModelLimits,
    prompt::{check_input_bytes, tokenize},
};
use crate::{errors, history::FAR_TOO_LONG};

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

pub(super) fn embedding_tokens(
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
pub(super) fn truncated_embedding_tokens(
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
