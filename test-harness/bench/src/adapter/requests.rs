//! Requests to the engine or the adapter, and what their streams measure.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::task::JoinSet;

/// Where requests are sent, and how their streams mark a token.
#[derive(Clone)]
pub(super) struct Target {
    pub http: reqwest::Client,
    pub url: String,
    pub token: String,
    pub mark: &'static str,
    /// Makes the body of a request with this id and text.
    pub body: fn(&str, &str) -> Value,
}

/// What one request measures.
pub(super) struct Measured {
    /// Time to the first token.
    pub first: Duration,
    pub tokens: usize,
}

/// Tokens per second of `clients` that each send `requests` requests one after another. `text`
/// makes the text of a request from a number that no other request has.
pub(super) async fn tokens_per_second(
    target: &Target,
    clients: usize,
    requests: usize,
    round: usize,
    text: fn(usize) -> String,
) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let target = target.clone();
        tasks.spawn(async move {
            let mut tokens = 0;
            for request in 0..requests {
                let number = (round * clients + client) * requests + request;
                tokens += stream(&target, number, &text(number)).await?.tokens;
            }
            anyhow::Ok(tokens)
        });
    }
    let mut tokens = 0;
    for result in tasks.join_all().await {
        tokens += result?;
    }
    Ok(tokens as f64 / begun.elapsed().as_secs_f64())
}

/// Sends a request and reads its stream.
pub(super) async fn stream(target: &Target, number: usize, text: &str) -> Result<Measured> {
    let begun = Instant::now();
    let request = target.http.post(&target.url).bearer_auth(&target.token);
    let request = request.json(&(target.body)(&format!("bench-{number}"), text));
    let mut response = request.send().await?.error_for_status()?;
    let mut first = None;
    let mut received = String::new();
    while let Some(piece) = response.chunk().await? {
        received.push_str(&String::from_utf8_lossy(&piece));
        if first.is_none() && received.contains(target.mark) {
            first = Some(begun.elapsed());
        }
    }
    Ok(Measured {
        first: first.context("no token")?,
        tokens: received.matches(target.mark).count(),
    })
}
