//! Text output, as pure functions. Text from other processes is escaped.

use diagnostics::{Diagnostic, Level, Narration, bytes, count, escape};
use hive_contract::Device;
use queen_contract::{
    Assigned, Availability, ModelEntry, NodeEntry, QueueEntry, SpawnedWorker, Status, WorkerEntry,
};
use worker_contract::{EndEvent, FinishReason, SamplingValues};

use super::{
    deployments, power,
    style::Style,
    table::{table, wire_name},
    yields::yielded,
};

/// Content of the line that follows a completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Footer {
    pub(crate) end: EndEvent,
    pub(crate) assigned: Option<Assigned>,
    pub(crate) seed: Option<u64>,
}

/// Escapes untrusted text for a terminal: every control character except line feed and tab.
pub(crate) fn escape_for_terminal(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .map(|part| {
            let kept = usize::from(part.ends_with(['\n', '\t']));
            let (words, end) = part.split_at(part.len() - kept);
            escape(words) + end
        })
        .collect()
}

/// Formats an error as `error: …`, and after an empty line `hint: …`.
pub(crate) fn error(diagnostic: &Diagnostic, style: Style) -> String {
    let message = escape_for_terminal(&diagnostic.message);
    let error = format!("{} {message}\n", style.error("error:"));
    match &diagnostic.hint {
        Some(hint) => {
            let hint = escape_for_terminal(hint);
            format!("{error}\n{} {hint}\n", style.hint("hint:"))
        }
        None => error,
    }
}

/// Formats clap's message about an invalid command line, which contains its arguments.
pub(crate) fn usage_error(message: &str, style: Style) -> String {
    let message = escape_for_terminal(message);
    match message.strip_prefix("error:") {
        Some(rest) => style.error("error:") + rest,
        None => message,
    }
}

/// Formats a narration as `queen: …`.
pub(crate) fn narration(narration: &Narration, style: Style) -> String {
    let actor = escape(&narration.actor);
    let message = escape(&narration.message);
    // A sentence about one of several, "worker w-1: …", names its actor already.
    let names_actor = message
        .strip_prefix(&actor)
        .is_some_and(|rest| rest.starts_with(' '));
    let (prefix, message) = match message.split_once(": ").filter(|_| names_actor) {
        Some((subject, rest)) => (format!("{subject}: "), rest),
        None if names_actor => (String::new(), &*message),
        None => (format!("{actor}: "), &*message),
    };
    let line = match narration.level {
        Level::Debug | Level::Info => style.dim(&format!("{prefix}{message}")),
        Level::Warn => style.warning(&format!("{prefix}warning: {message}")),
        Level::Error => style.error(&format!("{prefix}error: {message}")),
    };
    line + "\n"
}

/// Formats the statistics of a completion on one line.
pub(crate) fn footer(footer: &Footer, style: Style) -> String {
    let tokens = footer.end.usage.completion_tokens;
    let mut facts = vec![
        format!("{tokens} {}", if tokens == 1 { "token" } else { "tokens" }),
        format!("{:.1} tokens/s", footer.end.timings.tokens_per_second),
    ];
    if footer.end.reason == FinishReason::Length {
        facts.push("length limit reached".to_owned());
    }
    if let Some(assigned) = &footer.assigned {
        facts.push(format!("worker {}", assigned.worker));
        facts.push(format!("node {}", assigned.node));
        facts.push(format!("device {}", assigned.device));
    }
    if let Some(seed) = footer.seed {
        facts.push(format!("seed {seed}"));
    }
    style.dim(&facts.join(" · ")) + "\n"
}

/// Formats the result of `rbee-keeper status`.
pub(crate) fn status(status: &Status, url: &str) -> String {
    let counts = &status.requests;
    let mut text = format!(
        "queen {} at {url} (pid {}), up {}\n\
         requests: {} waiting, {} running, {} completed, {} failed, {} cancelled\n",
        escape(&status.queen.version),
        status.queen.pid,
        duration(status.uptime_seconds),
        counts.waiting,
        counts.running,
        counts.completed,
        counts.failed,
        counts.cancelled,
    );
    text += &queues(&status.queues);
    for section in [
        nodes(&status.nodes, &status.workers),
        deployments::list(&status.deployments),
        workers(&status.workers),
    ] {
        text.push('\n');
        text += &section;
    }
    text
}

/// A line for each model that requests wait for.
fn queues(queues: &[QueueEntry]) -> String {
    let lines = queues.iter().map(|queue| {
        let estimate = queue.estimated_seconds;
        let estimate = estimate.map_or(String::new(), |seconds| {
            format!(", the last one starts in about {}", duration(seconds))
        });
        format!(
            "waiting for {}: {} interactive, {} batch, the oldest for {}{estimate}\n",
            escape(&queue.model.to_string()),
            queue.interactive,
            queue.batch,
            duration(queue.oldest_wait_ms / 1000),
        )
    });
    lines.collect()
}

fn nodes(nodes: &[NodeEntry], workers: &[WorkerEntry]) -> String {
    let rows = nodes.iter().map(|node| {
        let on_node = workers.iter().filter(|w| w.info.hive_id == node.name);
        [
            node.name.to_string(),
            power::status(node),
            devices(node),
            on_node.count().to_string(),
            node.last_error.clone().unwrap_or_default(),
        ]
    });
    let headings = ["NODE", "STATUS", "DEVICES", "WORKERS", "LAST ERROR"];
    table(headings, rows, "no nodes") + &yielded(nodes)
}

pub(super) fn devices(node: &NodeEntry) -> String {
    let devices: Vec<String> = node.devices.iter().map(device).collect();
    devices.join(", ")
}

pub(super) fn device(device: &Device) -> String {
    format!(
        "{} {} ({} free)",
        device.id,
        device.name,
        bytes(device.memory_free_bytes)
    )
}

/// Formats the result of `rbee-keeper worker list`.
pub(crate) fn workers(workers: &[WorkerEntry]) -> String {
    let rows = workers.iter().map(|worker| {
        let info = &worker.info;
        [
            info.id.to_string(),
            info.model_id.to_string(),
            info.hive_id.to_string(),
            runs_on(worker),
            state(worker),
            format!("{}/{}", info.slots_free, info.slots_total),
            worker.active_requests.to_string(),
            bytes(info.memory_bytes),
        ]
    });
    let headings = [
        "WORKER",
        "MODEL",
        "NODE",
        "DEVICE",
        "STATUS",
        "FREE SLOTS",
        "REQUESTS",
        "MEMORY",
    ];
    table(headings, rows, "no workers")
}

/// The device of a worker, and what computes parts of its model elsewhere.
fn runs_on(worker: &WorkerEntry) -> String {
    let parts = deployments::parts(&worker.parts);
    format!("{}{parts}", worker.info.device)
}

/// Formats the result of `rbee-keeper worker spawn`.
pub(crate) fn spawned(spawned: &SpawnedWorker) -> String {
    let engine = match &spawned.engine {
        Some(decision) => format!(
            " with the engine {}: {}",
            escape(&decision.engine),
            escape(&decision.reason)
        ),
        None => String::new(),
    };
    let (worker, node) = (&spawned.worker_id, &spawned.node);
    format!("worker {worker} serves on node {node}{engine}\n")
}

/// Formats the result of `rbee-keeper worker show`.
pub(crate) fn worker(worker: &WorkerEntry) -> String {
    let info = &worker.info;
    let capabilities: Vec<String> = info.capabilities.iter().map(wire_name).collect();
    let facts = [
        ("worker", info.id.to_string()),
        ("status", state(worker)),
        ("model", info.model_id.to_string()),
        ("node", info.hive_id.to_string()),
        ("device", runs_on(worker)),
        ("process", format!("pid {}, port {}", info.pid, info.port)),
        ("generation", info.generation.to_string()),
        (
            "engine",
            format!("{} {}", info.implementation, info.version),
        ),
        ("capabilities", capabilities.join(", ")),
        (
            "slots",
            format!("{} of {} free", info.slots_free, info.slots_total),
        ),
        (
            "requests",
            format!(
                "{} running, {} queued",
                worker.active_requests, info.queue_depth
            ),
        ),
        ("context", format!("{} tokens", info.context_length)),
        ("sampling", sampling(&info.sampling)),
        (
            "KV cache",
            format!(
                "{} of {} tokens used",
                info.kv_cache.used, info.kv_cache.total
            ),
        ),
        ("memory", bytes(info.memory_bytes)),
        ("heartbeat", format!("{} ms ago", worker.heartbeat_age_ms)),
    ];
    let lines = facts.map(|(name, value)| format!("{name:<14}{}\n", escape(&value)));
    lines.concat()
}

/// Formats the result of `rbee-keeper model list`.
pub(crate) fn models(models: &[ModelEntry]) -> String {
    let rows = models.iter().map(|entry| {
        let model = &entry.model;
        let nodes: Vec<String> = entry.nodes.iter().map(ToString::to_string).collect();
        let problem = model.files.as_ref().and_then(|files| files.problem.clone());
        [
            model.model.to_string(),
            bytes(model.size_bytes),
            model.architecture.clone(),
            model.quantization.clone(),
            count(model.parameters),
            model.context_length.to_string(),
            sampling(&model.sampling),
            nodes.join(", "),
            entry.ready_workers.to_string(),
            problem.unwrap_or_default(),
        ]
    });
    let headings = [
        "MODEL",
        "SIZE",
        "ARCHITECTURE",
        "QUANTIZATION",
        "PARAMETERS",
        "CONTEXT",
        "SAMPLING",
        "NODES",
        "READY WORKERS",
        "PROBLEM",
    ];
    table(headings, rows, "no models")
}

/// Formats the parameters that a model recommends.
pub(super) fn sampling(values: &SamplingValues) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.to_string()
}

fn state(worker: &WorkerEntry) -> String {
    match worker.availability {
        Availability::Available => wire_name(&worker.info.status),
        other => wire_name(&other),
    }
}

pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
