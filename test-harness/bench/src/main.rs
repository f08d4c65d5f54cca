//! Benchmarks: `cargo xtask bench NAME`; `--help` lists them. Results are ratios within one run.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool for developers"
)]

mod adapter;
mod control;
mod download;
mod engine;
mod failover;
mod gateway;
mod link;
mod machine;
mod overhead;
mod process;
mod servers;
mod start;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Benchmarks the queen, the worker and the engine
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Latency that the queen adds to a request to a worker, compared with nginx
    Gateway {
        /// Directory of the rbee binaries; set by the xtask
        #[arg(long)]
        bin_dir: PathBuf,
        /// Directory of the binaries of another build, measured in the same run
        #[arg(long)]
        baseline: Option<PathBuf>,
        /// Requests for each target and number of clients
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// Tokens per second of a worker's loop and event streams, with an engine that costs nothing
    Overhead {
        /// Directory of the rbee binaries; set by the xtask
        #[arg(long)]
        bin_dir: PathBuf,
        /// Directory of the binaries of another build, measured in the same run
        #[arg(long)]
        baseline: Option<PathBuf>,
        /// Repetitions of each row, of which the median counts
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
    /// What the adapter adds to llama.cpp's server: time to the first token, and throughput
    Adapter(adapter::AdapterArgs),
    /// Tokens per second, memory and load time of the engine, compared with llama.cpp if
    /// available
    #[command(after_long_help = engine::LLAMA_CPP_HELP)]
    Engine(engine::EngineArgs),
    /// Transfers that are killed at random moments, their throughput compared with curl, and that
    /// of copies from node to node compared with scp
    Download(download::DownloadArgs),
    /// What a link by SSH adds to a token and to a request, and its throughput compared with ssh
    Link(link::LinkArgs),
    /// A queen with many hives and workers: CPU time and memory, and the time of a routing decision
    Control(control::ControlArgs),
    /// How long a request waits if its worker is killed, or its machine falls silent
    Failover(failover::FailoverArgs),
    /// Start of a hive with many models
    Start {
        /// Directory of the rbee binaries; set by the xtask
        #[arg(long)]
        bin_dir: PathBuf,
        /// Number of models
        #[arg(long, default_value_t = 2000)]
        models: u32,
        /// Starts, of which the median counts
        #[arg(long, default_value_t = 9)]
        count: u32,
    },
    /// Fetches one file in this process; run by `download`
    #[command(hide = true)]
    DownloadOnce(download::OnceArgs),
    /// Measures one model in this process; run by `engine`
    #[command(hide = true)]
    EngineOnce(engine::OnceArgs),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Gateway {
            bin_dir,
            baseline,
            count,
        } => runtime()?.block_on(gateway::run(&bin_dir, baseline.as_deref(), count)),
        Command::Overhead {
            bin_dir,
            baseline,
            count,
        } => runtime()?.block_on(overhead::run(&bin_dir, baseline.as_deref(), count)),
        Command::Start {
            bin_dir,
            models,
            count,
        } => runtime()?.block_on(start::run(&bin_dir, models, count)),
        Command::Adapter(args) => runtime()?.block_on(adapter::run(&args)),
        Command::Control(args) => runtime()?.block_on(control::run(&args)),
        Command::Failover(args) => runtime()?.block_on(failover::run(&args)),
        Command::Link(args) => runtime()?.block_on(link::run(&args)),
        Command::Download(args) => runtime()?.block_on(download::run(&args)),
        Command::DownloadOnce(args) => runtime()?.block_on(download::run_once(&args)),
        Command::Engine(args) => engine::run(&args),
        Command::EngineOnce(args) => engine::run_once(&args),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new()
}
