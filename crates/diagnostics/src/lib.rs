//! The error format that all rbee processes share, error codes, exit codes and narration
//! events. Plain data: no IO, no clock.

#![warn(missing_docs)]

mod amount;
mod code;
mod escape;
mod narration;
mod storage;

pub use amount::{bytes, count, counted};
pub use code::{Code, ErrorType};
pub use escape::{escape, excerpt};
pub use narration::{Level, Narration};

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Exit code of an rbee process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command completed.
    Success = 0,
    /// The command failed; the error was printed.
    Failure = 1,
    /// The command line or the configuration is invalid; nothing was done.
    Usage = 2,
    /// Another process bound the worker's port after the hive had chosen it.
    PortTaken = 98,
    /// SIGHUP: the terminal was closed.
    HungUp = 129,
    /// SIGINT: the user pressed Ctrl+C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Values of an error by name: `{"need_bytes": 5, "free_bytes": 3}`.
pub type Details = BTreeMap<String, serde_json::Value>;

/// Description of a failure, with its values and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diagnostic {
    /// Stable error code.
    pub code: Code,
    /// What failed, with the values, for display.
    pub message: String,
    /// What to do, for display; commands are in backticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
    /// Field of the request that is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub param: Option<Box<str>>,
    /// Values of the message, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, serde_json::Value>>, nullable = false)]
    pub details: Option<Box<Details>>,
    /// Id of the request or job that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub correlation_id: Option<Box<str>>,
}

impl Diagnostic {
    /// Creates a diagnostic with a message only.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            param: None,
            details: None,
            correlation_id: None,
        }
    }

    /// Creates an error that is caused by a defect in rbee, not by its input.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message.to_string())
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the field of the request that is invalid.
    #[must_use]
    pub fn param(mut self, param: impl Into<Box<str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Replaces the name of the invalid field in `param` and in the message, for a caller that
    /// knows the field by another name. Does nothing if `param` is not `from`.
    #[must_use]
    pub fn rename_param(mut self, from: &str, to: &str) -> Self {
        if self.param.as_deref() != Some(from) {
            return self;
        }
        let quoted = format!("`{from}`");
        self.message = self.message.replacen(&quoted, &format!("`{to}`"), 1);
        self.param(to)
    }

    /// Adds a value to the details.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details
            .get_or_insert_default()
            .insert(name.to_owned(), value.into());
        self
    }

    /// Sets the id of the request or job that failed, unless one is set.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.correlation_id.get_or_insert_with(|| id.into());
        self
    }
}

/// Writes the message only.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// Last line on the standard error of a process that fails, for the process that started it:
/// `{"fatal": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FatalLine {
    /// Reason of the exit.
    pub fatal: Diagnostic,
}

/// Body of error responses. Clients of OpenAI can parse it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: WireError,
}

/// A [`Diagnostic`] with OpenAI's `type`, which follows from the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WireError {
    /// OpenAI's type of the error.
    #[serde(rename = "type", default)]
    #[schema(required)]
    pub error_type: ErrorType,
    /// The error in rbee's format.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl From<Diagnostic> for ErrorBody {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            error: WireError {
                error_type: diagnostic.code.error_type(),
                diagnostic,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_body_has_the_fields_of_openai_and_those_of_rbee() {
        let body = ErrorBody::from(
            Diagnostic::new(Code::ContextLengthExceeded, "too long: 600 of 512")
                .hint("shorten it")
                .param("messages")
                .detail("context_length", 512)
                .correlation_id("req-1"),
        );
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"error": {
                "type": "invalid_request_error", "code": "CONTEXT_LENGTH_EXCEEDED",
                "message": "too long: 600 of 512", "hint": "shorten it", "param": "messages",
                "details": {"context_length": 512}, "correlation_id": "req-1",
            }})
        );
        assert_eq!(serde_json::from_value::<ErrorBody>(json).unwrap(), body);
    }

    #[test]
    fn rename_param_changes_the_invalid_field_only() {
        let error = || Diagnostic::new(Code::InvalidRequest, "`a` is not `a`").param("a");
        let renamed = error().rename_param("a", "b");
        assert_eq!(
            (renamed.message.as_str(), renamed.param.as_deref()),
            ("`b` is not `a`", Some("b"))
        );
        assert_eq!(error().rename_param("c", "b"), error());
    }

    #[test]
    fn correlation_id_is_set_once() {
        let error = Diagnostic::internal("x")
            .correlation_id("a")
            .correlation_id("b");
        assert_eq!(error.correlation_id.as_deref(), Some("a"));
    }

    #[test]
    fn accepts_the_unknown_code_of_a_newer_peer() {
        let d: Diagnostic =
            serde_json::from_str(r#"{"code":"FROM_THE_FUTURE","message":"m"}"#).unwrap();
        assert_eq!(d.code, Code::Unrecognized);
    }
}
