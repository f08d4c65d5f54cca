use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, InferRequest};

use super::{
    common::{OpenAiCommonFields, ResponseParts},
    constraint,
    endpoint::OpenAiEndpoint,
    schemas::{CompletionPrompt, UnsupportedBestOf, UnsupportedEcho},
    unsupported::refuse_unsupported,
};
use crate::{
    errors::{empty, must_be_a, out_of_range},
    field_names::{self, FieldNames},
    fields::{integer, max_tokens, read},
    parsed_request::{ParsedRequest, RequestContext},
    schemas::UnsupportedString,
};

/// OpenAI's own default.
const DEFAULT_MAX_TOKENS: u32 = 16;
/// Maximum number of alternatives in log probabilities.
const MAX_LOGPROBS: u8 = 5;

/// Body of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct CompletionRequest {
    #[serde(flatten)]
    pub common: OpenAiCommonFields,
    #[serde(flatten)]
    pub completion: CompletionFields,
}

/// Fields of text completions only.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct CompletionFields {
    /// String, array of token ids, or array of such prompts. With several prompts, the choices
    /// of each follow those of the one before; at most 128 in all.
    #[schema(value_type = CompletionPrompt)]
    pub prompt: Value,
    /// Reports the log probability of each output token and of this many most likely tokens at
    /// its position, 0 to 5. Absent: no log probabilities.
    #[schema(minimum = 0, maximum = 5)]
    #[serde(default, deserialize_with = "integer")]
    pub logprobs: Option<i64>,
    /// Not supported: null or 1.
    #[schema(value_type = Option<UnsupportedBestOf>)]
    pub best_of: Option<Value>,
    /// Not supported: null or false.
    #[schema(value_type = Option<UnsupportedEcho>)]
    pub echo: Option<Value>,
    /// Not supported: null or an empty string.
    #[schema(value_type = Option<UnsupportedString>)]
    pub suffix: Option<Value>,
}

pub(super) fn parse(body: &Value, context: &RequestContext) -> Result<ParsedRequest, Diagnostic> {
    let common: OpenAiCommonFields = read(body)?;
    let completion: CompletionFields = read(body)?;
    refuse_unsupported(OpenAiEndpoint::Completions, body)?;
    let constrained = constraint::parse(body)?;
    let include_usage = common.include_usage()?;
    let (input, further_inputs) = prompts(&completion.prompt)?;
    // As in OpenAI's API, 0 generates nothing.
    let only_prompt = common.max_tokens == Some(0);
    let request = InferRequest {
        max_tokens: match common.max_tokens {
            None => Some(DEFAULT_MAX_TOKENS),
            Some(0) => Some(1),
            Some(n) => max_tokens("max_tokens", n)?,
        },
        end_with_context: true,
        sampling: common.sampling()?,
        constraint: constrained.constraint,
        stop: common.stop()?,
        logprobs: logprobs(completion.logprobs)?,
        ..InferRequest::new(context.request_id.clone(), input)
    };
    let field_names = FieldNames {
        input: "prompt",
        constraint: constrained.field,
        others: field_names::OPENAI,
    };
    let parsed = common.into_parsed_inputs(
        OpenAiEndpoint::Completions,
        (request, further_inputs),
        field_names,
        ResponseParts {
            include_usage,
            reasoning: false,
        },
        context,
    )?;
    Ok(if only_prompt {
        parsed.without_output()
    } else {
        parsed
    })
}

fn logprobs(alternatives: Option<i64>) -> Result<Option<u8>, Diagnostic> {
    let Some(n) = alternatives else {
        return Ok(None);
    };
    u8::try_from(n)
        .ok()
        .filter(|n| *n <= MAX_LOGPROBS)
        .map(Some)
        .ok_or_else(|| out_of_range("logprobs", 0, MAX_LOGPROBS, n))
}

/// Returns the first prompt of a request, and the others.
fn prompts(value: &Value) -> Result<(InferInput, Vec<InferInput>), Diagnostic> {
    let several = match value {
        Value::Array(items) => items.first().is_some_and(|i| i.is_string() || i.is_array()),
        _ => false,
    };
    let (Value::Array(items), true) = (value, several) else {
        let expected = "a string, an array of token ids, or an array of such prompts";
        let prompt = prompt(value).ok_or_else(|| must_be_a("prompt", expected))?;
        return Ok((prompt, Vec::new()));
    };
    let mut prompts = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let param = format!("prompt[{i}]");
        let expected = "a string or an array of token ids";
        prompts.push(prompt(item).ok_or_else(|| must_be_a(&param, expected))?);
    }
    let others = prompts.split_off(1);
    let first = prompts.pop().ok_or_else(|| empty("prompt"))?;
    Ok((first, others))
}

fn prompt(value: &Value) -> Option<InferInput> {
    let token = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::String(text) => Some(InferInput::Prompt(text.clone())),
        Value::Array(ids) if !ids.is_empty() => {
            let tokens = ids.iter().map(token).collect::<Option<_>>()?;
            Some(InferInput::Tokens(tokens))
        }
        _ => None,
    }
}
