//! What the adapter adds to an engine: the same requests to the engine itself and through the
//! adapter, in turn.

mod requests;
mod worker;

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use clap::Args;

use crate::machine;
use requests::{Target, stream, tokens_per_second};
use worker::Worker;

/// Slots of the engine, and clients of the measurement of throughput.
const CLIENTS: usize = 16;
/// Tokens of a request.
const TOKENS: usize = 64;
/// Requests of each client in a round of the measurement of throughput.
const REQUESTS: usize = 4;
/// Single requests for each round of the measurement of throughput.
const SINGLE: usize = 10;
/// Targets of the time to the first token and of the throughput.
const MAX_ADDED_MS: f64 = 1.0;
const MIN_RATIO: f64 = 0.95;

#[derive(Args)]
pub struct AdapterArgs {
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    /// llama.cpp's server
    #[arg(
        long,
        default_value = "target/outside/llama_cpp/build/bin/llama-server"
    )]
    server: PathBuf,
    /// Use a scripted server instead, which computes nothing and sends a token each millisecond
    #[arg(long)]
    scripted: bool,
    /// Model
    #[arg(long, default_value = "models/haiku/rbee-haiku-tiny-f16.gguf")]
    model: PathBuf,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 15)]
    count: usize,
}

impl AdapterArgs {
    fn engine_command(&self, port: u16) -> Result<Command> {
        if self.scripted {
            let mut command = Command::new(self.bin_dir.join("engine-sim"));
            command.args(["llama-cpp", "--port", &port.to_string()]);
            command.args(["--slots", &CLIENTS.to_string()]);
            return Ok(command);
        }
        ensure!(
            self.server.exists(),
            "{} does not exist: run `cargo xtask outside engines`, which builds it",
            self.server.display()
        );
        let mut command = Command::new(&self.server);
        command
            .args(["--port", &port.to_string(), "-c", "16384"])
            .args(["-np", &CLIENTS.to_string(), "-m"])
            .arg(&self.model);
        Ok(command)
    }

    /// What makes the text of a request from its number.
    fn text(&self) -> fn(usize) -> String {
        if self.scripted {
            // The server repeats what comes after the first word.
            |number| format!("say {number:0TOKENS$}")
        } else {
            // The number comes first, so that no more than the template is cached.
            |number| format!("{number}: write a haiku about the rain.")
        }
    }
}

/// Measures the same requests to the engine itself and through the adapter, in turn.
pub async fn run(args: &AdapterArgs) -> Result<()> {
    let engine = if args.scripted {
        "a scripted server".to_owned()
    } else {
        format!("llama.cpp's server with {}", args.model.display())
    };
    println!(
        "adapter: {}; {engine}, {CLIENTS} slots, greedy, {TOKENS} tokens, clients on the same cores, medians of {} rounds",
        machine::describe(),
        args.count
    );
    let worker = Worker::start(args).await?;
    let targets = [worker.engine_target(), worker.adapter_target()];
    let added = first_token(&targets, args).await?;
    let ratio = throughput(&worker, &targets, args).await?;
    let met = added < MAX_ADDED_MS && ratio > MIN_RATIO;
    println!(
        "target: under {MAX_ADDED_MS} ms to the first token with one client, over {MIN_RATIO} of the throughput with {CLIENTS}: {}",
        if met { "met" } else { "missed" }
    );
    Ok(())
}

/// Returns the milliseconds that the adapter adds to the first token of a single client.
async fn first_token(targets: &[Target; 2], args: &AdapterArgs) -> Result<f64> {
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let mut added = Vec::new();
    for round in 0..=args.count * SINGLE {
        let mut pair = [0.0; 2];
        for which in order(round) {
            // Nobody finds the prompt of another request in the cache.
            let number = 2 * round + which;
            let measured = stream(&targets[which], number, &args.text()(number)).await?;
            pair[which] = measured.first.as_secs_f64() * 1000.0;
        }
        // The first round warms up connections and caches.
        if round > 0 {
            added.push(pair[1] - pair[0]);
            times[0].push(pair[0]);
            times[1].push(pair[1]);
        }
    }
    let [engine, adapter] = times.map(|times| quantile(times, 0.5));
    let [low, middle, high] = quartiles(&added);
    println!("| first token, engine | adapter | added (middle half) |");
    println!("|---|---|---|");
    println!("| {engine:.2} ms | {adapter:.2} ms | {middle:.2} ms ({low:.2} to {high:.2}) |");
    Ok(middle)
}

/// Returns the ratio of the throughput with the adapter to that without it.
async fn throughput(worker: &Worker, targets: &[Target; 2], args: &AdapterArgs) -> Result<f64> {
    let mut speeds: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    // Numbers that no single request has had.
    let first = 2 * (args.count * SINGLE + 1);
    let before = worker.adapter_cpu_seconds()?;
    for round in 0..=args.count {
        let mut pair = [0.0; 2];
        for which in order(round) {
            let round = first + 2 * round + which;
            let target = &targets[which];
            pair[which] = tokens_per_second(target, CLIENTS, REQUESTS, round, args.text()).await?;
        }
        if round > 0 {
            ratios.push(pair[1] / pair[0]);
            speeds[0].push(pair[0]);
            speeds[1].push(pair[1]);
        }
    }
    let cpu = worker.adapter_cpu_seconds()? - before;
    let tokens = (args.count + 1) * CLIENTS * REQUESTS * TOKENS;
    let [engine, adapter] = speeds.map(|speeds| quantile(speeds, 0.5));
    let [low, middle, high] = quartiles(&ratios);
    println!("| tokens/s, engine | adapter | ratio (middle half) | CPU time of the adapter |");
    println!("|---|---|---|---|");
    println!(
        "| {engine:.0} | {adapter:.0} | {middle:.3} ({low:.3} to {high:.3}) | {:.1} µs per token |",
        cpu * 1e6 / tokens as f64
    );
    Ok(middle)
}

/// Who comes first changes.
fn order(round: usize) -> [usize; 2] {
    [round % 2, (round + 1) % 2]
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|share| quantile(values.to_vec(), share))
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    let index = (last * share).round() as usize;
    values.get(index).copied().unwrap_or_default()
}
