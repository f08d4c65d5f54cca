//! `cargo xtask soak links|freeze`.
#![allow(clippy::print_stdout, reason = "a command line tool for developers")]

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Long runs under load while something fails
#[derive(Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Args {
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lose the link of a node again and again
    Links {
        /// Number of losses
        #[arg(long, default_value_t = 100)]
        cycles: u32,
    },
    /// Freeze a machine
    Freeze,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Command::Links { cycles } => {
            print!("{}", soak::links::run(&args.bin_dir, cycles).await?);
        }
        Command::Freeze => {
            let report = soak::freeze::run(&args.bin_dir, &[]).await?;
            println!(
                "{} requests, {} moved; the longest took {:.1} s after the machine froze; none was \
                 assigned to it later than {:.1} s after",
                report.sent,
                report.moved,
                report.longest.as_secs_f64(),
                report.avoided_after.as_secs_f64()
            );
        }
    }
    Ok(())
}
