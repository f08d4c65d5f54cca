//! How the worker ends. These cases come last, and each needs what the previous ones left.

use std::time::Duration;

use anyhow::Error;
use reqwest::Method;
use serde_json::json;

use super::{case, state};
use crate::{
    bench::{Bench, Started},
    case::Case,
    launch::Process,
    verdict::{Checked, Verdict, equal, expect, miss, not_applicable},
};

/// Time for a worker without requests to exit. A hive kills it afterwards.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);

pub(super) const CASES: &[Case] = &[
    case!(
        Command,
        "heartbeat-interval",
        state::heartbeat_interval,
        "sends a heartbeat every 5 s"
    ),
    case!(Command, "sigterm", sigterm, "exits with 0 after SIGTERM"),
    case!(
        Command,
        "no-process-left",
        no_process_left,
        "leaves no process of its group behind"
    ),
    case!(
        Command,
        "fenced",
        fenced,
        "exits with another code than 0 when the queen answers 409 to a heartbeat"
    ),
    case!(
        Command,
        "drain",
        drain,
        "refuses new requests with DRAINING after `POST /v1/drain`, and finishes running ones"
    ),
    case!(
        Command,
        "shutdown",
        shutdown,
        "finishes running requests and exits with 0 after `POST /v1/shutdown`"
    ),
];

fn failed(error: &Error) -> Verdict {
    miss("a worker that can be controlled", format_args!("{error:#}"))
}

/// Waits for the exit. Returns the exit code.
async fn exit_code(process: &mut Process) -> Checked<Option<i32>> {
    let status = process.exit(EXIT_LIMIT).await.map_err(|e| failed(&e))?;
    let limit = format!("an exit within {} s", EXIT_LIMIT.as_secs());
    Ok(status.ok_or_else(|| miss(limit, "it runs"))?.code())
}

async fn sigterm(bench: &mut Bench) -> Checked {
    let process = &mut bench.started()?.idle.process;
    process.terminate().map_err(|e| failed(&e))?;
    equal("exit code", &exit_code(process).await?, &Some(0))
}

async fn no_process_left(bench: &mut Bench) -> Checked {
    let process = &mut bench.started()?.idle.process;
    if process
        .exit(Duration::ZERO)
        .await
        .map_err(|e| failed(&e))?
        .is_none()
    {
        return Err(not_applicable("the worker does not exit"));
    }
    let left = process.group();
    expect(left.is_empty(), "no process", left.join(", "))
}

async fn fenced(bench: &mut Bench) -> Checked {
    let launcher = bench.started()?.launcher.clone();
    let queen = crate::queen::Queen::start().await.map_err(|e| failed(&e))?;
    queen.fence();
    let port = crate::launch::free_port().map_err(|e| failed(&e))?;
    let started = launcher.spawn(port, &queen.url, true);
    let (mut process, ..) = started.map_err(|e| failed(&e))?;
    let code = exit_code(&mut process).await?;
    expect(
        !queen.beats().is_empty() && code != Some(0),
        "an exit code other than 0 after its first heartbeat",
        format_args!("{code:?} after {} heartbeats", queen.beats().len()),
    )
}

async fn drain(bench: &mut Bench) -> Checked {
    let endpoint = bench.endpoint.clone();
    let Started { worker, .. } = bench.started()?;
    let request = endpoint.infer_request("drain", json!({"max_tokens": 32}));
    let opened = endpoint.open(&request).await?;
    let before = worker.queen.beats().len();
    endpoint.post("/v1/drain", &json!({})).await?.status(204)?;
    let refused = endpoint.infer_request("drain", json!({"stream": false}));
    endpoint
        .post("/v1/infer", &refused)
        .await?
        .error(503, "DRAINING")?;
    let ready = endpoint.call(Method::GET, "/ready", None).await?;
    ready.status(503)?;
    equal(
        "status of `GET /ready`",
        &ready.json["status"],
        &json!("draining"),
    )?;
    opened.finish().await?.end()?;
    let beat = worker
        .queen
        .status(HEARTBEAT_LIMIT, before, "draining")
        .await;
    beat.ok_or_else(|| miss("a heartbeat with the status `draining`", "none"))
}

async fn shutdown(bench: &mut Bench) -> Checked {
    // A worker that drains accepts no request, so this one is new.
    let launcher = bench.started()?.launcher.clone();
    let mut worker = launcher.start().await.map_err(|e| failed(&e))?;
    let request = worker
        .endpoint
        .infer_request("shutdown", json!({"max_tokens": 32}));
    let opened = worker.endpoint.open(&request).await?;
    worker
        .endpoint
        .post("/v1/shutdown", &json!({}))
        .await?
        .status(202)?;
    opened.finish().await?.end()?;
    equal(
        "exit code",
        &exit_code(&mut worker.process).await?,
        &Some(0),
    )?;
    let beat = worker.queen.status(HEARTBEAT_LIMIT, 0, "stopped").await;
    beat.ok_or_else(|| miss("a last heartbeat with the status `stopped`", "none"))
}
