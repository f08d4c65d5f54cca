//! Development commands. They build what they need and install what is missing.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool for developers"
)]

mod bench;
mod cargo;
mod conformance;
mod cuda_check;
mod cuda_shims;
mod cuda_toolkit;
mod fuzz;
mod haiku_test;
mod inlined;
mod lint;
mod make_model;
mod mutants;
mod openapi;
mod outside;
mod outside_clients;
mod outside_engines;
mod outside_platforms;
mod sanitize;
mod setup;
mod simulate;
mod soak;
mod tally;
mod test;
mod test_programs;
mod tidy;
mod worker_catalog;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tally::Tally;

/// Development commands of rbee
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the haiku acceptance test: build the binaries, start them on the embedded model,
    /// stream a haiku that contains the word for the current minute, check it, stop everything
    Haiku(haiku_test::HaikuArgs),
    /// Run everything that can run on this machine: lints, unit tests, features, sanitizer,
    /// fuzzer, official clients, OpenAPI documents, a real model, haiku
    Test,
    /// Run feature files, all or those with these numbers
    Bdd(test::BddArgs),
    /// Run the tests of the kernels under the address sanitizer
    Sanitize,
    /// Run the parsers of untrusted input under libFuzzer
    #[command(disable_help_flag = true)]
    Fuzz(fuzz::FuzzArgs),
    /// Run formatting, clippy, documentation and tidy
    Lint,
    /// Check the rules of the layout
    Tidy,
    /// Write the OpenAPI documents, or check that they match the code
    Openapi {
        /// Only check
        #[arg(long)]
        check: bool,
    },
    /// Compare with programs of others: chat templates with jinja2, vocabularies with llama.cpp,
    /// a real model, and the API with real clients from their registries; add machines with other
    /// systems; serve models with llama.cpp. Downloads all of them
    Outside {
        /// Only this
        only: Option<OutsidePart>,
    },
    /// Measure performance, as ratios within one run
    #[command(disable_help_flag = true)]
    Bench(bench::BenchArgs),
    /// Run a queen and its nodes under load for long while links fail and machines freeze
    #[command(disable_help_flag = true)]
    Soak(soak::SoakArgs),
    /// Run simulated clusters with faults and a virtual clock, and check what rbee promises
    #[command(disable_help_flag = true)]
    Sim(simulate::SimulateArgs),
    /// Change the code of crates without IO in many places, and count what their tests notice
    Mutants(mutants::MutantsArgs),
    /// Check that a program keeps the worker contract, and print a report
    #[command(disable_help_flag = true)]
    Conformance(conformance::ConformanceArgs),
    /// Write a model with random weights, for tests and benchmarks
    #[command(disable_help_flag = true)]
    MakeModel(make_model::MakeModelArgs),
    /// Write the catalog of packages of workers as static files, and sign it
    #[command(disable_help_flag = true)]
    WorkerCatalog(worker_catalog::WorkerCatalogArgs),
    /// Fetch the compiler of CUDA into target/cuda; no GPU is needed
    CudaToolkit,
    /// Build the worker for GPUs of NVIDIA with that compiler. The result starts on every machine,
    /// and loads the libraries of CUDA when it needs them
    BuildCuda(cuda_toolkit::BuildCudaArgs),
    /// Check the worker for GPUs of NVIDIA on this machine's GPU: self-test, outputs compared with
    /// those of the worker for the CPU, haiku
    CudaCheck(cuda_toolkit::BuildCudaArgs),
    /// Run `test`, and check that it leaves the checkout unchanged
    Ci,
}

/// What `cargo xtask outside` compares.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OutsidePart {
    /// Chat templates and vocabularies
    Templates,
    /// A real model: chat with it
    Model,
    /// Real clients
    Clients,
    /// Machines with systems of their own
    Platforms,
    /// llama.cpp's own server behind the adapter
    Engines,
}

fn outside(only: Option<OutsidePart>) -> Result<Option<Tally>> {
    let is_part = |part| only.is_none_or(|only| only == part);
    let mut total = None;
    if is_part(OutsidePart::Templates) {
        outside::run()?;
    }
    if is_part(OutsidePart::Model) {
        *total.get_or_insert_default() += outside::real_model(&cargo::build_binaries(false)?)?;
    }
    if is_part(OutsidePart::Clients) {
        *total.get_or_insert_default() += outside_clients::run()?;
    }
    if is_part(OutsidePart::Platforms) {
        *total.get_or_insert_default() += outside_platforms::run()?;
    }
    if is_part(OutsidePart::Engines) {
        *total.get_or_insert_default() += outside_engines::run()?;
    }
    Ok(total)
}

fn main() -> ExitCode {
    let done = |result: Result<()>| result.map(|()| None);
    let result = match Args::parse().command {
        Command::Haiku(args) => done(haiku_test::run(&args)),
        Command::Test => test::run_all().map(Some),
        Command::Bdd(args) => test::run_bdd(&args).map(Some),
        Command::Sanitize => sanitize::run().map(Some),
        Command::Fuzz(args) => fuzz::run(&args, None).map(Some),
        Command::Lint => done(lint::run()),
        Command::Tidy => done(tidy::run()),
        Command::Openapi { check } => done(openapi::run(check)),
        Command::Outside { only } => outside(only),
        Command::Bench(args) => done(bench::run(&args)),
        Command::Soak(args) => done(soak::run(&args)),
        Command::Sim(args) => done(simulate::run(&args)),
        Command::Mutants(args) => done(mutants::run(&args)),
        Command::Conformance(args) => done(conformance::run(&args)),
        Command::MakeModel(args) => done(make_model::run(&args)),
        Command::WorkerCatalog(args) => done(worker_catalog::run(&args)),
        Command::CudaToolkit => {
            done(cuda_toolkit::fetch().map(|dir| println!("{}", dir.display())))
        }
        Command::BuildCuda(args) => done(cuda_toolkit::build(&args).map(|_| ())),
        Command::CudaCheck(args) => done(cuda_check::run(&args)),
        Command::Ci => test::run_ci().map(Some),
    };
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(tally)) => {
            if !tally.failures.is_empty() {
                println!("== failures");
            }
            for line in &tally.failures {
                println!("{line}");
            }
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
