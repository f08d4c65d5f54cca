//! The queen: knows nodes, models and workers, schedules, and serves the public API.

use clap::Parser as _;
use diagnostics::{Code, Diagnostic, ExitCode};

fn main() -> std::process::ExitCode {
    let args = queen_rbee::Args::parse();
    daemon_shell::init_logging(&args.log);
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Diagnostic::internal(format!("cannot start threads: {e}")))
        .and_then(|runtime| runtime.block_on(queen_rbee::run(args)));
    match done {
        Ok(()) => ExitCode::Success.into(),
        Err(error) => {
            let code = match error.code {
                Code::ConfigInvalid | Code::InsecureBind => ExitCode::Usage,
                _ => ExitCode::Failure,
            };
            daemon_shell::tell_failure(error);
            code.into()
        }
    }
}
