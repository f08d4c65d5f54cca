//! The queen: schedules requests on its nodes and serves the public API.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = queen_rbee::Args::parse();
    daemon_shell::init_logging(&args.log);
    daemon_shell::run_daemon(queen_rbee::run(args))
}
