use std::{panic::resume_unwind, process::Command, thread, time::Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    cargo::{build_binaries, cargo, metadata, root},
    fuzz::{self, FuzzArgs},
    haiku_test::{self, HaikuArgs},
    inlined, lint, outside, outside_clients, sanitize, setup,
    tally::Tally,
    test_programs::Build,
};

/// Options of `cargo xtask bdd`.
#[derive(Args)]
pub struct BddArgs {
    /// Feature numbers, such as `110 140` [default: all]
    pub numbers: Vec<String>,
    /// Run only scenarios whose tags match, such as `@real and not @slow`
    #[arg(long)]
    pub tags: Option<String>,
    /// Run only scenarios whose names match this regular expression
    #[arg(long)]
    pub name: Option<String>,
}

/// Runs everything that can run on this machine.
pub fn run_all() -> Result<Tally> {
    let started = Instant::now();
    let mut total = Tally::default();
    let phase = |name: &str| println!("== {name} (after {} s)", started.elapsed().as_secs());
    phase("lints");
    total += lint::lints()?;
    phase("build of the programs and tests");
    let Some(build) = Build::run()? else {
        total += Tally::one("build of the programs and tests", false);
        return Ok(total);
    };
    total += inlined::run(&build.kernels)?;
    phase("unit tests and features");
    setup::need_program("sshd", "openssh-server")?;
    setup::need_program("ip", "iproute2")?;
    for (program, package) in setup::BUILD_PROGRAMS {
        setup::need_program(program, package)?;
    }
    total += build.run_tests()?;
    let bin_dir = build.bin_dir;
    phase("kernels under the address sanitizer");
    total += sanitize::run()?;
    phase("parsers of untrusted input under libFuzzer");
    total += fuzz::run(&FuzzArgs { rest: Vec::new() }, Some(&bin_dir))?;
    phase("the OpenAPI documents, and official clients in Python and JavaScript");
    let python = setup::python_with_packages()?;
    let script = |path: &str, args: &[&str]| {
        Tally::of(
            Command::new(&python)
                .arg(root().join(path))
                .args(args)
                .env("RBEE_BIN_DIR", &bin_dir)
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )
    };
    total += thread::scope(|scope| -> Result<Tally> {
        // Each of them uses one processor.
        let conformance = [&["worker", "hive"][..], &["queen"]].map(|documents| {
            scope.spawn(|| script("test-harness/openapi/conformance.py", documents))
        });
        let mut clients = Tally::default();
        for client in ["openai", "anthropic", "ollama"] {
            clients += script(&format!("test-harness/end-to-end/{client}_client.py"), &[])?;
        }
        clients += outside_clients::quick(&bin_dir, &python)?;
        for conformance in conformance {
            let tally = conformance.join();
            clients += tally.unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        Ok(clients)
    })?;
    phase("a real model");
    total += outside::real_model(&bin_dir)?;
    phase("haiku acceptance test");
    total += haiku(&bin_dir);
    println!("all suites took {} s", started.elapsed().as_secs());
    Ok(total)
}

fn haiku(bin_dir: &std::path::Path) -> Tally {
    let args = HaikuArgs {
        backend: "cpu".into(),
        model: None,
        node: None,
        release: false,
    };
    let report = haiku_test::accept(bin_dir, &args, true);
    println!();
    let passed = match report {
        Ok((report, _)) => {
            for miss in &report.misses {
                println!("haiku: {miss}");
            }
            report.passed()
        }
        Err(error) => {
            println!("haiku: {error:#}");
            false
        }
    };
    Tally::one("haiku", passed)
}

/// Runs `test` and checks that it leaves the checkout unchanged.
pub fn run_ci() -> Result<Tally> {
    let before = git_status()?;
    let mut total = run_all()?;
    let after = git_status()?;
    if before != after {
        println!("the tests changed the checkout:\n{after}");
    }
    total += Tally::one("unchanged checkout", before == after);
    Ok(total)
}

fn git_status() -> Result<String> {
    let output = Command::new("git")
        .args(["status", "--porcelain"])
        .current_dir(root())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs feature files by number, each in the crate that owns it.
pub fn run_bdd(args: &BddArgs) -> Result<Tally> {
    let owners = owners()?;
    for number in &args.numbers {
        if !owners.iter().any(|(_, features)| covers(features, number)) {
            bail!("no crate owns feature {number}");
        }
    }
    let bin_dir = build_binaries(false)?;
    let mut total = Tally::default();
    for (package, features) in owners {
        if !args.numbers.is_empty() && !args.numbers.iter().any(|n| covers(&features, n)) {
            continue;
        }
        let mut command = cargo();
        command
            .args([
                "test",
                "--quiet",
                "--package",
                &package,
                "--test",
                "bdd",
                "--",
            ])
            .env("RBEE_BIN_DIR", &bin_dir)
            .env("RBEE_BDD_ONLY", args.numbers.join(","));
        if let Some(tags) = &args.tags {
            command.args(["--tags", tags]);
        }
        if let Some(name) = &args.name {
            command.args(["--name", name]);
        }
        total += Tally::of(&mut command)?;
    }
    ensure!(total.passed + total.failed > 0, "no scenario ran");
    Ok(total)
}

fn covers(features: &[String], number: &str) -> bool {
    features
        .iter()
        .any(|f| f.starts_with(&format!("{number}-")))
}

/// Returns the packages that own features.
pub fn owners() -> Result<Vec<(String, Vec<String>)>> {
    let metadata = metadata()?;
    let mut owners = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let features: Vec<String> = package["metadata"]["bdd"]["features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        if !features.is_empty() {
            owners.push((
                package["name"].as_str().unwrap_or_default().to_owned(),
                features,
            ));
        }
    }
    Ok(owners)
}
