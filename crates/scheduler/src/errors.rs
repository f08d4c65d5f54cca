//! The errors of this crate.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, ModelRef, NodeName, RequestId, WorkerId};
use request_queue::QueueFull;
use worker_registry::SpawnId;

use crate::{
    NodeFacts, NodeMap, NodeState, SpawnTarget, TargetState,
    decisions::{PlaceCandidate, place_candidate},
    reasons::by_reason,
};

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
    let QueueFull {
        priority,
        waiting,
        limit,
    } = full;
    Diagnostic::new(
        Code::QueueFull,
        format!("the queue for {model} is full: {waiting} {priority} requests are waiting"),
    )
    .hint(format!("retry in {retry_after_seconds} s"))
    .detail("retry_after_seconds", retry_after_seconds)
    .detail("waiting", waiting)
    .detail("queue_limit", limit)
}

pub(crate) fn deadline_passed_on_arrival() -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        "the deadline passed before the request arrived",
    )
    .hint("set a deadline in the future, and compare the clocks of client and queen")
}

/// The request would have a worker only after its deadline, which is `left` away.
pub(crate) fn deadline_too_early(model: &ModelRef, wait: Duration, left: Duration) -> Diagnostic {
    let seconds = |time: Duration| (time.as_secs_f64() * 10.0).ceil() / 10.0;
    let (wait, left) = (seconds(wait), seconds(left));
    Diagnostic::new(
        Code::DeadlineExceeded,
        format!(
            "the request would wait about {wait} s for a worker for {model}, but its deadline is \
             in {left} s"
        ),
    )
    .hint("set a later deadline, or serve the model with more workers")
    .detail("estimated_wait_seconds", wait)
}

pub(crate) fn no_memory_in_time(
    model: &ModelRef,
    waited: Duration,
    retry_after_seconds: u64,
) -> Diagnostic {
    let waited = waited.as_secs();
    Diagnostic::new(
        Code::AllSlotsBusy,
        format!("{model} waited {waited} s for memory that other models use"),
    )
    .hint(format!(
        "retry in {retry_after_seconds} s, stop a worker of another model with `rbee-keeper worker \
         stop ID`, or let requests wait longer: `queen-rbee --memory-wait SECONDS`"
    ))
    .detail("retry_after_seconds", retry_after_seconds)
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

pub(crate) fn no_node() -> Diagnostic {
    Diagnostic::new(
        Code::NodeNotFound,
        "the queen has no node that runs workers",
    )
    .hint("add one with `rbee-keeper node add NAME`, or start the queen without `--no-local-hive`")
}

pub(crate) fn node_removed(node: &NodeName) -> Diagnostic {
    Diagnostic::new(Code::NodeNotFound, format!("node {node} was removed"))
        .hint("`rbee-keeper node list` lists the nodes")
        .param("node")
}

/// The backends of a node, as users write them.
fn backends(facts: &NodeFacts) -> String {
    let mut backends: Vec<String> = facts
        .devices
        .iter()
        .map(|device| device.backend.to_string())
        .collect();
    backends.dedup();
    backends.join(", ")
}

pub(crate) fn no_such_device(node: &NodeName, facts: &NodeFacts, backend: Backend) -> Diagnostic {
    backend_unavailable(format!(
        "node {node} has no {backend} device; available: {}",
        backends(facts)
    ))
}

pub(crate) fn no_device_anywhere(nodes: &NodeMap, backend: Backend) -> Diagnostic {
    let nodes = nodes.iter().map(|(name, facts)| {
        let down = match facts.state {
            NodeState::Down(_) => " (not reachable)",
            _ => "",
        };
        format!("{name}: {}{down}", backends(facts))
    });
    let nodes: Vec<String> = nodes.collect();
    backend_unavailable(format!(
        "no node has a {backend} device; available: {}",
        nodes.join("; ")
    ))
}

/// No further worker of a deployment can be started: `places` says why for each.
pub(crate) fn no_place_for_deployment(model: &ModelRef, places: &[PlaceCandidate]) -> Diagnostic {
    let reasons = if places.is_empty() {
        "the queen has no node".to_owned()
    } else {
        reasons_of(places)
    };
    Diagnostic::new(
        Code::BackendUnavailable,
        format!("no device for a further worker of {model}: {reasons}"),
    )
    .hint("ask for fewer workers, allow more nodes, or add one: `rbee-keeper node add NAME`")
}

/// Why a worker starts at none of these places.
fn reasons_of(places: &[PlaceCandidate]) -> String {
    let reasons = places.iter().map(|place| {
        let candidate = place_candidate(place, false);
        (candidate.name, candidate.note)
    });
    let reasons = by_reason(reasons).into_iter();
    let reasons = reasons.map(|(names, note)| format!("{}: {note}", names.join(", ")));
    let reasons: Vec<String> = reasons.collect();
    reasons.join("; ")
}

/// The workers of a deployment run on nodes that were removed after it was made.
pub(crate) fn nodes_of_deployment_removed(model: &ModelRef, nodes: &[&NodeName]) -> Diagnostic {
    let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
    let (what, were) = match names.as_slice() {
        [_] => ("the node", "was"),
        _ => ("the nodes", "were"),
    };
    let listed = names.join(", ");
    Diagnostic::new(
        Code::NodeNotFound,
        format!("the deployment of {model} names {what} {listed}, which {were} removed"),
    )
    .hint(format!(
        "deploy the model on other nodes with `rbee-keeper deploy`, or end its deployment with \
         `rbee-keeper undeploy {model}`; `rbee-keeper node add` adds a node again"
    ))
    .detail("removed_nodes", names)
}

/// The policy refuses all places where a worker could be started.
pub(crate) fn refused_by_policy(model: &ModelRef, places: &[PlaceCandidate]) -> Diagnostic {
    Diagnostic::new(
        Code::PolicyRefused,
        format!(
            "the policy permits no place for a worker of {model}: {}",
            reasons_of(places)
        ),
    )
    .hint("`rbee-keeper policy show` names the script that decides so")
}

/// The device that could run a worker is left to other programs, for this reason.
pub fn device_is_yielded(node: &NodeName, reason: &str) -> Diagnostic {
    Diagnostic::new(Code::BackendUnavailable, format!("node {node}: {reason}"))
        .hint(format!(
            "wait until then, choose another device, for example `--backend cpu`, or use it in any \
             case: `rbee-keeper node yield {node} --never`"
        ))
        .param("backend")
}

fn backend_unavailable(message: String) -> Diagnostic {
    Diagnostic::new(Code::BackendUnavailable, message)
        .hint("choose an available backend, for example `--backend cpu`")
        .param("backend")
}

/// A worker could be spawned on none of the nodes; `first` is why on the best one.
pub(crate) fn on_no_node(first: &Diagnostic, last: &Diagnostic, nodes: usize) -> Diagnostic {
    let mut error = first.clone();
    if nodes > 1 && first.message != last.message {
        error.message = format!(
            "{}; {nodes} nodes were tried, and the last one failed: {}",
            first.message, last.message
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_added_if_it_is_another_one_of_another_node() {
        let error = |message| Diagnostic::new(Code::WorkerStartFailed, message);
        let both = "a; 2 nodes were tried, and the last one failed: b";
        for (last, nodes, message) in [("b", 2, both), ("a", 2, "a"), ("b", 1, "a")] {
            assert_eq!(
                on_no_node(&error("a"), &error(last), nodes).message,
                message
            );
        }
    }
}
