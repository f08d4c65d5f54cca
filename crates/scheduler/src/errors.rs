//! The errors of this crate.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{ModelRef, RequestId, WorkerId};
use request_queue::QueueFull;
use worker_registry::SpawnId;

use crate::{SpawnTarget, TargetState};

pub(crate) fn id_in_use(id: &RequestId) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("request id {id} is already in use"),
    )
    .param("request_id")
    .hint("use a unique id for every request")
}

pub(crate) fn draining() -> Diagnostic {
    Diagnostic::new(
        Code::Draining,
        "the queen is shutting down and accepts no new requests",
    )
    .hint("retry after it has been started again: `rbee-keeper queen start`")
}

pub(crate) fn queue_full(
    model: &ModelRef,
    full: QueueFull,
    retry_after_seconds: u64,
) -> Diagnostic {
    Diagnostic::new(
        Code::QueueFull,
        format!(
            "the queue for {model} is full: {} of {} requests are waiting",
            full.waiting, full.limit
        ),
    )
    .hint(format!("retry in {retry_after_seconds} s"))
    .detail("retry_after_seconds", retry_after_seconds)
    .detail("waiting", full.waiting)
    .detail("queue_limit", full.limit)
}

pub(crate) fn deadline_passed_in_queue() -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        "the deadline passed while the request waited for a worker",
    )
    .hint("set a later deadline, or serve the model with more workers")
}

pub(crate) fn spawn_stuck(target: &SpawnTarget, silent: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::LoadingTimeout,
        format!(
            "spawning a worker for {} on node {} made no progress for {} s",
            target.model,
            target.node,
            silent.as_secs()
        ),
    )
    .hint("see the log of the hive on that node")
}

pub(crate) fn never_registered(spawn: &SpawnId) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerStartFailed,
        format!(
            "worker {} was spawned but sent no heartbeat to the queen",
            spawn.worker
        ),
    )
    .hint(format!("see `rbee-keeper worker logs {}`", spawn.worker))
}

pub(crate) fn worker_stopped(worker: &WorkerId) -> Diagnostic {
    Diagnostic::new(
        Code::Draining,
        format!("worker {worker} was stopped before the request was complete"),
    )
    .hint("send the request again to start a new worker")
    .detail("worker", worker.as_str())
}

pub(crate) fn breaker_open(
    target: &SpawnTarget,
    state: &TargetState,
    remaining: Duration,
) -> Diagnostic {
    let seconds = remaining.as_secs().max(1);
    let (code, cause) = match state.last_error() {
        Some(error) => (error.code, error.message.as_str()),
        None => (Code::WorkerCrashed, "its workers crashed"),
    };
    Diagnostic::new(
        code,
        format!(
            "{} failed too often on {}; next attempt in {seconds} s; last error: {cause}",
            target.model, target.node
        ),
    )
    .hint("see `rbee-keeper worker list` and the worker's log")
    .detail("retry_after_seconds", seconds)
}
