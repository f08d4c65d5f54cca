//! Start of a hive with many models.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use state_files::{DaemonRecord, Home, ModelFile, ModelRecord};
use worker_contract::SamplingValues;

use crate::machine;

/// How long a hive may take; the first one enters all models into its database.
const LIMIT: Duration = Duration::from_secs(120);
/// Milliseconds that a start with models may take.
const MOST: f64 = 100.0;

/// Measures the time from the start of the process to its first response, without models and
/// with `models`.
pub async fn run(bin_dir: &Path, models: u32, count: u32) -> Result<()> {
    println!("start of a hive: {}", machine::describe());
    println!("| models | ms |");
    println!("|---|---|");
    let mut last = 0.0;
    for models in [0, models] {
        let dir = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let home = Home::open(Some(dir.path().to_owned()))?;
        for number in 0..models {
            add_model(&home, number)?;
        }
        // The first start enters the models.
        start(bin_dir, &home).await?;
        let mut times = Vec::new();
        for _ in 0..count.max(1) {
            times.push(start(bin_dir, &home).await?.as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        last = times[times.len() / 2];
        println!("| {models} | {last:.0} |");
    }
    ensure!(last <= MOST, "more than {MOST} ms");
    Ok(())
}

fn add_model(home: &Home, number: u32) -> Result<()> {
    let record = ModelRecord {
        model: format!("hf:org/repo-{number}:Q8_0").parse()?,
        requested: format!("hf:org/repo-{number}").parse()?,
        revision: format!("{number:040x}"),
        entry: "model.gguf".to_owned(),
        files: vec![ModelFile {
            path: "model.gguf".to_owned(),
            size_bytes: 4,
            sha256: "0".repeat(64),
        }],
        architecture: "llama".to_owned(),
        quantization: "Q8_0".to_owned(),
        context_length: 4096,
        parameters: 1,
        sampling: SamplingValues::default(),
        sha256: "0".repeat(64),
        added_at: jiff::Timestamp::now(),
    };
    let dir = home.model_dirs().of(&record.model, &record.revision);
    fs::create_dir_all(dir.files())?;
    fs::write(dir.files().join("model.gguf"), "GGUF")?;
    record.write(&dir)?;
    Ok(())
}

/// Starts a hive, stops it, and returns how long its first response took.
async fn start(bin_dir: &Path, home: &Home) -> Result<Duration> {
    let begun = Instant::now();
    let mut hive = Hive(
        Command::new(bin_dir.join("rbee-hive"))
            .args([
                "--port",
                "0",
                "--worker-ports",
                "0",
                "--log",
                "off",
                "--home",
            ])
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the hive")?,
    );
    let client = reqwest::Client::new();
    let took = loop {
        ensure!(begun.elapsed() < LIMIT, "the hive does not respond");
        ensure!(hive.0.try_wait()?.is_none(), "the hive has exited");
        let record = DaemonRecord::read(&home.hive_record())?;
        if let Some(record) = record.filter(|r| r.process.pid == hive.0.id()) {
            let health = client.get(format!("{}/v1/health", record.url)).send().await;
            if health.is_ok_and(|response| response.status().is_success()) {
                break begun.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let pid = rustix::process::Pid::from_child(&hive.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    ensure!(hive.0.wait()?.success(), "the hive failed");
    Ok(took)
}

/// Is killed when dropped.
struct Hive(Child);

impl Drop for Hive {
    fn drop(&mut self) {
        // Both fail only if it has exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
