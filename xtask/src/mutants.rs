use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::cargo::{cargo, root, succeed, target_dir};

/// Version of cargo-mutants that is installed if the machine has none.
const VERSION: &str = "27.1.0";
/// Share of the viable mutants that tests must notice, in percent.
const GOAL_PERCENT: u64 = 95;

/// A crate without IO, and which files of it; all if empty.
struct Pure {
    package: &'static str,
    files: &'static [&'static str],
}

const PURE: [Pure; 4] = [
    Pure {
        package: "request-queue",
        files: &[],
    },
    Pure {
        package: "worker-registry",
        files: &[],
    },
    Pure {
        package: "inference-execution",
        files: &[
            "crates/inference-execution/src/scheduler/*.rs",
            "crates/inference-execution/src/blocks/*.rs",
        ],
    },
    Pure {
        package: "scheduler",
        files: &[],
    },
];

/// Options of `cargo xtask mutants`.
#[derive(Args)]
pub struct MutantsArgs {
    /// Only this crate
    #[arg(long)]
    package: Option<String>,
    /// A share of the mutants of each file, for example 0/20: every 20th, from the first on
    #[arg(long)]
    shard: Option<String>,
    /// Only mutants in this file
    #[arg(long)]
    file: Option<String>,
}

/// What became of the mutants of a crate.
#[derive(Debug, Default)]
struct Outcome {
    caught: u64,
    missed: u64,
    /// Tests did not end: they noticed it.
    timed_out: u64,
    /// Mutants that do not compile.
    unviable: u64,
}

impl Outcome {
    fn viable(&self) -> u64 {
        self.caught + self.missed + self.timed_out
    }

    fn meets_goal(&self) -> bool {
        (self.caught + self.timed_out) * 100 >= self.viable() * GOAL_PERCENT
    }
}

/// Changes the code of crates without IO, one place after another, and runs their unit tests.
pub fn run(args: &MutantsArgs) -> Result<()> {
    let program = cargo_mutants()?;
    let mut crates = PURE.iter().filter(|pure| {
        let only = args.package.as_deref();
        only.is_none_or(|only| only == pure.package)
    });
    let mut missed_goal = Vec::new();
    let mut report = String::from("| crate | caught | missed | timed out | do not compile |\n");
    report.push_str("|---|---|---|---|---|\n");
    let Some(first) = crates.next() else {
        let names = PURE.map(|pure| pure.package).join(", ");
        bail!("no such crate; there are {names}");
    };
    for pure in std::iter::once(first).chain(crates) {
        let outcome = examine(&program, pure, args)?;
        report.push_str(&row(pure.package, &outcome));
        if !outcome.meets_goal() {
            missed_goal.push(pure.package);
        }
    }
    print!("{report}");
    ensure!(
        missed_goal.is_empty(),
        "tests notice less than {GOAL_PERCENT} % of the mutants of {}; \
         target/mutants has the others in missed.txt",
        missed_goal.join(", ")
    );
    Ok(())
}

fn row(package: &str, outcome: &Outcome) -> String {
    let Outcome {
        caught,
        missed,
        timed_out,
        unviable,
    } = outcome;
    format!("| {package} | {caught} | {missed} | {timed_out} | {unviable} |\n")
}

fn examine(program: &PathBuf, pure: &Pure, args: &MutantsArgs) -> Result<Outcome> {
    let out = target_dir()?.join("mutants").join(pure.package);
    fs::create_dir_all(&out)?;
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .args(["mutants", "--package", pure.package, "--no-shuffle"])
        .args(["--baseline", "skip", "--timeout", "120"])
        .args(["--colors", "never", "--output"])
        .arg(&out)
        .env("CARGO_INCREMENTAL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "false");
    match &args.file {
        Some(file) => {
            command.args(["--file", file]);
        }
        None => {
            for file in pure.files {
                command.args(["--file", file]);
            }
        }
    }
    if let Some(shard) = &args.shard {
        command.args(["--shard", shard, "--sharding", "round-robin"]);
    }
    // Not the features, which start programs: they are neither built nor run.
    command.args(["--cargo-arg", "--lib"]);
    let status = command.status().context("cannot start cargo-mutants")?;
    // 2: mutants were missed; 3: tests did not end (documentation of cargo-mutants).
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants failed: {status}"
    );
    let outcomes = fs::read_to_string(out.join("mutants.out/outcomes.json"))?;
    let outcomes: Value = serde_json::from_str(&outcomes)?;
    let number = |name: &str| outcomes[name].as_u64().unwrap_or(0);
    Ok(Outcome {
        caught: number("caught"),
        missed: number("missed"),
        timed_out: number("timeout"),
        unviable: number("unviable"),
    })
}

/// Returns the program of cargo-mutants, which is installed below the target directory if the
/// machine has none.
fn cargo_mutants() -> Result<PathBuf> {
    let mut installed = Command::new("cargo-mutants");
    let version = installed.args(["mutants", "--version"]).output();
    if version.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-mutants".into());
    }
    let directory = target_dir()?.join("cargo-mutants");
    let program = directory.join("bin/cargo-mutants");
    if !program.exists() {
        println!("installing cargo-mutants {VERSION}");
        succeed(
            cargo()
                .args(["install", "cargo-mutants", "--locked", "--version", VERSION])
                .arg("--root")
                .arg(&directory),
        )?;
    }
    Ok(program)
}
