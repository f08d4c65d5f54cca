//! The queen: schedules requests on its nodes and serves the public API.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: queen_rbee::Args = daemon_shell::parse_arguments();
    daemon_shell::init_logging(&args.log);
    daemon_shell::run_daemon(queen_rbee::run(args))
}
