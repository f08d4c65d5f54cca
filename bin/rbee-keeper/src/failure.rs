use diagnostics::{Diagnostic, ExitCode};
use rest_client::CallError;

use crate::errors;

/// The reason why a command did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    /// The command failed.
    Failed(Diagnostic),
    /// The command line is invalid; nothing was executed.
    Usage(Diagnostic),
    /// The first interrupt arrived.
    Interrupted(Interrupt),
    /// The result of the command, which is printed, says what failed.
    Reported,
    /// The reader of standard output closed it (`| head -1`).
    OutputClosed,
}

/// A signal that interrupts the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGINT: Ctrl+C.
    Int,
    /// SIGTERM.
    Term,
    /// SIGHUP: the terminal was closed.
    Hup,
}

impl Interrupt {
    /// Returns the exit code of a command that the signal interrupted, as shells do: 128 and the
    /// number of the signal.
    pub(crate) const fn exit_code(self) -> ExitCode {
        match self {
            Self::Int => ExitCode::Interrupted,
            Self::Term => ExitCode::Terminated,
            Self::Hup => ExitCode::HungUp,
        }
    }
}

impl Failure {
    pub(crate) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Reported => ExitCode::Failure,
            Self::Usage(_) => ExitCode::Usage,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
            Self::OutputClosed => ExitCode::Success,
        }
    }

    /// Returns the error to print, if there is one.
    pub(crate) fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Failed(diagnostic) | Self::Usage(diagnostic) => Some(diagnostic),
            Self::Interrupted(_) | Self::Reported | Self::OutputClosed => None,
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Failed(errors::with_default_hint(diagnostic))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Diagnostic::from(error).into()
    }
}
