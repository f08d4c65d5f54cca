use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{machine, process::cpu_seconds};

/// Tokens of a response, the end token included.
const RESPONSE_TOKENS: u64 = 513;
/// Mock engine that costs nothing, with a slot for every client.
const MODEL: &str = "slots=64,length=512,context=1024";
/// First line of a token event.
const TOKEN_EVENT: &[u8] = b"event: token\n";
/// Resolution of CPU times, in seconds.
const CPU_RESOLUTION: f64 = 0.01;

/// Measures the tokens per second of one worker's loop and event streams with an engine that
/// costs nothing. Clients and worker share the machine. `baseline` is the directory of another
/// build, whose worker is measured in the same run.
pub async fn run(bin_dir: &Path, baseline: Option<&Path>, count: u32) -> Result<()> {
    println!(
        "overhead: {}; mock engine, greedy, {RESPONSE_TOKENS} tokens per stream, clients on the same cores, median of {count}",
        machine::describe()
    );
    println!(
        "| clients | worker | tokens/s | tokens per CPU second of the worker | tokens per write | first token p50 ms | p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut workers = vec![("this build", Worker::start(bin_dir).await?)];
    if let Some(baseline) = baseline {
        workers.push(("baseline", Worker::start(baseline).await?));
    }
    for clients in [1, 16, 64] {
        let mut rounds: Vec<Vec<Round>> = workers.iter().map(|_| Vec::new()).collect();
        for round in 0..=count {
            for ((_, worker), rounds) in workers.iter().zip(&mut rounds) {
                let measured = round_of(worker, clients).await?;
                // The first round warms up connections and caches.
                if round > 0 {
                    rounds.push(measured);
                }
            }
        }
        for ((name, _), rounds) in workers.iter().zip(&mut rounds) {
            print_row(clients, name, rounds)?;
        }
    }
    Ok(())
}

fn print_row(clients: u32, name: &str, rounds: &mut [Round]) -> Result<()> {
    rounds.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    let median = rounds.get(rounds.len() / 2).context("no round")?;
    println!(
        "| {clients} | {name} | {:.0} | {:.0} | {:.1} | {:.2} | {:.2} |",
        median.per_second(),
        median.tokens as f64 / median.worker_seconds.max(CPU_RESOLUTION),
        median.tokens as f64 / median.pieces as f64,
        median.first_token(50),
        median.first_token(99),
    );
    Ok(())
}

/// Result of one round.
struct Round {
    tokens: u64,
    /// Pieces of the bodies as the clients received them, at least one for each write of the
    /// worker.
    pieces: u64,
    took: Duration,
    worker_seconds: f64,
    /// Sorted.
    first_tokens: Vec<Duration>,
}

impl Round {
    fn per_second(&self) -> f64 {
        self.tokens as f64 / self.took.as_secs_f64()
    }

    fn first_token(&self, percent: usize) -> f64 {
        let last = self.first_tokens.len().saturating_sub(1);
        let at = (self.first_tokens.len() * percent / 100).min(last);
        self.first_tokens
            .get(at)
            .map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    }
}

/// One client's stream.
struct Streamed {
    tokens: u64,
    pieces: u64,
    first_token: Duration,
}

/// Sends eight requests per client, one after the other.
async fn round_of(worker: &Worker, clients: u32) -> Result<Round> {
    const REQUESTS: u32 = 8;
    let cpu = cpu_seconds(worker.process.id())?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let http = worker.http.clone();
        let (url, token) = (worker.url.clone(), worker.token.clone());
        tasks.spawn(async move {
            let mut all = Vec::new();
            for request in 0..REQUESTS {
                let name = format!("bench-{client}-{request}");
                all.push(stream(&http, &url, &token, &name).await?);
            }
            anyhow::Ok(all)
        });
    }
    let mut streams = Vec::new();
    for result in tasks.join_all().await {
        streams.extend(result?);
    }
    let took = begun.elapsed();
    let worker_seconds = cpu_seconds(worker.process.id())? - cpu;
    let mut first_tokens: Vec<_> = streams.iter().map(|s| s.first_token).collect();
    first_tokens.sort_unstable();
    Ok(Round {
        tokens: streams.iter().map(|s| s.tokens).sum(),
        pieces: streams.iter().map(|s| s.pieces).sum(),
        took,
        worker_seconds,
        first_tokens,
    })
}

async fn stream(http: &reqwest::Client, url: &str, token: &str, name: &str) -> Result<Streamed> {
    let body =
        json!({"request_id": name, "input": {"prompt": name}, "sampling": {"temperature": 0}});
    let begun = Instant::now();
    let request = http.post(url).bearer_auth(token).json(&body);
    let mut response = request.send().await?.error_for_status()?;
    let mut events = TokenEvents::default();
    let mut streamed = Streamed {
        tokens: 0,
        pieces: 0,
        first_token: Duration::ZERO,
    };
    while let Some(piece) = response.chunk().await? {
        let tokens = events.count(&piece);
        if streamed.tokens == 0 && tokens > 0 {
            streamed.first_token = begun.elapsed();
        }
        streamed.tokens += tokens;
        streamed.pieces += 1;
    }
    ensure!(
        streamed.tokens == RESPONSE_TOKENS,
        "{name}: {} tokens",
        streamed.tokens
    );
    Ok(streamed)
}

/// Counts token events, at little cost: the clients share the cores with the worker.
#[derive(Default)]
struct TokenEvents {
    /// Beginning of a line that the next piece continues.
    line: Vec<u8>,
}

impl TokenEvents {
    fn count(&mut self, piece: &[u8]) -> u64 {
        let mut count = 0;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if ends && self.line.is_empty() {
                count += u64::from(part == TOKEN_EVENT);
                continue;
            }
            self.line.extend_from_slice(part);
            if ends {
                count += u64::from(self.line == TOKEN_EVENT);
                self.line.clear();
            }
        }
        count
    }
}

/// A mock worker without a queen.
struct Worker {
    process: Child,
    _home: TempDir,
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    async fn start(bin_dir: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let token = "ab".repeat(32);
        let token_file = home.path().join("token");
        fs::write(&token_file, &token)?;
        fs::set_permissions(
            &token_file,
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = Command::new(bin_dir.join("mock-worker-rbee"))
            .args(["--worker-id", "bench", "--model", MODEL])
            .args([
                "--device",
                "CPU-0",
                "--hive-id",
                "bench",
                "--generation",
                "1",
            ])
            // No process listens on this port, so heartbeats fail at once.
            .args(["--queen-url", "http://127.0.0.1:9", "--log", "error"])
            .args(["--port", &port.to_string()])
            .env("RBEE_WORKER_TOKEN_FILE", &token_file)
            .env("RBEE_QUEEN_TOKEN_FILE", &token_file)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the mock worker")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()?;
        let base = format!("http://127.0.0.1:{port}");
        let mut worker = Self {
            process,
            _home: home,
            http,
            url: format!("{base}/v1/infer"),
            token,
        };
        worker.wait_until_ready(&format!("{base}/ready")).await?;
        Ok(worker)
    }

    async fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        loop {
            let response = self.http.get(url).bearer_auth(&self.token).send().await;
            if response.is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            let exited = self.process.try_wait()?;
            ensure!(exited.is_none(), "the mock worker exited: {exited:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_events_are_counted_across_pieces() {
        let stream =
            b"event: token\ndata: {\"text\":\"event: token\"}\n\nevent: token\n\nevent: end\n";
        for middle in 0..stream.len() {
            let (first, second) = stream.split_at(middle);
            let mut events = TokenEvents::default();
            assert_eq!(events.count(first) + events.count(second), 2, "at {middle}");
        }
    }
}
