//! What the queen adds to requests to a worker, compared with nginx.

mod cpu;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{machine, servers::Servers};

/// Number of rounds. Each round sends requests to one target after the other, so that a slow
/// moment of the machine affects all targets.
const ROUNDS: u32 = 5;

/// Mock engine that costs nothing, with a slot for every client.
const SHORT: &str = "mock:slots=64,length=16";
/// As [`SHORT`], for long prompts.
const LONG_PROMPTS: &str = "mock:slots=64,length=16,context=1000000";
/// Characters of a long prompt.
const LONG_PROMPT: usize = 220_000;

struct Target {
    name: &'static str,
    url: String,
    token: Option<String>,
    body: Value,
}

/// Measures the time of complete responses of 16 tokens: from the worker itself, through
/// nginx, and through the queen's own API and its OpenAI API, with short and long prompts; then
/// the CPU time of slow streams. `baseline` is the directory of another build, whose queen is
/// measured in the same run.
pub async fn run(bin_dir: &Path, baseline: Option<&Path>, count: u32) -> Result<()> {
    println!(
        "gateway: {}; mock engine, complete responses of 16 tokens",
        machine::describe()
    );
    times(bin_dir, baseline, count, SHORT, "hello").await?;
    println!("\nprompts of {LONG_PROMPT} bytes");
    let prompt = "many words ".repeat(LONG_PROMPT / 11);
    times(bin_dir, baseline, count / 4, LONG_PROMPTS, &prompt).await?;
    println!("\nCPU time of slow streams");
    cpu::run(bin_dir, baseline).await
}

async fn times(
    bin_dir: &Path,
    baseline: Option<&Path>,
    count: u32,
    model: &'static str,
    prompt: &str,
) -> Result<()> {
    let servers = Servers::start(bin_dir, model)?;
    let mut targets = vec![
        worker_target("worker", &servers.worker, &servers.token, prompt),
        worker_target("nginx", &servers.proxy, &servers.token, prompt),
        native_target("queen", &servers, prompt),
        openai_target("queen, OpenAI", &servers, prompt),
    ];
    let baseline = baseline.map(|bin_dir| Servers::start(bin_dir, model));
    let baseline = baseline.transpose()?;
    if let Some(baseline) = &baseline {
        targets.push(native_target("baseline queen", baseline, prompt));
        targets.push(openai_target("baseline queen, OpenAI", baseline, prompt));
    }
    println!(
        "| clients | target | p50 ms | p99 ms | added p50 ms | added p99 ms | p50 vs. nginx | p99 vs. nginx |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for clients in [1, 16, 64] {
        let mut times: Vec<Vec<Duration>> = targets.iter().map(|_| Vec::new()).collect();
        for round in 0..=ROUNDS {
            for (target, times) in targets.iter().zip(&mut times) {
                let measured = round_of(target, clients, (count / ROUNDS).max(clients)).await?;
                // The first round warms up connections and caches.
                if round > 0 {
                    times.extend(measured);
                }
            }
        }
        print_rows(clients, &targets, &mut times);
    }
    Ok(())
}

fn worker_target(name: &'static str, url: &str, token: &str, prompt: &str) -> Target {
    Target {
        name,
        url: format!("{url}/v1/infer"),
        token: Some(token.to_owned()),
        body: native_body(prompt),
    }
}

fn native_target(name: &'static str, servers: &Servers, prompt: &str) -> Target {
    let mut body = native_body(prompt);
    body["model"] = servers.model.into();
    Target {
        name,
        url: format!("{}/v1/infer", servers.queen),
        token: None,
        body,
    }
}

fn openai_target(name: &'static str, servers: &Servers, prompt: &str) -> Target {
    Target {
        name,
        url: format!("{}/v1/chat/completions", servers.queen),
        token: None,
        body: json!({"model": servers.model, "stream": true, "seed": 1,
            "messages": [{"role": "user", "content": prompt}]}),
    }
}

fn native_body(prompt: &str) -> Value {
    json!({"input": {"prompt": prompt}, "sampling": {"seed": 1}})
}

fn print_rows(clients: u32, targets: &[Target], times: &mut [Vec<Duration>]) {
    let percentiles: Vec<(f64, f64)> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            (percentile(times, 50), percentile(times, 99))
        })
        .collect();
    let direct = percentiles[0];
    for (target, (p50, p99)) in targets.iter().zip(&percentiles) {
        print!("| {clients} | {} | {p50:.2} | {p99:.2} |", target.name);
        if target.name == "worker" {
            println!(" | | | |");
            continue;
        }
        let ratio = |value: f64, nginx: f64| format!("{:.2}", value / nginx);
        println!(
            " {:.2} | {:.2} | {} | {} |",
            p50 - direct.0,
            p99 - direct.1,
            ratio(*p50, percentiles[1].0),
            ratio(*p99, percentiles[1].1),
        );
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
}

/// Sends `count` requests from `clients` concurrent clients and returns the time of each.
async fn round_of(target: &Target, clients: u32, count: u32) -> Result<Vec<Duration>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let left = Arc::new(AtomicU32::new(count));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()?;
        let (left, url, token) = (left.clone(), target.url.clone(), target.token.clone());
        let mut body = target.body.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                body["request_id"] = format!("bench-{number}").into();
                let mut request = http.post(&url).json(&body);
                if let Some(token) = &token {
                    request = request.bearer_auth(token);
                }
                let begun = Instant::now();
                let response = request.send().await?;
                let status = response.status();
                let text = response.text().await?;
                times.push(begun.elapsed());
                ensure!(
                    status == 200 && !text.contains("\"error\""),
                    "{status}: {text}"
                );
            }
            Ok(times)
        });
    }
    let mut all = Vec::new();
    for times in tasks.join_all().await {
        all.extend(times?);
    }
    Ok(all)
}
