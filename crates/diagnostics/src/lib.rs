//! The one error shape that crosses every boundary of rbee, the exit codes, and the
//! narration event. Plain data: no IO, no clock.

#![warn(missing_docs)]

mod code;
mod escape;
mod narration;

pub use code::{Code, ErrorType};
pub use escape::{escape, excerpt};
pub use narration::{Level, Narration};

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a process ends: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything asked for was done.
    Success = 0,
    /// Something failed; the error was printed.
    Failure = 1,
    /// The command line or the configuration is wrong; nothing was tried.
    Usage = 2,
    /// The worker's port was taken between choosing and binding it (worker contract).
    PortTaken = 98,
    /// Ctrl+C.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Numbers and names that belong to an error, by name: `{"need_bytes": 5, "free_bytes": 3}`.
pub type Details = BTreeMap<String, serde_json::Value>;

/// What failed, with its values, and what to do about it.
///
/// `Display` prints the message alone; the keeper prints message and hint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diagnostic {
    /// Stable name of the error.
    pub code: Code,
    /// What failed, ending with the values.
    pub message: String,
    /// What to do; commands stand in backticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub param: Option<Box<str>>,
    /// The numbers of the message, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, serde_json::Value>>)]
    pub details: Option<Box<Details>>,
    /// The request or job that the error belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<Box<str>>,
}

impl Diagnostic {
    /// A diagnostic with a message and nothing else.
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

    /// An internal error: a defect of rbee itself, never of its input.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message.to_string())
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Box<str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Tells of the field `from` by the name `to`, when it is the one at fault.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        if self.param.as_deref() != Some(from) {
            return self;
        }
        let written = format!("`{from}`");
        self.message = self.message.replacen(&written, &format!("`{to}`"), 1);
        self.param(to)
    }

    /// Adds one value by name.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details
            .get_or_insert_default()
            .insert(name.to_owned(), value.into());
        self
    }

    /// Names the request or job; one that is already named keeps its name.
    #[must_use]
    pub fn correlated(mut self, id: impl Into<Box<str>>) -> Self {
        self.correlation_id.get_or_insert_with(|| id.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// The last line on the standard error of a program that gives up, for the program that
/// started it: `{"fatal": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FatalLine {
    /// Why it gave up.
    pub fatal: Diagnostic,
}

/// The error body of every HTTP answer; OpenAI clients read it as theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: WireError,
}

/// A [`Diagnostic`] with OpenAI's `type`, which is derived from the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WireError {
    /// OpenAI's class of error.
    #[serde(rename = "type", default)]
    pub error_type: ErrorType,
    /// The error itself.
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
    fn the_wire_shape_is_openais_with_ours_beside_it() {
        let body = ErrorBody::from(
            Diagnostic::new(Code::ContextLengthExceeded, "too long: 600 of 512")
                .hint("shorten it")
                .param("messages")
                .detail("context_length", 512)
                .correlated("req-1"),
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
    fn a_field_is_told_by_another_name_where_it_is_at_fault() {
        let wrong = || Diagnostic::new(Code::InvalidRequest, "`a` is not `a`").param("a");
        let told = wrong().renamed("a", "b");
        assert_eq!(
            (told.message.as_str(), told.param.as_deref()),
            ("`b` is not `a`", Some("b"))
        );
        assert_eq!(wrong().renamed("c", "b"), wrong());
    }

    #[test]
    fn a_code_of_a_newer_peer_is_read_not_refused() {
        let d: Diagnostic =
            serde_json::from_str(r#"{"code":"FROM_THE_FUTURE","message":"m"}"#).unwrap();
        assert_eq!(d.code, Code::Unrecognized);
    }
}
