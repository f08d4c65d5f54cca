//! The hive: one per machine, runs workers on behalf of the queen.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: rbee_hive::Args = daemon_shell::parse_arguments(|name| std::env::var_os(name));
    daemon_shell::init_logging(&args.log);
    daemon_shell::run_daemon(rbee_hive::run(args))
}
