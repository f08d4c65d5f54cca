use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, ToolChoice};

use crate::{
    Call, ClientFields, Edge, constraint,
    fields::{CommonFields, invalid, limit, read},
    unsupported::{refuse, unsupported},
};

/// What the endpoint generates when nothing is said, as OpenAI's does.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Body of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// The fields of both endpoints.
    #[serde(flatten)]
    pub common: CommonFields,
    /// The fields of this one.
    #[serde(flatten)]
    pub completion: CompletionFields,
}

/// The fields of completion alone.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct CompletionFields {
    /// A text, a list of one text, or a list of token ids.
    pub prompt: Value,
    /// Report the log probability of each token and of this many alternatives, 0 to 5.
    pub logprobs: Option<i64>,
}

pub(crate) fn parse(body: &Value) -> Result<Call, Diagnostic> {
    let common: CommonFields = read(body)?;
    let completion: CompletionFields = read(body)?;
    refuse(Edge::Completion, body)?;
    let asked = constraint::parse(body)?;
    Ok(Call {
        edge: Edge::Completion,
        stream: common.stream(),
        include_usage: common.include_usage()?,
        input: prompt(&completion.prompt)?,
        max_tokens: limit("max_tokens", common.max_tokens)?.or(Some(DEFAULT_MAX_TOKENS)),
        sampling: common.sampling()?,
        constraint: asked.constraint,
        fields: ClientFields {
            input: "prompt",
            constraint: asked.field,
        },
        stop: common.stop()?,
        logprobs: match completion.logprobs {
            None => None,
            Some(n @ 0..=5) => Some(n as u8),
            Some(n) => return Err(invalid("logprobs", &format!("must be 0 to 5, not {n}"))),
        },
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        choices: common.choices()?,
        model: common.model,
    })
}

fn prompt(value: &Value) -> Result<InferInput, Diagnostic> {
    let form = || invalid("prompt", "must be a text, a list of one text, or token ids");
    match value {
        Value::String(text) => Ok(InferInput::Prompt(text.clone())),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Ok(InferInput::Prompt(text.clone())),
            [Value::Array(_)] => prompt(&items[0]),
            [Value::String(_) | Value::Array(_), ..] => {
                Err(unsupported("prompt").hint("send one prompt a request"))
            }
            [_, ..] => items
                .iter()
                .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
                .collect::<Option<_>>()
                .map(InferInput::Tokens)
                .ok_or_else(form),
            [] => Err(form()),
        },
        _ => Err(form()),
    }
}
