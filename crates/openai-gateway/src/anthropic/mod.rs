//! Anthropic's Messages API.

mod answer;
mod messages;
mod request;

pub use answer::{
    AnthropicBlock, AnthropicMessage, AnthropicTokenCount, AnthropicUsage, AnthropicWriter,
};
pub use messages::{AnthropicContent, AnthropicInputMessage};
pub use request::{AnthropicRequest, parse, parse_count};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error as Anthropic's clients read it; what they do not know stands beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnthropicErrorBody {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error.
    pub error: AnthropicError,
    /// The request that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A [`Diagnostic`] with Anthropic's `type`, which is derived from the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnthropicError {
    /// Anthropic's class of error.
    #[serde(rename = "type")]
    pub error_type: String,
    /// The error itself.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl From<Diagnostic> for AnthropicErrorBody {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            kind: "error".to_owned(),
            request_id: diagnostic.correlation_id.as_deref().map(str::to_owned),
            error: AnthropicError {
                error_type: error_type(diagnostic.code.http_status()).to_owned(),
                diagnostic,
            },
        }
    }
}

/// Anthropic's class for a status.
fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests;
