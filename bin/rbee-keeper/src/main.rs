//! `rbee-keeper`: rbee's command line, a thin client of the queen.

mod app;
mod binaries;
mod binary_cli;
mod cli;
mod deploy;
mod deploy_cli;
mod doctor;
mod doctor_cli;
mod errors;
mod failure;
mod infer;
mod interrupt;
mod invitation;
mod model;
mod model_cli;
mod models;
mod node;
mod node_cli;
mod policy;
mod policy_cli;
mod prompt;
mod queen;
mod render;
mod sleep_cli;
mod stopping;
mod target;
mod values;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::from_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            render::print_error_blocking(&errors::no_runtime(&error));
            return diagnostics::ExitCode::Failure.into();
        }
    };
    let code = runtime.block_on(app::run(cli));
    // Does not wait for a thread that is blocked in a read of standard input.
    runtime.shutdown_background();
    code.into()
}
