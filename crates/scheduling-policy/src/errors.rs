use diagnostics::excerpt;
use rhai::{EvalAltResult, ParseError, Position};

use crate::limits;

/// Number of characters that are kept of a message.
const MESSAGE_CHARS: usize = 300;

/// Why a script cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(*.line, *.column))]
pub struct CompileError {
    pub message: String,
    /// From 1; `None` if it is about the script as a whole.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
}

/// Why a script had no say in a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` failed for {candidate}: {}{message}", place(*.line, *.column))]
pub struct PolicyFailure {
    /// The function that failed: `route` or `place`.
    pub function: &'static str,
    /// The worker or the place that it was called for.
    pub candidate: String,
    pub message: String,
    /// From 1.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        (Some(line), None) => format!("line {line}: "),
        _ => String::new(),
    }
}

impl CompileError {
    /// An error that is about the script as a whole.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            line: None,
            column: None,
        }
    }

    pub(crate) fn too_large(bytes: usize) -> Self {
        let limit = limits::SCRIPT_BYTES;
        Self::whole(format!(
            "the script has {bytes} bytes, and at most {limit} are allowed"
        ))
    }
}

impl From<ParseError> for CompileError {
    fn from(error: ParseError) -> Self {
        let ParseError(kind, position) = error;
        Self {
            message: excerpt(&kind.to_string(), MESSAGE_CHARS),
            line: position.line(),
            column: position.position(),
        }
    }
}

/// What failed in a call, and where.
pub(crate) struct Cause {
    message: String,
    position: Position,
}

impl Cause {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: Position::NONE,
        }
    }

    pub(crate) fn of(self, function: &'static str, candidate: impl Into<String>) -> PolicyFailure {
        PolicyFailure {
            function,
            candidate: candidate.into(),
            message: excerpt(&self.message, MESSAGE_CHARS),
            line: self.position.line(),
            column: self.position.position(),
        }
    }
}

impl From<Box<EvalAltResult>> for Cause {
    fn from(error: Box<EvalAltResult>) -> Self {
        let mut error = *error;
        // The cause, where it is.
        while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = error {
            error = *inner;
        }
        let position = error.take_position();
        let message = match error {
            EvalAltResult::ErrorTerminated(..) | EvalAltResult::ErrorTooManyOperations(_) => {
                format!(
                    "a decision may take {} operations, over all candidates",
                    limits::OPERATIONS
                )
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                format!("more than {} calls inside calls", limits::CALL_LEVELS)
            }
            other => other.to_string(),
        };
        Self { message, position }
    }
}
