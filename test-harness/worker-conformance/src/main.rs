//! `cargo xtask conformance`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool for developers"
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{ArgGroup, Parser};
use worker_conformance::{Target, run};

/// Check that a program keeps the worker contract, and print a report
#[derive(Parser)]
#[command(bin_name = "cargo xtask conformance", group = ArgGroup::new("target").required(true))]
struct Args {
    /// URL of a worker that runs. What needs to start and stop it is not checked
    #[arg(long, value_name = "URL", group = "target")]
    worker: Option<String>,
    /// File with the token of the worker
    #[arg(long, value_name = "FILE", requires = "worker")]
    token_file: Option<PathBuf>,
    /// Value of the option `--model` of the worker
    #[arg(long, default_value = "any", allow_hyphen_values = true)]
    model: String,
    /// Time that the worker may take to load its model
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    ready_limit: u64,
    /// Cases to leave out
    #[arg(long, value_name = "CASE")]
    skip: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Program to start, with its arguments; the last option. The options of the contract are
    /// appended, or replace the argument `{options}`
    #[arg(long, num_args = 1.., allow_hyphen_values = true, group = "target", value_name = "PROGRAM")]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let target = match args.worker {
        Some(url) => Target::Url {
            url,
            token_file: args.token_file,
        },
        None => Target::Command {
            command: args.command,
            model: args.model,
            ready_limit: Duration::from_secs(args.ready_limit),
        },
    };
    let report = match run(target, &args.skip).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report).unwrap_or_default()
        );
    } else {
        println!("{report}");
    }
    if report.failed().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
