//! The errors of this crate, each with its message and hint.

use std::fmt::Display;

use diagnostics::{Code, Diagnostic, excerpt};

const MAX_REASON_CHARS: usize = 300;
const MAX_NAME_CHARS: usize = 80;

/// A damaged or inconsistent tokenizer, such as one that the `tokenizers` crate rejects.
pub(crate) fn invalid_tokenizer(reason: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "invalid tokenizer: {}",
            excerpt(&reason.to_string(), MAX_REASON_CHARS)
        ),
    )
    .hint("download the model again; if the error persists, its tokenizer is faulty")
}

pub(crate) fn not_utf8() -> Diagnostic {
    invalid_tokenizer("not UTF-8")
}

pub(crate) fn json_error(error: &serde_json::Error) -> Diagnostic {
    invalid_tokenizer(format!("cannot parse JSON: {error}"))
}

pub(crate) fn token_id_too_large(id: u32, limit: u32) -> Diagnostic {
    invalid_tokenizer(format!(
        "the largest token id is {id}, the limit is {limit}"
    ))
}

pub(crate) fn vocabulary_exceeds_model(tokens: usize, model_tokens: usize) -> Diagnostic {
    invalid_tokenizer(format!("{tokens} tokens, but the model has {model_tokens}"))
}

/// `kind` is `begin` or `end`; `owner` has `tokens` tokens.
pub(crate) fn special_token_out_of_range(
    kind: &str,
    id: u32,
    owner: &str,
    tokens: usize,
) -> Diagnostic {
    invalid_tokenizer(format!(
        "the {kind} token is {id}, but the {owner} has {tokens} tokens"
    ))
}

/// `values` are one per token: `types` or `scores`.
pub(crate) fn count_mismatch(tokens: usize, count: usize, values: &str) -> Diagnostic {
    invalid_tokenizer(format!("{tokens} tokens, but {count} {values}"))
}

pub(crate) fn merge_without_token(merge: &str) -> Diagnostic {
    invalid_tokenizer(format!(
        "the result of merge `{}` is not a token",
        excerpt(merge, MAX_NAME_CHARS)
    ))
}

pub(crate) fn merge_too_long(bytes: usize, longest: usize) -> Diagnostic {
    invalid_tokenizer(format!(
        "a merge results in {bytes} bytes, but the longest token has {longest}"
    ))
}

pub(crate) fn post_processor_token_out_of_range(id: u32, tokens: usize) -> Diagnostic {
    invalid_tokenizer(format!(
        "the post-processor adds token {id}, but the vocabulary has {tokens} tokens"
    ))
}

pub(crate) fn post_processor_needs_pair() -> Diagnostic {
    invalid_tokenizer("the post-processor template for one text refers to a second text")
}

pub(crate) fn post_processor_token_undefined(name: &str) -> Diagnostic {
    invalid_tokenizer(format!(
        "the post-processor adds the undefined token `{}`",
        excerpt(name, MAX_NAME_CHARS)
    ))
}

pub(crate) fn post_processor_ids_mismatch() -> Diagnostic {
    invalid_tokenizer("a token of the post-processor has a different number of ids and names")
}

/// `component` is the part of the tokenizer that is of the unknown kind `found`.
pub(crate) fn unsupported(component: &str, found: &str, supported: &[&str]) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!(
            "{component} `{}` is not supported",
            excerpt(found, MAX_NAME_CHARS)
        ),
    )
    .hint(format!(
        "use a model whose {component} is one of: {}",
        supported.join(", ")
    ))
}

pub(crate) fn not_tokenizable(error: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "the text cannot be tokenized: {}",
            excerpt(&error.to_string(), MAX_REASON_CHARS)
        ),
    )
    .hint("shorten the text, especially long runs of spaces")
}

/// The request spells a control token and contains every character that could mark that.
pub(crate) fn no_free_mark() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        "the messages spell a control token and contain all 32 noncharacters U+FDD0 to U+FDEF",
    )
    .hint("remove the noncharacters, which have no meaning in text")
    .param("messages")
}

pub(crate) fn no_chat_template() -> Diagnostic {
    Diagnostic::new(Code::NoChatTemplate, "the model has no chat template")
        .hint("send a plain prompt (`/v1/completions`), or use an instruction-tuned model")
        .param("messages")
}

/// `param` is the request field that contains tools, tool calls or tool results.
pub(crate) fn no_tool_support(param: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        "the model's chat template does not support tools",
    )
    .hint("remove the tools and the tool messages, or use a model trained for tool calling")
    .param(param)
}

/// The template called `raise_exception`.
pub(crate) fn messages_rejected(reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "the model's chat template rejected the messages: {}",
            excerpt(reason, MAX_REASON_CHARS)
        ),
    )
    .hint("change the message roles or their order to what the template expects")
    .param("messages")
}

pub(crate) fn template_failed(reason: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "the model's chat template failed: {}",
            excerpt(&reason.to_string(), MAX_REASON_CHARS)
        ),
    )
    .hint("send a plain prompt instead of messages, or use a model with a working template")
}
