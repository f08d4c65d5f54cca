//! The project's own commands. They build what they need and set up what is missing.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program of the project's own"
)]

mod bench;
mod cargo;
mod fuzz;
mod haiku_test;
mod inlined;
mod lint;
mod make_model;
mod openapi;
mod sanitize;
mod setup;
mod tally;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the haiku acceptance test: builds the programs, starts them on the embedded
    /// model, streams a haiku with the word of the minute, checks it, stops everything.
    Haiku(haiku_test::HaikuArgs),
    /// Runs everything that can run here: lints, unit tests, features, the sanitizer,
    /// the fuzzer, the official clients, the haiku.
    Test,
    /// Runs feature files, all or those with these numbers.
    Bdd(test::BddArgs),
    /// Runs the tests of the kernels under the address sanitizer.
    Sanitize,
    /// Runs the parsers of foreign bytes under libFuzzer.
    #[command(disable_help_flag = true)]
    Fuzz(fuzz::FuzzArgs),
    /// Runs formatting, clippy, documentation and tidy.
    Lint,
    /// Checks the rules of the layout.
    Tidy,
    /// Writes the OpenAPI documents, or checks that they are what the code says.
    Openapi {
        /// Only check.
        #[arg(long)]
        check: bool,
    },
    /// Measures, as ratios within one run.
    #[command(disable_help_flag = true)]
    Bench(bench::BenchArgs),
    /// Writes a model with random weights, for tests and benches.
    #[command(disable_help_flag = true)]
    MakeModel(make_model::MakeModelArgs),
    /// Runs `test`, and checks that it leaves the checkout as it was.
    Ci,
}

fn main() -> ExitCode {
    let done = |result: Result<()>| result.map(|()| None);
    let result = match Args::parse().command {
        Command::Haiku(args) => done(haiku_test::run(&args)),
        Command::Test => test::run_all().map(Some),
        Command::Bdd(args) => test::run_bdd(&args).map(Some),
        Command::Sanitize => sanitize::run().map(Some),
        Command::Fuzz(args) => fuzz::run(&args).map(Some),
        Command::Lint => done(lint::run()),
        Command::Tidy => done(tidy::run()),
        Command::Openapi { check } => done(openapi::run(check)),
        Command::Bench(args) => done(bench::run(&args)),
        Command::MakeModel(args) => done(make_model::run(&args)),
        Command::Ci => test::run_ci().map(Some),
    };
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(tally)) => {
            println!("{tally}");
            if tally.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
