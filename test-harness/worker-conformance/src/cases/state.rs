//! What the worker reports about itself.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::json;
use worker_contract::{
    API_VERSION, Ready, WorkerHealth, WorkerHeartbeat, WorkerInfo, WorkerStatus,
};

use super::case;
use crate::{
    bench::Bench,
    case::Case,
    endpoint::send,
    verdict::{Checked, equal, expect, miss, not_applicable},
};

/// Time within which a heartbeat follows a change of the status.
const CHANGE_LIMIT: Duration = Duration::from_secs(3);
/// Bounds of the time between two heartbeats without a change of the status.
const INTERVAL: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(9)];

pub(super) const CASES: &[Case] = &[
    case!(
        Worker,
        "health",
        health,
        "answers `GET /health` with 200 and its identity as soon as it listens, without a token"
    ),
    case!(
        Worker,
        "ready",
        ready,
        "answers `GET /ready` with 503 and the progress while it loads, then with 200"
    ),
    case!(
        Worker,
        "info",
        info,
        "describes itself in `GET /info` as it was started"
    ),
    case!(
        Command,
        "local-only",
        local_only,
        "listens on loopback only"
    ),
    case!(
        Worker,
        "token-required",
        token_required,
        "answers 401 to every call without the token but `GET /health`"
    ),
    case!(
        Command,
        "heartbeats",
        heartbeats,
        "sends numbered heartbeats with the queen's token from its start on"
    ),
    case!(
        Command,
        "heartbeat-on-change",
        heartbeat_on_change,
        "sends a heartbeat when its status changes"
    ),
    case!(
        Worker,
        "metrics",
        metrics,
        "answers `GET /metrics` in the text format of Prometheus"
    ),
];

async fn health(bench: &mut Bench) -> Checked {
    let answer = match &bench.started {
        Some(started) => started.worker.health.clone(),
        None => bench.endpoint.get_public("/health").await?,
    };
    answer.status(200)?;
    let health: WorkerHealth = answer.parse("the WorkerHealth of the contract")?;
    equal("status", &health.status.as_str(), &"ok")?;
    equal("api_version", &health.api_version, &API_VERSION)?;
    if let Some(started) = &bench.started {
        let identity = &started.worker.identity;
        equal(
            "worker_id",
            &health.worker_id.as_str(),
            &identity.worker_id.as_str(),
        )?;
        equal("generation", &health.generation.0, &identity.generation)?;
    }
    Ok(())
}

async fn ready(bench: &mut Bench) -> Checked {
    let answers = match &bench.started {
        Some(started) => started.worker.ready.clone(),
        None => vec![bench.endpoint.call(Method::GET, "/ready", None).await?],
    };
    let mut progress = 0;
    for answer in answers {
        let ready: Ready = answer.parse("the Ready of the contract")?;
        expect(
            answer.status == if ready.ready { 200 } else { 503 },
            "status 200 if `ready`, otherwise 503",
            answer.shown(),
        )?;
        expect(
            ready.ready == matches!(ready.status, WorkerStatus::Ready | WorkerStatus::Busy),
            "`ready` with the status `ready` or `busy` only",
            answer.shown(),
        )?;
        let loading = ready.loading;
        expect(
            loading.done >= progress && (loading.total == 0 || loading.done <= loading.total),
            format_args!("progress from {progress} on, up to the total"),
            answer.shown(),
        )?;
        progress = loading.done;
    }
    Ok(())
}

async fn info(bench: &mut Bench) -> Checked {
    let answer = bench.endpoint.call(Method::GET, "/info", None).await?;
    answer.status(200)?;
    let info: WorkerInfo = answer.parse("the WorkerInfo of the contract")?;
    expect(
        info.slots_total > 0 && info.slots_free <= info.slots_total,
        "slots_free up to slots_total, which is not 0",
        format_args!("{} of {}", info.slots_free, info.slots_total),
    )?;
    equal(
        "status of an idle worker",
        &info.status,
        &WorkerStatus::Ready,
    )?;
    expect(
        info.context_length > 0,
        "a context_length",
        info.context_length,
    )?;
    expect(
        !info.implementation.is_empty(),
        "the name of the implementation",
        "none",
    )?;
    let Some(started) = &bench.started else {
        return Ok(());
    };
    let identity = &started.worker.identity;
    equal("id", &info.id.as_str(), &identity.worker_id.as_str())?;
    equal("generation", &info.generation.0, &identity.generation)?;
    equal(
        "hive_id",
        &info.hive_id.as_str(),
        &identity.hive_id.as_str(),
    )?;
    equal("device", &info.device.to_string(), &identity.device)?;
    equal("port", &info.port, &identity.port)?;
    equal("slots_total", &info.slots_total, &identity.slots)?;
    let group = started.worker.process.group();
    let pid = format!("{} ", info.pid);
    expect(
        group.iter().any(|process| process.starts_with(&pid)),
        format_args!("the pid of the worker: {group:?}"),
        info.pid,
    )
}

async fn local_only(bench: &mut Bench) -> Checked {
    let port = bench.started()?.worker.identity.port;
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        // Columns of proc_pid_net(5): number, local address, remote address, state.
        sockets.extend(text.lines().skip(1).filter_map(|line| {
            let mut columns = line.split_ascii_whitespace().skip(1);
            let (address, local_port) = columns.next()?.split_once(':')?;
            let is_listening = columns.nth(1)? == "0A";
            let is_here = u16::from_str_radix(local_port, 16) == Ok(port);
            (is_listening && is_here).then(|| address.to_owned())
        }));
    }
    if sockets.is_empty() {
        return Err(not_applicable("this system has no table of sockets"));
    }
    let is_loopback = |address: &String| {
        address == "00000000000000000000000001000000"
            || (address.len() == 8 && address.ends_with("7F"))
    };
    expect(
        sockets.iter().all(is_loopback),
        "sockets of loopback addresses only",
        format_args!("{sockets:?} in /proc/net/tcp"),
    )
}

async fn token_required(bench: &mut Bench) -> Checked {
    let calls = [
        (Method::GET, "/ready"),
        (Method::GET, "/info"),
        (Method::GET, "/metrics"),
        (Method::POST, "/v1/infer"),
        (Method::DELETE, "/v1/infer/a"),
        (Method::POST, "/v1/tokenize"),
        (Method::POST, "/v1/detokenize"),
        (Method::POST, "/v1/embed"),
        (Method::POST, "/v1/drain"),
        (Method::POST, "/v1/shutdown"),
    ];
    for (method, path) in calls {
        let request = || {
            let request = bench.endpoint.public(method.clone(), path);
            match method {
                Method::POST => request.json(&json!({})),
                _ => request,
            }
        };
        for (name, request) in [
            ("no", request()),
            ("another", request().bearer_auth("another")),
        ] {
            let answer = send(request).await?;
            expect(
                answer.status == 401,
                format_args!("status 401 for {method} {path} with {name} token"),
                answer.shown(),
            )?;
            answer.refusal(&[401])?;
        }
    }
    Ok(())
}

async fn heartbeats(bench: &mut Bench) -> Checked {
    let worker = &bench.started()?.worker;
    let expected = format!("Bearer {}", worker.queen_token);
    worker
        .queen
        .status(CHANGE_LIMIT, 0, "ready")
        .await
        .ok_or_else(|| miss("a heartbeat with the status `ready`", "none"))?;
    let beats = worker.queen.beats();
    let first = beats.first().map(|beat| beat.status().to_owned());
    expect(
        first.as_deref() == Some("starting") || worker.ready.len() <= 1,
        "the first heartbeat while the model loads, with the status `starting`",
        format_args!("{first:?}"),
    )?;
    for (number, beat) in beats.iter().enumerate() {
        expect(
            beat.authorization == expected,
            "the token of RBEE_QUEEN_TOKEN_FILE in `authorization`",
            if beat.authorization.is_empty() {
                "none"
            } else {
                "another token"
            },
        )?;
        let parsed: WorkerHeartbeat =
            serde_json::from_value(beat.body.clone()).map_err(|error| {
                miss(
                    "the WorkerHeartbeat of the contract",
                    format_args!("{error}: {}", beat.body),
                )
            })?;
        equal("sequence", &parsed.sequence, &(number as u64))?;
        equal(
            "id",
            &parsed.worker.id.as_str(),
            &worker.identity.worker_id.as_str(),
        )?;
        equal("port", &parsed.worker.port, &worker.identity.port)?;
    }
    Ok(())
}

async fn heartbeat_on_change(bench: &mut Bench) -> Checked {
    let slots = bench.endpoint.slots().await?;
    let endpoint = bench.endpoint.clone();
    let worker = &bench.started()?.worker;
    let before = worker.queen.beats().len();
    let mut held = Vec::new();
    for _ in 0..slots {
        held.push(endpoint.hold("heartbeat-on-change").await?);
    }
    let is_busy = endpoint.info().await?["status"] == "busy";
    let busy = worker.queen.status(CHANGE_LIMIT, before, "busy").await;
    let was_busy = worker.queen.beats().len();
    for (id, opened) in held {
        endpoint.abandon(&id, opened).await;
    }
    endpoint.all_free().await?;
    if busy.is_none() && !is_busy {
        return Err(not_applicable(
            "the requests ended before all slots were in use",
        ));
    }
    busy.ok_or_else(|| miss("a heartbeat with the status `busy` within 3 s", "none"))?;
    let ready = worker
        .queen
        .status(CHANGE_LIMIT, was_busy.saturating_sub(1), "ready")
        .await;
    ready.ok_or_else(|| miss("a heartbeat with the status `ready` within 3 s", "none"))
}

/// Checks the time between heartbeats of a worker that has nothing to do.
pub(super) async fn heartbeat_interval(bench: &mut Bench) -> Checked {
    let idle = &bench.started()?.idle;
    let gap = idle
        .queen
        .wait(INTERVAL[1], |beats| {
            let pairs = beats.windows(2);
            let mut same =
                pairs.filter(|pair| pair[0].status() == "ready" && pair[1].status() == "ready");
            same.next().map(|pair| pair[1].at - pair[0].at)
        })
        .await;
    let gap = gap.ok_or_else(|| miss("a heartbeat every 5 s", "none for 9 s"))?;
    expect(
        (INTERVAL[0]..=INTERVAL[1]).contains(&gap),
        "5 s between two heartbeats while nothing changes",
        format_args!("{:.1} s", gap.as_secs_f64()),
    )
}

async fn metrics(bench: &mut Bench) -> Checked {
    let answer = bench.endpoint.call(Method::GET, "/metrics", None).await?;
    answer.status(200)?;
    expect(
        ["text/plain", "application/openmetrics-text"]
            .iter()
            .any(|kind| answer.content_type.starts_with(kind)),
        "`content-type: text/plain` or `application/openmetrics-text`",
        &answer.content_type,
    )?;
    let samples: Vec<&str> = answer
        .text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    expect(!samples.is_empty(), "samples", "none")?;
    for line in samples {
        expect(is_sample(line), "lines `name{labels} value`", line)?;
    }
    Ok(())
}

/// Whether a line is `name value` or `name{labels} value`, with a timestamp or without.
fn is_sample(line: &str) -> bool {
    let (series, values) = match line.split_once('}') {
        Some((series, values)) => (series.split_once('{').map_or("", |(name, _)| name), values),
        None => line.split_once(' ').unwrap_or_default(),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut values = values.split_ascii_whitespace();
    let value = values.next().unwrap_or_default();
    !series.is_empty() && series.chars().all(is_name) && value.parse::<f64>().is_ok()
}
