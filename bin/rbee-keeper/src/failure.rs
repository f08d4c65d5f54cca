use diagnostics::{Code, Diagnostic, ExitCode};
use rest_client::CallError;
use state_files::Home;

/// How a command can end other than well.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// What was asked for failed.
    Failed(Diagnostic),
    /// The command line is wrong; nothing was tried.
    Usage(Diagnostic),
    /// Ctrl+C.
    Interrupted,
    /// Nobody reads standard output any more (`| head -1`).
    OutputClosed,
}

impl Failure {
    /// A wrong command line.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage(Diagnostic::new(Code::InvalidRequest, message).hint(hint))
    }

    /// What the process exits with.
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::Failure,
            Self::Usage(_) => ExitCode::Usage,
            Self::Interrupted => ExitCode::Interrupted,
            Self::OutputClosed => ExitCode::Success,
        }
    }

    /// The error to tell, if there is something to tell.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Failed(diagnostic) | Self::Usage(diagnostic) => Some(diagnostic),
            Self::Interrupted | Self::OutputClosed => None,
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(mut diagnostic: Diagnostic) -> Self {
        if let Code::MissingApiKey | Code::InvalidApiKey = diagnostic.code {
            // The queen tells what a client has to send; here it is a file.
            diagnostic = diagnostic.hint(format!(
                "give the queen's token by `--token-file`; on its machine that is `{}` in rbee's home",
                Home::QUEEN_TOKEN
            ));
        }
        Self::Failed(diagnostic)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Diagnostic::from(error).into()
    }
}
