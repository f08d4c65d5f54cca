//! Measures, as ratios within one run: `cargo xtask bench gateway|engine`.
#![allow(
    clippy::print_stdout,
    reason = "a command line program of the project's own"
)]

mod engine;
mod gateway;
mod machine;
mod servers;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the queen adds to a call of the worker, against nginx.
    Gateway {
        /// Folder of the programs.
        #[arg(long)]
        bin_dir: PathBuf,
        /// Requests for each target and number of clients.
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// Tokens per second of the embedded model.
    Engine {
        /// Folder of the programs; not used.
        #[arg(long)]
        bin_dir: PathBuf,
        /// Repetitions of each row; the median counts.
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Gateway { bin_dir, count } => {
            tokio::runtime::Runtime::new()?.block_on(gateway::run(&bin_dir, count))
        }
        Command::Engine { count, .. } => engine::run(count),
    }
}
