use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use cluster::{Cluster, HiveProcess, Machine};
use input_validation::NodeName;
use serde_json::json;

use super::print_row;

/// Costs nothing.
const MODEL: &str = "mock:slots=4,length=16";
/// Requests of a round.
const REQUESTS: u32 = 100;

/// Measures complete responses of 16 tokens through the queen: from a node that it reaches
/// directly, and from one that it reaches by SSH.
pub(super) async fn run(bin_dir: &Path, count: u32) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
    let home = directory.path().join("queen");
    let cluster = Cluster::start_with(bin_dir, &home, &[], &["--no-local-hive"]).await?;
    let hive = HiveProcess::start(bin_dir, directory.path(), "direct", &[]).await?;
    cluster.add(&hive).await?;
    let machine = Machine::start("ssh")?;
    cluster.add_machine(&machine).await?;
    machine.install_mock(bin_dir)?;
    let url = format!("{}/v1/infer", cluster.client.base());
    let http = rest_client::http_client()?;
    let (mut direct, mut over_link) = (Vec::new(), Vec::new());
    let mut number = 0;
    for round in 0..=count {
        for _ in 0..REQUESTS {
            // The first round warms up.
            for (node, times) in [(&hive.name, &mut direct), (&machine.name, &mut over_link)] {
                number += 1;
                let took = request(&http, &url, node, number).await?;
                if round > 0 {
                    times.push(took);
                }
            }
        }
    }
    for worker in cluster.client.workers().await?.workers {
        cluster
            .client
            .stop_worker(&worker.info.id, Some(0), false)
            .await?;
    }
    println!(
        "| 16 tokens through the queen take | p50 ms | p95 ms | adds p50 ms | adds p95 ms | p50 vs. direct |"
    );
    println!("|---|---|---|---|---|---|");
    let mut first = None;
    print_row("direct", &mut direct, &mut first)?;
    print_row("over the link", &mut over_link, &mut first)
}

/// The milliseconds of a request.
async fn request(
    http: &rest_client::HttpClient,
    url: &str,
    node: &NodeName,
    number: u32,
) -> Result<f64> {
    let body = json!({"model": MODEL, "node": node, "request_id": format!("bench-{number}"),
        "input": {"prompt": "hello"}, "sampling": {"seed": 1}});
    let begun = Instant::now();
    let response = http.post(url).json(&body).send().await?;
    let status = response.status();
    let text = response.text().await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(
        status == 200 && text.contains("event: end"),
        "{status}: {text}"
    );
    Ok(took)
}
