//! Implements `cargo xtask fuzz`: runs libFuzzer on each target, on all processors.
#![allow(clippy::print_stdout, reason = "a command line tool for development")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    num::NonZero,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use guided_fuzzing::FuzzTarget;

/// Fuzzes the parsers of untrusted input, guided by code coverage
#[derive(Parser)]
#[command(bin_name = "cargo xtask fuzz")]
struct Args {
    /// Targets: gguf, safetensors, config, tokenizer, template, reasoning, constraint, body [default: all]
    targets: Vec<String>,
    /// Number of inputs per target
    #[arg(long, default_value_t = 5_000)]
    runs: u64,
    /// Duration per target in seconds, instead of a number of inputs
    #[arg(long, conflicts_with = "runs")]
    seconds: Option<u64>,
    /// Path of the binary with libFuzzer (set by xtask)
    #[arg(long)]
    program: PathBuf,
    /// Directory for inputs, logs and failing inputs (set by xtask)
    #[arg(long)]
    folder: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut targets = Vec::new();
    for name in &args.targets {
        targets.push(FuzzTarget::named(name).with_context(|| format!("unknown target {name}"))?);
    }
    if targets.is_empty() {
        targets.extend(FuzzTarget::ALL);
    }
    let count = targets.len();
    // Those that take longest are at the end.
    let waiting = Mutex::new(targets.into_iter().rev());
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    let worker = || {
        let mut passed = 0;
        while let Some(target) = next() {
            let mut report = String::new();
            passed += usize::from(fuzz(target, &args, &mut report)?);
            print!("{report}");
        }
        anyhow::Ok(passed)
    };
    let passed = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let passed = workers.into_iter().map(|worker| match worker.join() {
            Ok(passed) => passed,
            Err(panic) => resume_unwind(panic),
        });
        passed.sum::<Result<usize>>()
    })?;
    let failed = count - passed;
    println!("fuzz: {passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns whether the target passed, and writes the result to `report`.
fn fuzz(target: FuzzTarget, args: &Args, report: &mut String) -> Result<bool> {
    let name = target.name();
    let directory = args.folder.join(name);
    let (inputs, found) = (directory.join("inputs"), directory.join("found"));
    fs::create_dir_all(&inputs)?;
    fs::create_dir_all(&found)?;
    let words = directory.join("words");
    fs::write(&words, dictionary(&target.words()))?;
    let log = directory.join("log");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut program = Command::new(&args.program);
    program
        .env("RBEE_FUZZ_TARGET", name)
        // Threads may still run after a check, which is not a leak.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .arg(inputs)
        .args(target.corpora().iter().map(|corpus| root.join(corpus)))
        .arg(format!("-dict={}", words.display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([
            "-seed=1",
            "-max_len=8192",
            "-timeout=60",
            "-rss_limit_mb=4096",
        ])
        .arg("-print_final_stats=1")
        .arg(match args.seconds {
            Some(seconds) => format!("-max_total_time={seconds}"),
            None => format!("-runs={}", args.runs),
        })
        .stdout(File::create(directory.join("output"))?)
        .stderr(File::create(&log)?);
    let status = program
        .status()
        .with_context(|| format!("cannot run {program:?}"))?;
    let output = fs::read(&log)?;
    let output = String::from_utf8_lossy(&output);
    if status.success() {
        writeln!(report, "{name}: {}", summary(&output))?;
        return Ok(true);
    }
    writeln!(report, "fuzz {name} ... FAILED")?;
    writeln!(report, "{status}; last lines of {}:", log.display())?;
    for line in last_lines(&output, 30) {
        writeln!(report, "    {line}")?;
    }
    if !output.contains("artifact_prefix") {
        bail!("libFuzzer did not start");
    }
    writeln!(
        report,
        "add the failing inputs in {} to the corpus",
        found.display()
    )?;
    Ok(false)
}

/// Formats a libFuzzer dictionary: one word per line, each byte as hexadecimal escape.
fn dictionary(words: &[&str]) -> String {
    let mut lines = String::new();
    for word in words {
        lines.push('"');
        for byte in word.bytes() {
            let _ = write!(lines, "\\x{byte:02x}");
        }
        lines += "\"\n";
    }
    lines
}

/// Returns libFuzzer's final status line: number of inputs, coverage, corpus size, speed.
fn summary(log: &str) -> &str {
    let done = |line: &&str| line.contains("DONE") && line.contains("cov:");
    log.lines().find(done).unwrap_or("done").trim()
}

fn last_lines(log: &str, count: usize) -> impl Iterator<Item = &str> {
    let lines = log.lines().count();
    log.lines().skip(lines.saturating_sub(count))
}
