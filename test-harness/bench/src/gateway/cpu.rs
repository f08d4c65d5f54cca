//! CPU time that each token of a slow stream costs the process that passes it on.

use std::{path::Path, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use super::{Target, native_target, openai_target, round_of, worker_target};
use crate::{process::cpu_seconds, servers::Servers};

/// Streams at the same time, and tokens of each, the end token included.
const STREAMS: u32 = 64;
const TOKENS: u32 = 201;
/// Tokens that arrive one by one, as those of a real engine.
const MODEL: &str = "mock:slots=64,length=200,tokens_per_second=40";
/// Goal: microseconds of CPU for each token of the OpenAI API.
const MOST_MICROSECONDS: f64 = 20.0;
/// Time for the process to finish what it does after a response.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) async fn run(bin_dir: &Path, baseline: Option<&Path>) -> Result<()> {
    let servers = Servers::start(bin_dir, MODEL)?;
    let baseline = baseline.map(|bin_dir| Servers::start(bin_dir, MODEL));
    let baseline = baseline.transpose()?;
    let nginx = worker_target("nginx", &servers.proxy, &servers.token, "hello");
    let mut targets = vec![
        (nginx, servers.proxy_pid),
        (native_target("queen", &servers, "hello"), servers.queen_pid),
        (
            openai_target("queen, OpenAI", &servers, "hello"),
            servers.queen_pid,
        ),
    ];
    if let Some(baseline) = &baseline {
        targets.push((
            openai_target("baseline queen, OpenAI", baseline, "hello"),
            baseline.queen_pid,
        ));
    }
    println!("| streams | process | microseconds per token | goal |");
    println!("|---|---|---|---|");
    for (target, pid) in &targets {
        let goal = match target.name {
            "queen, OpenAI" => MOST_MICROSECONDS.to_string(),
            _ => String::new(),
        };
        let cost = cost(target, *pid).await?;
        println!("| {STREAMS} | {} | {cost:.1} | {goal} |", target.name);
    }
    Ok(())
}

/// Returns the microseconds of CPU for each token, those of the requests included.
async fn cost(target: &Target, pid: u32) -> Result<f64> {
    round_of(target, STREAMS, STREAMS).await?;
    sleep(SETTLE).await;
    let before = cpu_seconds(pid)?;
    round_of(target, STREAMS, STREAMS).await?;
    sleep(SETTLE).await;
    let seconds = cpu_seconds(pid)? - before;
    Ok(seconds * 1e6 / f64::from(STREAMS * TOKENS))
}
