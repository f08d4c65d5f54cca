//! The hive: one for each machine, executes what the queen asks for.

use clap::Parser as _;
use diagnostics::{Code, Diagnostic, ExitCode};

fn main() -> std::process::ExitCode {
    let args = rbee_hive::Args::parse();
    daemon_shell::init_logging(&args.log);
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Diagnostic::internal(format!("cannot start threads: {e}")))
        .and_then(|runtime| runtime.block_on(rbee_hive::run(args)));
    match done {
        Ok(()) => ExitCode::Success.into(),
        Err(error) => {
            let code = match error.code {
                Code::ConfigInvalid => ExitCode::Usage,
                _ => ExitCode::Failure,
            };
            daemon_shell::tell_failure(error);
            code.into()
        }
    }
}
