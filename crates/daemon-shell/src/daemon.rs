use std::{env, future::Future, path::PathBuf, process::ExitCode as ProcessExitCode};

use diagnostics::{Code, Diagnostic, ExitCode};
use tokio::runtime;

use crate::{errors, report_fatal};

/// Runs a daemon on an async runtime and reports the error that ends it. The exit code is
/// [`ExitCode::Usage`] if its configuration is not usable.
pub fn run_daemon(daemon: impl Future<Output = Result<(), Diagnostic>>) -> ProcessExitCode {
    let result = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| errors::no_runtime(&e))
        .and_then(|runtime| runtime.block_on(daemon));
    let Err(error) = result else {
        return ExitCode::Success.into();
    };
    let code = match error.code {
        Code::ConfigInvalid | Code::InsecureBind => ExitCode::Usage,
        _ => ExitCode::Failure,
    };
    report_fatal(error);
    code.into()
}

/// Returns the path of the binary that this process runs.
pub fn own_binary() -> Result<PathBuf, Diagnostic> {
    env::current_exe().map_err(|e| errors::no_own_binary(&e))
}
