//! What the adapter adds to an engine.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::machine;

/// Slots of the engine, and clients of the measurement of throughput.
const CLIENTS: u32 = 16;
const TOKENS: u32 = 64;
/// Targets of the mean time to the first token and of the throughput.
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
    /// Model
    #[arg(long, default_value = "models/haiku/rbee-haiku-tiny-f16.gguf")]
    model: PathBuf,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 15)]
    count: usize,
}

/// Measures the same requests to the engine itself and through the adapter, in turn.
pub async fn run(args: &AdapterArgs) -> Result<()> {
    println!(
        "adapter: {}; llama.cpp's server with {}, {CLIENTS} slots, greedy, {TOKENS} tokens, clients on the same cores, median of {}",
        machine::describe(),
        args.model.display(),
        args.count
    );
    let worker = Worker::start(args).await?;
    let targets = [worker.engine_target(), worker.adapter_target()];
    println!(
        "| clients | first token, engine | adapter | added | tokens/s, engine | adapter | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut met = true;
    for clients in [1, CLIENTS] {
        let mut rounds: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=args.count {
            // Who comes first changes, and nobody finds the prompt of the other in the cache.
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let measured = measure(&targets[which], clients, 2 * round + turn).await?;
                // The first round warms up connections and caches.
                if round > 0 {
                    rounds[which].push(measured);
                }
            }
        }
        let [engine, adapter] = &rounds;
        let first = |rounds: &[(f64, f64)]| median(rounds.iter().map(|round| round.0));
        let speed = |rounds: &[(f64, f64)]| median(rounds.iter().map(|round| round.1));
        let added = first(adapter) - first(engine);
        let ratio = speed(adapter) / speed(engine);
        println!(
            "| {clients} | {:.2} ms | {:.2} ms | {added:.2} ms | {:.0} | {:.0} | {ratio:.3} |",
            first(engine),
            first(adapter),
            speed(engine),
            speed(adapter),
        );
        met &= if clients == 1 {
            added < MAX_ADDED_MS
        } else {
            ratio > MIN_RATIO
        };
    }
    println!(
        "target: under {MAX_ADDED_MS} ms to the first token with one client, over {MIN_RATIO} of the throughput with {CLIENTS}: {}",
        if met { "met" } else { "missed" }
    );
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Where requests are sent, and how their streams mark a token.
#[derive(Clone)]
struct Target {
    http: reqwest::Client,
    url: String,
    token: String,
    mark: &'static str,
    /// Makes the body of a request with this text.
    body: fn(&str, &str) -> Value,
}

/// Returns the milliseconds to the first token, of the clients' median, and the tokens per second.
async fn measure(target: &Target, clients: u32, round: usize) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let target = target.clone();
        // The number comes first, so that no more than the template is cached.
        let text = format!("{round} and {client}: write a haiku about the rain.");
        let id = format!("bench-{client}-{round}-{clients}");
        tasks.spawn(async move { stream(&target, &id, &text).await });
    }
    let mut first = Vec::new();
    let mut tokens = 0;
    for result in tasks.join_all().await {
        let (time, count) = result?;
        first.push(time.as_secs_f64() * 1000.0);
        tokens += count;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok((median(first.into_iter()), tokens as f64 / seconds))
}

/// Returns the time to the first token, and the number of tokens.
async fn stream(target: &Target, id: &str, text: &str) -> Result<(Duration, usize)> {
    let begun = Instant::now();
    let request = target.http.post(&target.url).bearer_auth(&target.token);
    let request = request.json(&(target.body)(id, text));
    let mut response = request.send().await?.error_for_status()?;
    let mut first = None;
    let mut received = String::new();
    while let Some(piece) = response.chunk().await? {
        received.push_str(&String::from_utf8_lossy(&piece));
        if first.is_none() && received.contains(target.mark) {
            first = Some(begun.elapsed());
        }
    }
    let count = received.matches(target.mark).count();
    Ok((first.context("no token")?, count))
}

/// An engine and a worker that is attached to it, without a queen.
struct Worker {
    processes: Vec<Child>,
    _home: TempDir,
    http: reqwest::Client,
    url: String,
    engine: String,
    token: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Worker {
    async fn start(args: &AdapterArgs) -> Result<Self> {
        ensure!(
            args.server.exists(),
            "{} does not exist: run `cargo xtask outside engines`, which builds it",
            args.server.display()
        );
        let home = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let token = "ab".repeat(32);
        let token_file = home.path().join("token");
        fs::write(&token_file, &token)?;
        fs::set_permissions(&token_file, PermissionsExt::from_mode(0o600))?;
        let (port, engine_port) = (free_port()?, free_port()?);
        let engine = format!("http://127.0.0.1:{engine_port}");
        let mut worker = Self {
            processes: Vec::new(),
            _home: home,
            http: reqwest::Client::builder()
                .no_proxy()
                // llama.cpp's server closes connections between two requests.
                .pool_max_idle_per_host(0)
                .tcp_nodelay(true)
                .build()?,
            url: format!("http://127.0.0.1:{port}"),
            engine: engine.clone(),
            token,
        };
        let mut server = Command::new(&args.server);
        server
            .args(["--port", &engine_port.to_string(), "-c", "16384"])
            .args(["-np", &CLIENTS.to_string(), "-m"])
            .arg(&args.model)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        worker
            .processes
            .push(server.spawn().context("cannot start the engine")?);
        worker.wait_until_ready(&format!("{engine}/health")).await?;
        let mut adapter = Command::new(args.bin_dir.join("adapter-worker-rbee"));
        adapter
            .args([
                "--worker-id",
                "bench",
                "--device",
                "CPU-0",
                "--hive-id",
                "bench",
            ])
            .args(["--generation", "1", "--queen-url", "http://127.0.0.1:9"])
            .args(["--log", "error", "--slots", &CLIENTS.to_string()])
            .args(["--port", &port.to_string(), "--model"])
            .arg(&args.model)
            .args(["--engine", "llama-cpp", "--attach", &engine])
            .env("RBEE_WORKER_TOKEN_FILE", &token_file)
            .env("RBEE_QUEEN_TOKEN_FILE", &token_file)
            .stdin(Stdio::null());
        worker
            .processes
            .push(adapter.spawn().context("cannot start the adapter")?);
        let url = format!("{}/ready", worker.url);
        worker.wait_until_ready(&url).await?;
        Ok(worker)
    }

    async fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        loop {
            let response = self.http.get(url).bearer_auth(&self.token).send().await;
            if response.is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            for process in &mut self.processes {
                let exited = process.try_wait()?;
                ensure!(exited.is_none(), "a process exited: {exited:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn engine_target(&self) -> Target {
        Target {
            http: self.http.clone(),
            url: format!("{}/v1/chat/completions", self.engine),
            token: self.token.clone(),
            mark: "\"delta\":{\"content\":\"",
            body: |_, text| {
                json!({"messages": [{"role": "user", "content": text}], "stream": true,
                    "temperature": 0, "max_tokens": TOKENS})
            },
        }
    }

    fn adapter_target(&self) -> Target {
        Target {
            http: self.http.clone(),
            url: format!("{}/v1/infer", self.url),
            token: self.token.clone(),
            mark: "event: token\n",
            body: |id, text| {
                json!({"request_id": id, "max_tokens": TOKENS, "sampling": {"temperature": 0},
                    "input": {"messages": [{"role": "user", "content": text}]}})
            },
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
