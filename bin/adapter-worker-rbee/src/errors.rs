//! The errors of this binary.

use diagnostics::{Code, Diagnostic};

pub(crate) fn no_engine() -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        "the options of worker and engine are missing",
    )
    .hint("run `adapter-worker-rbee --help`")
}

pub(crate) fn no_runtime(cause: &std::io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot start the threads: {cause}"))
}
