//! Measures, as ratios within one run: `cargo xtask bench gateway|engine|overhead`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program of the project's own"
)]

mod engine;
mod gateway;
mod machine;
mod overhead;
mod servers;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures, as ratios within one run.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the queen adds to a call of the worker, against nginx.
    Gateway {
        /// Folder of the programs; the xtask fills it in.
        #[arg(long)]
        bin_dir: PathBuf,
        /// Requests for each target and number of clients.
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// Tokens per second that a worker's loop and streams carry, with an engine at no cost.
    Overhead {
        /// Folder of the programs; the xtask fills it in.
        #[arg(long)]
        bin_dir: PathBuf,
        /// Repetitions of each row; the median counts.
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
    /// Tokens per second, memory and load time of the engine, against llama.cpp when there
    /// is one.
    #[command(after_long_help = engine::LLAMA_CPP_HELP)]
    Engine(engine::EngineArgs),
    /// Measures one model in this process, for `engine`.
    #[command(hide = true)]
    EngineOnce(engine::OnceArgs),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Gateway { bin_dir, count } => {
            tokio::runtime::Runtime::new()?.block_on(gateway::run(&bin_dir, count))
        }
        Command::Overhead { bin_dir, count } => {
            tokio::runtime::Runtime::new()?.block_on(overhead::run(&bin_dir, count))
        }
        Command::Engine(args) => engine::run(&args),
        Command::EngineOnce(args) => engine::run_once(&args),
    }
}
