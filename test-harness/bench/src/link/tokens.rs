use std::{sync::OnceLock, time::Instant};

use anyhow::{Context as _, Result, ensure};
use node_link::Endpoint;

use super::{Setting, client, print_row, url};

/// Events of a stream.
const COUNT: u64 = 400;
/// Pause between two events in microseconds: 200 tokens per second.
const PAUSE: u64 = 5000;

/// Moment that the stamps of events refer to.
static BEGUN: OnceLock<Instant> = OnceLock::new();

fn now() -> u64 {
    let begun = BEGUN.get_or_init(Instant::now);
    begun.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
}

/// An event with the moment when it is written, about as long as that of a token.
pub(super) fn event() -> String {
    let now = now();
    format!("event: token\ndata: {{\"t\":\" word\",\"at\":{now},\"channel\":\"text\"}}\n\n")
}

/// Measures the time from the moment when the server writes an event until the client has it.
pub(super) async fn run(setting: &Setting, count: u32) -> Result<()> {
    let (mut direct, mut over_link) = (Vec::new(), Vec::new());
    for round in 0..=count {
        // The first round warms up.
        let measured = (
            stream(&setting.direct).await?,
            stream(&setting.over_link).await?,
        );
        if round > 0 {
            direct.extend(measured.0);
            over_link.extend(measured.1);
        }
    }
    println!("| a token takes | p50 ms | p95 ms | adds p50 ms | adds p95 ms | p50 vs. direct |");
    println!("|---|---|---|---|---|---|");
    let mut first = None;
    print_row("direct", &mut direct, &mut first)?;
    print_row("over the link", &mut over_link, &mut first)
}

/// The milliseconds of each event of a stream.
async fn stream(endpoint: &Endpoint) -> Result<Vec<f64>> {
    let path = format!("/tokens/{COUNT}/{PAUSE}");
    let mut response = client(endpoint).get(url(endpoint, &path)).send().await?;
    let (mut times, mut text) = (Vec::new(), String::new());
    while let Some(chunk) = response.chunk().await? {
        let received = now();
        text.push_str(std::str::from_utf8(&chunk)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            let stamp = event.split("\"at\":").nth(1).context("no stamp")?;
            let stamp: u64 = stamp.split(',').next().context("no end")?.parse()?;
            times.push(received.saturating_sub(stamp) as f64 / 1e6);
            text = rest.to_owned();
        }
    }
    ensure!(times.len() as u64 == COUNT, "{} events", times.len());
    Ok(times)
}
