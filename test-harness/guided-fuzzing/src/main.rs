//! Runs the guided program on one target after the other: `cargo xtask fuzz`.
#![allow(
    clippy::print_stdout,
    reason = "a command line program of the project's own"
)]

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use guided_fuzzing::Target;

/// Runs the checks of foreign bytes with inputs that are kept when they reach new code.
#[derive(Parser)]
#[command(bin_name = "cargo xtask fuzz")]
struct Args {
    /// Targets; all when none is given: gguf, safetensors, config, tokenizer, template,
    /// constraint, body.
    targets: Vec<String>,
    /// Inputs for each target.
    #[arg(long, default_value_t = 5_000)]
    runs: u64,
    /// Run each target for so long instead.
    #[arg(long, conflicts_with = "runs")]
    seconds: Option<u64>,
    /// The guided program; the xtask fills it in.
    #[arg(long)]
    program: PathBuf,
    /// Where inputs, logs and what failed are kept; the xtask fills it in.
    #[arg(long)]
    folder: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut targets = Vec::new();
    for name in &args.targets {
        let named = Target::ALL.into_iter().find(|target| target.name() == name);
        targets.push(named.with_context(|| format!("there is no target {name}"))?);
    }
    if targets.is_empty() {
        targets.extend(Target::ALL);
    }
    let (mut passed, mut failed) = (0, 0);
    for target in targets {
        if fuzz(target, &args)? {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("fuzz: {passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether nothing was found.
fn fuzz(target: Target, args: &Args) -> Result<bool> {
    let name = target.name();
    let folder = args.folder.join(name);
    let (inputs, found) = (folder.join("inputs"), folder.join("found"));
    fs::create_dir_all(&inputs)?;
    fs::create_dir_all(&found)?;
    let words = folder.join("words");
    fs::write(&words, dictionary(&target.words()))?;
    let log = folder.join("log");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut program = Command::new(&args.program);
    program
        .env("RBEE_FUZZ_TARGET", name)
        // What still runs when a check ends is no leak.
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
        .stdout(File::create(folder.join("output"))?)
        .stderr(File::create(&log)?);
    let status = program
        .status()
        .with_context(|| format!("cannot run {program:?}"))?;
    let told = fs::read(&log)?;
    let told = String::from_utf8_lossy(&told);
    if status.success() {
        println!("{name}: {}", summary(&told));
        return Ok(true);
    }
    println!("{name}: {status}; {} ends with:", log.display());
    for line in last_lines(&told, 30) {
        println!("    {line}");
    }
    if !told.contains("artifact_prefix") {
        bail!("libFuzzer did not start");
    }
    println!("what is in {} belongs into the corpus", found.display());
    Ok(false)
}

/// One word a line, each byte by its number.
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

/// What libFuzzer tells of its last input: number, places reached, inputs kept, speed.
fn summary(log: &str) -> &str {
    let done = |line: &&str| line.contains("DONE") && line.contains("cov:");
    log.lines().find(done).unwrap_or("done").trim()
}

fn last_lines(log: &str, most: usize) -> impl Iterator<Item = &str> {
    let lines = log.lines().count();
    log.lines().skip(lines.saturating_sub(most))
}
