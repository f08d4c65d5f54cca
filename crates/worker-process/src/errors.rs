//! The errors of this crate.

use std::io;

use diagnostics::{Code, Diagnostic};

pub(crate) fn threads_not_started(cause: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot start the HTTP threads: {cause}"))
}

pub(crate) fn variable_not_set(variable: &str) -> Diagnostic {
    Diagnostic::new(Code::ConfigInvalid, format!("{variable} is not set"))
        .hint("set it to the path of the file with the token")
}
