//! A queen that many hives and workers report to. Hives and workers are simulated in this process
//! and speak the real protocol over a socket each.

mod hives;
mod routing;
mod workers;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use cluster::Cluster;
use tokio::time::sleep;

use crate::{machine, process};

/// Goal: share of one core.
const MOST_CORES: f64 = 0.5;
/// Goal: resident memory in megabytes.
const MOST_MEGABYTES: f64 = 200.0;
/// Goal: 99th percentile of a routing decision in microseconds.
const MOST_MICROSECONDS: f64 = 100.0;
/// Time for the queen to finish what the last registration caused.
const SETTLE: Duration = Duration::from_secs(20);

/// Options of the benchmark.
#[derive(Args)]
pub struct ControlArgs {
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    /// Number of hives
    #[arg(long, default_value_t = 1000)]
    hives: u32,
    /// Number of workers, divided among the hives
    #[arg(long, default_value_t = 10_000)]
    workers: u32,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub async fn run(args: &ControlArgs) -> Result<()> {
    println!(
        "control: {}; {} hives and {} workers, which share its cores with the queen",
        machine::describe(),
        args.hives,
        args.workers
    );
    let routing = routing::measure(args.hives, args.workers)?;
    let directory = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
    let queen = Cluster::start_with(
        &args.bin_dir,
        &directory.path().join("queen"),
        &[],
        &["--no-local-hive", "--log", "warn"],
    )
    .await?;
    let begun = Instant::now();
    let hives = hives::start(args.hives).await?;
    hives::add(&queen, &hives).await?;
    let added = begun.elapsed();
    let workers = workers::Workers::start(&queen, &hives, args.workers).await?;
    sleep(SETTLE).await;
    let listed = queen.client.workers().await?.workers.len();
    ensure!(
        listed == args.workers as usize,
        "the queen lists {listed} workers of {}",
        args.workers
    );
    let pid = queen.queen_pid()?;
    let before = (Instant::now(), process::cpu_seconds(pid)?, workers.sent());
    sleep(Duration::from_secs(args.seconds)).await;
    let elapsed = before.0.elapsed().as_secs_f64();
    let cores = (process::cpu_seconds(pid)? - before.1) / elapsed;
    let sent = workers.sent() - before.2;
    let (resident, peak) = process::memory(pid)?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    workers.check()?;

    println!("| figure | value | goal |");
    println!("|---|---|---|");
    println!("| heartbeats per second | {:.0} | |", sent as f64 / elapsed);
    println!("| cores of the queen | {cores:.2} | {MOST_CORES} |");
    println!(
        "| microseconds of CPU per heartbeat, calls of hives included | {:.0} | |",
        cores * elapsed / sent as f64 * 1e6
    );
    println!(
        "| resident memory, MB | {:.0} | {MOST_MEGABYTES} |",
        megabytes(resident)
    );
    println!("| its peak, MB | {:.0} | |", megabytes(peak));
    println!(
        "| seconds to add the hives | {:.1} | |",
        added.as_secs_f64()
    );
    println!(
        "| routing decision, p50 and p99 in microseconds | {:.1}, {:.1} | {MOST_MICROSECONDS} |",
        routing.p50, routing.p99
    );
    ensure!(
        cores <= MOST_CORES
            && megabytes(resident) <= MOST_MEGABYTES
            && routing.p99 <= MOST_MICROSECONDS,
        "a goal is missed"
    );
    Ok(())
}
