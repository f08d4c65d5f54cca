use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use input_validation::RequestId;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use worker_contract::Usage;

use super::{
    items::ResponseItem,
    schemas::{ResponseErrorCode, ResponsesTextFormat, ResponsesToolChoice, UnsupportedBackground},
    tools::ResponsesTool,
};
use crate::{openai::error_message, schemas::Unsupported};

/// Response of `POST /v1/responses`. It repeats the fields of the request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ResponseDocument {
    /// `resp_` and the id of the request.
    pub id: String,
    /// Always `response`.
    #[schema(pattern = "^response$")]
    pub object: &'static str,
    /// Time at which the request arrived, in seconds since the Unix epoch.
    pub created_at: i64,
    pub status: ResponseStatus,
    /// Always false.
    #[schema(value_type = UnsupportedBackground)]
    pub background: bool,
    /// Why the response failed; otherwise null.
    pub error: Option<ResponseError>,
    /// Why the output is incomplete; otherwise null.
    pub incomplete_details: Option<IncompleteDetails>,
    pub instructions: Option<String>,
    pub max_output_tokens: Option<u32>,
    pub metadata: BTreeMap<String, String>,
    /// Model as the request named it.
    pub model: String,
    /// Output of the model, in order.
    pub output: Vec<ResponseItem>,
    pub parallel_tool_calls: bool,
    /// Always null.
    #[schema(value_type = Unsupported)]
    pub previous_response_id: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub reasoning: ReasoningEcho,
    pub safety_identifier: Option<String>,
    /// `flex` if the request was sent with it.
    #[schema(pattern = "^(default|flex)$")]
    pub service_tier: &'static str,
    /// Always false: nothing is stored.
    #[schema(value_type = UnsupportedBackground)]
    pub store: bool,
    pub temperature: f64,
    pub text: TextEcho,
    #[schema(value_type = ResponsesToolChoice)]
    pub tool_choice: Value,
    #[schema(value_type = Vec<ResponsesTool>)]
    pub tools: Vec<Value>,
    pub top_logprobs: i64,
    pub top_p: f64,
    /// Always `disabled`.
    #[schema(pattern = "^disabled$")]
    pub truncation: &'static str,
    /// Token counts; null until the response has ended.
    pub usage: Option<ResponseUsage>,
    pub user: Option<String>,
}

/// Response of `POST /v1/responses/input_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseTokenCount {
    /// Always `response.input_tokens`.
    #[schema(pattern = "^response\\.input_tokens$")]
    object: &'static str,
    /// Tokens of the prompt.
    input_tokens: u32,
}

impl From<u32> for ResponseTokenCount {
    fn from(input_tokens: u32) -> Self {
        Self {
            object: "response.input_tokens",
            input_tokens,
        }
    }
}

/// How far a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// More of it follows.
    InProgress,
    /// The output is complete.
    Completed,
    /// The output ended at a limit.
    Incomplete,
    /// An error ended the response.
    Failed,
}

/// Error that ended a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseError {
    /// OpenAI's code for the error.
    #[schema(value_type = ResponseErrorCode)]
    pub code: &'static str,
    pub message: String,
}

impl From<&Diagnostic> for ResponseError {
    fn from(error: &Diagnostic) -> Self {
        Self {
            code: match error.code.http_status() {
                429 => "rate_limit_exceeded",
                400..=499 => "invalid_prompt",
                _ => "server_error",
            },
            message: error_message(error),
        }
    }
}

/// Why an output is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct IncompleteDetails {
    /// Always `max_output_tokens`: the output ended at it, or at the end of the context.
    #[schema(pattern = "^max_output_tokens$")]
    pub reason: &'static str,
}

/// The reasoning that the request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReasoningEcho {
    pub effort: Option<String>,
    pub summary: Option<String>,
}

/// Format of the output.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TextEcho {
    #[schema(value_type = ResponsesTextFormat)]
    pub format: Value,
}

/// Token counts of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseUsage {
    /// Tokens of the prompt.
    pub input_tokens: u32,
    pub input_tokens_details: InputTokensDetails,
    /// Generated tokens, end tokens included.
    pub output_tokens: u32,
    pub output_tokens_details: OutputTokensDetails,
    /// Sum of `input_tokens` and `output_tokens`.
    pub total_tokens: u32,
}

/// Breakdown of the prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// Tokens found in the KV cache instead of being computed.
    pub cached_tokens: u32,
}

/// Breakdown of the generated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Tokens that are reasoning.
    pub reasoning_tokens: u32,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

impl ResponseDocument {
    /// Creates the response to a request without further fields, before it has output.
    pub(super) fn new(id: &RequestId, model: String) -> Self {
        Self {
            id: format!("resp_{id}"),
            object: "response",
            created_at: 0,
            status: ResponseStatus::InProgress,
            background: false,
            error: None,
            incomplete_details: None,
            instructions: None,
            max_output_tokens: None,
            metadata: BTreeMap::new(),
            model,
            output: Vec::new(),
            parallel_tool_calls: true,
            previous_response_id: None,
            prompt_cache_key: None,
            reasoning: ReasoningEcho::default(),
            safety_identifier: None,
            service_tier: "default",
            store: false,
            temperature: 1.0,
            text: TextEcho {
                format: json!({"type": "text"}),
            },
            tool_choice: json!("auto"),
            tools: Vec::new(),
            top_logprobs: 0,
            top_p: 1.0,
            truncation: "disabled",
            usage: None,
            user: None,
        }
    }
}
