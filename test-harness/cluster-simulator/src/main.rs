//! `cargo xtask sim`.
#![allow(clippy::print_stdout, reason = "a command line tool for developers")]

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use cluster_simulator::{FaultSet, Options, Plan, Report, run, shrink};

/// Run simulated clusters with faults, and check what rbee promises
#[derive(Parser)]
#[command(bin_name = "cargo xtask sim")]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of seeds, from the first one
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Number of nodes
    #[arg(long, default_value_t = 3)]
    hives: usize,
    /// Number of models; each has a worker where it is needed
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Number of requests
    #[arg(long, default_value_t = 200)]
    requests: usize,
    /// How often users deploy a model, or remove its deployment
    #[arg(long, default_value_t = 6)]
    deployments: usize,
    /// Requests per second; by default few with faults, and half of what is possible without
    #[arg(long)]
    rate: Option<u64>,
    /// What fails: all, none, or a list of loss, delay, duplicate, reorder, partition, asymmetric,
    /// skew, crash, stop, slow-disk, full-disk, lying, flapping
    #[arg(long, default_value = "all")]
    faults: FaultSet,
    /// Machines with memory for all models at the same time, and requests that all complete
    #[arg(long)]
    roomy: bool,
    /// Only name the seeds that break a promise, all of them
    #[arg(long)]
    keep_going: bool,
    /// Run this plan, which a failure wrote
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Where the smallest plan that fails is written
    #[arg(long, value_name = "FILE", default_value = "target/failing-plan.json")]
    write: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(path) = &args.plan {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let plan: Plan = serde_json::from_str(&text)?;
        let report = run(&plan, None)?;
        println!("{report:#?}");
        return Ok(code(&report));
    }
    let begun = Instant::now();
    let (mut requests, mut broken) = (0, 0);
    for seed in args.seed..args.seed + args.seeds {
        let plan = Plan::generate(&Options {
            seed,
            hives: args.hives,
            workers: args.workers,
            requests: args.requests,
            deployments: if args.roomy { 0 } else { args.deployments },
            faults: args.faults.clone(),
            roomy: args.roomy,
            rate: args.rate,
        });
        let report = run(&plan, None)?;
        requests += plan.requests.len();
        if args.seeds == 1 {
            println!("{report:#?}");
        }
        if let Some(violation) = &report.violation {
            println!("seed {seed} breaks a promise: {violation}");
            broken += 1;
            if args.keep_going {
                continue;
            }
            let small = shrink(&plan, None, violation.promise, 500)?;
            fs::write(&args.write, serde_json::to_string_pretty(&small)?)?;
            println!(
                "{} of {} requests and {} of {} faults are enough; replay them with `cargo xtask sim --plan {}`",
                small.requests.len(),
                plan.requests.len(),
                small.faults.len(),
                plan.faults.len(),
                args.write.display(),
            );
            return Ok(code(&report));
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let seeds = args.seeds;
    println!("{seeds} seeds with {requests} requests in {took:.1} s: {broken} broke a promise");
    Ok(ExitCode::from(u8::from(broken > 0)))
}

fn code(report: &Report) -> ExitCode {
    ExitCode::from(u8::from(report.violation.is_some()))
}
