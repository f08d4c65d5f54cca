//! The queen: schedules requests on its nodes and serves the public API.

use clap::Parser as _;
use diagnostics::{Code, Diagnostic, ExitCode};

fn main() -> std::process::ExitCode {
    let args = queen_rbee::Args::parse();
    daemon_shell::init_logging(&args.log);
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Diagnostic::internal(format!("cannot start the async runtime: {e}")))
        .and_then(|runtime| runtime.block_on(queen_rbee::run(args)));
    match result {
        Ok(()) => ExitCode::Success.into(),
        Err(error) => {
            let code = match error.code {
                Code::ConfigInvalid | Code::InsecureBind => ExitCode::Usage,
                _ => ExitCode::Failure,
            };
            daemon_shell::report_fatal(error);
            code.into()
        }
    }
}
