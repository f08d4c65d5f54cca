//! How long a request waits if its worker is lost: before its first token, and in the middle of its
//! stream. A queen, two hives and their workers run on this machine.

mod stream;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cluster::{Cluster, HiveProcess};
use input_validation::{NodeName, WorkerId};
use queen_contract::{NodeStatus, SpawnCall, WorkerEntry};
use rustix::process::{Pid, Signal, kill_process};
use state_files::DaemonRecord;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::machine;
use stream::Tokens;

/// Goal: milliseconds from a request to its first token if its first worker refuses connections.
const MOST_REFUSED_MS: f64 = 100.0;
/// Goal: seconds without a token if a machine falls silent.
const MOST_SILENT_SECONDS: f64 = 15.0;
/// Tokens before a machine falls silent.
const TOKENS_BEFORE: usize = 10;
/// Longest time until the queen reaches a machine that responds again.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// Options of the benchmark.
#[derive(Args)]
pub struct FailoverArgs {
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    /// Workers that are killed, of which each delays one request
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Machines that fall silent
    #[arg(long, default_value_t = 3)]
    silences: u32,
}

pub async fn run(args: &FailoverArgs) -> Result<()> {
    println!(
        "failover: {}; a queen and two hives; mock engine",
        machine::describe()
    );
    let setting = Setting::start(args).await?;
    let mut undisturbed = Vec::new();
    let mut refused = Vec::new();
    let mut moved = 0;
    for number in 0..args.kills {
        // Each round has a model of its own, whose workers nobody has lost before.
        let model = format!("mock:length=16,context={}", 1024 + number);
        let workers = setting.spawn(&model).await?;
        let (healthy, worker) = setting.first_token(&model).await?;
        undisturbed.push(healthy);
        let worker = workers.iter().find(|entry| entry.info.id == worker);
        let worker = worker.context("a worker that was not spawned served a request")?;
        signal(worker.info.pid, Signal::KILL)?;
        let (time, server) = setting.first_token(&model).await?;
        ensure!(server != worker.info.id, "a killed worker served a request");
        moved += u32::from(time > healthy);
        refused.push(time);
    }
    let mut silent = Vec::new();
    for number in 0..args.silences {
        let model = format!(
            "mock:length=3000,tokens_per_second=20,context={}",
            8192 + number
        );
        silent.push(setting.silence(&model).await?);
    }
    let worst = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let (p50, most_refused) = (median(&mut refused), worst(&refused));
    let most_silent = worst(&silent);
    println!("| figure | median | maximum | goal |");
    println!("|---|---|---|---|");
    println!(
        "| first token, ms, undisturbed | {:.1} | {:.1} | |",
        median(&mut undisturbed),
        worst(&undisturbed)
    );
    println!(
        "| first token, ms, worker just killed ({moved} of {} took longer) | {p50:.1} | \
         {most_refused:.1} | {MOST_REFUSED_MS} |",
        args.kills
    );
    println!(
        "| next token, s, machine silent | {:.1} | {most_silent:.1} | {MOST_SILENT_SECONDS} |",
        median(&mut silent)
    );
    ensure!(
        most_refused < MOST_REFUSED_MS && most_silent < MOST_SILENT_SECONDS,
        "a goal is missed"
    );
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}

/// A queen with two nodes.
struct Setting {
    queen: Cluster,
    hives: Vec<HiveProcess>,
    _directory: TempDir,
}

impl Setting {
    async fn start(args: &FailoverArgs) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let queen = Cluster::start_with(
            &args.bin_dir,
            &directory.path().join("queen"),
            &[],
            &["--no-local-hive", "--log", "warn"],
        )
        .await?;
        let mut hives = Vec::new();
        for name in ["one", "two"] {
            let environment = &[("RBEE_WORKER_PORTS", "0")];
            let hive =
                HiveProcess::start(&args.bin_dir, directory.path(), name, environment).await?;
            queen.add(&hive).await?;
            hives.push(hive);
        }
        Ok(Self {
            queen,
            hives,
            _directory: directory,
        })
    }

    /// Spawns a worker for a model on each node.
    async fn spawn(&self, model: &str) -> Result<Vec<WorkerEntry>> {
        let mut workers = Vec::new();
        for hive in &self.hives {
            let call = SpawnCall {
                model: model.parse()?,
                node: Some(hive.name.clone()),
                backend: None,
                engine: None,
            };
            let spawned = self.queen.client.spawn_worker(&call).await?;
            workers.push(self.queen.client.worker(&spawned.worker_id).await?);
        }
        Ok(workers)
    }

    /// Returns the milliseconds to the first token of a request, and the worker that produced it.
    async fn first_token(&self, model: &str) -> Result<(f64, WorkerId)> {
        let begun = Instant::now();
        let mut tokens = Tokens::request(&self.queen, model).await?;
        tokens.next().await?;
        let time = begun.elapsed().as_secs_f64() * 1e3;
        let worker = tokens.worker()?;
        tokens.finish().await?;
        Ok((time, worker))
    }

    /// Stops the worker and the hive of a stream, and returns the seconds to its next token.
    async fn silence(&self, model: &str) -> Result<f64> {
        let workers = self.spawn(model).await?;
        let mut tokens = Tokens::request(&self.queen, model).await?;
        for _ in 0..TOKENS_BEFORE {
            tokens.next().await?;
        }
        let id = tokens.worker()?;
        let worker = workers.iter().find(|entry| entry.info.id == id);
        let worker = worker.context("a worker that was not spawned serves a request")?;
        let hive = self
            .hives
            .iter()
            .find(|hive| hive.name == worker.info.hive_id);
        let hive = hive.context("a hive that was not started serves a request")?;
        let record = DaemonRecord::read(&hive.home.hive_record())?;
        let record = record.context("the hive has no record")?;
        let stopped = [worker.info.pid, record.process.pid];
        for pid in stopped {
            signal(pid, Signal::STOP)?;
        }
        // What was under way when the machine fell silent still arrives.
        let mut last = Instant::now();
        let seconds = loop {
            tokens.next().await?;
            if tokens.worker()? != id {
                break last.elapsed().as_secs_f64();
            }
            last = Instant::now();
        };
        drop(tokens);
        for pid in stopped {
            signal(pid, Signal::CONT)?;
        }
        self.reached(&hive.name).await?;
        Ok(seconds)
    }

    /// Waits until the queen reaches a node.
    async fn reached(&self, node: &NodeName) -> Result<()> {
        let limit = Instant::now() + RETURN_LIMIT;
        while self.queen.client.node(node).await?.status != NodeStatus::Reachable {
            ensure!(Instant::now() < limit, "node {node} does not return");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
