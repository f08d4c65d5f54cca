use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{overflow::Overflow, shown_message::shown_message};

/// Error response. Anthropic's clients read `type` and `message` of `error`; its other fields
/// are rbee's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnthropicErrorBody {
    /// Always `error`.
    #[serde(rename = "type")]
    #[schema(pattern = "^error$")]
    pub kind: String,
    pub error: AnthropicError,
    /// Id of the request; absent if the request was refused before it got one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
}

/// An error with Anthropic's type, which is derived from its code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnthropicError {
    /// Anthropic's type of the error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub error_type: String,
    /// The error in rbee's format.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl From<Diagnostic> for AnthropicErrorBody {
    fn from(mut diagnostic: Diagnostic) -> Self {
        if let Some(overflow) = Overflow::of(&diagnostic) {
            // Anthropic's own sentence, by which its clients know that they must compact.
            diagnostic.message = format!(
                "prompt is too long: {} tokens > {} maximum",
                overflow.tokens,
                overflow.max_input(),
            );
        } else {
            diagnostic.message = shown_message(&diagnostic);
        }
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

/// Returns Anthropic's type for an HTTP status.
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
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn the_message_has_the_hint_because_clients_show_nothing_else() {
        let error = Diagnostic::new(Code::ModelNotFound, "no such model").hint("use `x`");
        let body = AnthropicErrorBody::from(error);
        assert_eq!(body.error.diagnostic.message, "no such model; use `x`");
    }

    #[test]
    fn an_overflow_has_the_sentence_that_clients_look_for() {
        let error = Diagnostic::new(Code::ContextLengthExceeded, "too long")
            .detail("prompt_tokens", 9000)
            .detail("context_length", 8192);
        let body = serde_json::to_value(AnthropicErrorBody::from(error)).unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(
            body["error"]["message"],
            "prompt is too long: 9000 tokens > 8192 maximum"
        );
        assert_eq!(body["error"]["code"], "CONTEXT_LENGTH_EXCEEDED");
    }
}
