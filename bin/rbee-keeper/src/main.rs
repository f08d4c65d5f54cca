//! `rbee-keeper`: rbee's command line, a thin client of the queen.

mod app;
mod cli;
mod failure;
mod infer;
mod interrupt;
mod prompt;
mod queen;
mod render;
mod target;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::try_parse();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    else {
        return diagnostics::ExitCode::Failure.into();
    };
    let code = runtime.block_on(app::run(cli));
    // A thread that still waits for standard input does not hold the process up.
    runtime.shutdown_background();
    code.into()
}
