//! The queen: schedules requests on its nodes and serves the public API.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: queen_rbee::Args = daemon_shell::parse_arguments(|name| std::env::var_os(name));
    daemon_shell::init_logging(&args.log);
    daemon_shell::run_daemon(queen_rbee::run(args))
}
