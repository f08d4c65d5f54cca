use diagnostics::{Code, Details, Diagnostic, ErrorType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{errors::Problem, overflow::Overflow, shown_message::shown_message};

/// Error response of OpenAI's API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenAiErrorBody {
    pub error: OpenAiError,
}

/// An error in OpenAI's words where OpenAI has some. `hint`, `details` and `correlation_id` are
/// rbee's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenAiError {
    /// What failed, with the values, and the hint, separated by a semicolon, for display: the
    /// clients show only this text.
    pub message: String,
    /// OpenAI's type of the error.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// Field of the request that is invalid.
    #[schema(value_type = Option<String>, required)]
    pub param: Option<Box<str>>,
    /// OpenAI's code, such as `model_not_found`; where OpenAI has none, rbee's.
    pub code: String,
    /// What to do, for display; commands are in backticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
    /// Values of the message, for programs; `code` is rbee's stable code.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub details: Details,
    /// Id of the request that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub correlation_id: Option<Box<str>>,
}

impl From<Diagnostic> for OpenAiErrorBody {
    fn from(error: Diagnostic) -> Self {
        let message = message(&error);
        let mut details = error.details.map_or_else(Details::new, |details| *details);
        let problem = Problem::take(&mut details);
        let code = code(error.code, error.param.is_some(), problem);
        details.insert("code".to_owned(), Value::from(error.code.as_str()));
        Self {
            error: OpenAiError {
                message,
                error_type: error.code.error_type(),
                param: error.param,
                code: code.map_or_else(|| error.code.as_str(), str::to_owned),
                hint: error.hint,
                details,
                correlation_id: error.correlation_id,
            },
        }
    }
}

/// Returns OpenAI's code for an error, if OpenAI has one.
fn code(code: Code, names_field: bool, problem: Option<Problem>) -> Option<&'static str> {
    Some(match code {
        Code::ModelNotFound => "model_not_found",
        Code::MissingApiKey | Code::InvalidApiKey => "invalid_api_key",
        Code::QueueFull => "rate_limit_exceeded",
        Code::ContextLengthExceeded => "context_length_exceeded",
        Code::UnsupportedParameter => "unsupported_parameter",
        Code::Internal => "server_error",
        Code::InvalidRequest => match problem {
            Some(Problem::Missing) => "missing_required_parameter",
            Some(Problem::Type) => "invalid_type",
            None if names_field => "invalid_value",
            None => return None,
        },
        _ => return None,
    })
}

/// Returns what clients display: OpenAI's sentence for an error that they recognise by it,
/// otherwise message and hint.
pub(crate) fn message(error: &Diagnostic) -> String {
    overflow(error).unwrap_or_else(|| shown_message(error))
}

fn overflow(error: &Diagnostic) -> Option<String> {
    let overflow = Overflow::of(error)?;
    let input = match error.param.as_deref() {
        Some(field) if field.starts_with("prompt") => "prompt",
        Some("input") => "input",
        _ => "messages",
    };
    Some(format!(
        "This model's maximum context length is {} tokens. However, your {input} resulted in {} \
         tokens. Please reduce the length of the {input}.",
        overflow.context_length, overflow.tokens,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::errors::{missing, must_be_string, out_of_range};

    fn body(error: Diagnostic) -> Value {
        to_value(OpenAiErrorBody::from(error)).unwrap()
    }

    #[test]
    fn an_overflow_has_the_code_and_the_sentence_that_clients_look_for() {
        let error = Diagnostic::new(Code::ContextLengthExceeded, "too long")
            .param("messages")
            .hint("shorten the prompt")
            .detail("prompt_tokens", 9000)
            .detail("context_length", 8192);
        let body = body(error);
        assert_eq!(
            body,
            json!({"error": {
                "message": "This model's maximum context length is 8192 tokens. However, your \
                    messages resulted in 9000 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
                "hint": "shorten the prompt",
                "details": {"code": "CONTEXT_LENGTH_EXCEEDED", "prompt_tokens": 9000,
                    "context_length": 8192},
            }})
        );
        // LiteLLM and agents search the lower-case text for one of these.
        let message = body["error"]["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains("this model's maximum context length is"));
        assert!(message.contains("resulted in 9000 tokens"));
    }

    #[test]
    fn the_message_has_the_hint_because_clients_show_nothing_else() {
        let error = Diagnostic::new(Code::ModelNotFound, "no such model").hint("use `x`");
        let body = body(error);
        assert_eq!(body["error"]["message"], "no such model; use `x`");
        assert_eq!(body["error"]["hint"], "use `x`");
    }

    #[test]
    fn codes_are_openais_where_it_has_one() {
        for (error, code) in [
            (Diagnostic::new(Code::ModelNotFound, "x"), "model_not_found"),
            (Diagnostic::new(Code::InvalidApiKey, "x"), "invalid_api_key"),
            (Diagnostic::new(Code::QueueFull, "x"), "rate_limit_exceeded"),
            (Diagnostic::new(Code::Internal, "x"), "server_error"),
            (Diagnostic::new(Code::WorkerCrashed, "x"), "WORKER_CRASHED"),
            (
                Diagnostic::new(Code::InvalidRequest, "x"),
                "INVALID_REQUEST",
            ),
            (missing("model"), "missing_required_parameter"),
            (must_be_string("user"), "invalid_type"),
            (out_of_range("n", 1, 16, 17), "invalid_value"),
        ] {
            let stable = error.code.as_str();
            let body = body(error);
            assert_eq!(body["error"]["code"], code);
            assert_eq!(body["error"]["details"], json!({"code": stable}));
        }
    }
}
