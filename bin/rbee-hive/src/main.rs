//! The hive: one for each machine, executes what the queen asks for.

use std::io::Write as _;

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
            let hint = error.hint.as_deref();
            let hint = hint.map_or(String::new(), |hint| format!("\n\nhint: {hint}"));
            // Without a standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {error}{hint}");
            match error.code {
                Code::ConfigInvalid => ExitCode::Usage.into(),
                _ => ExitCode::Failure.into(),
            }
        }
    }
}
