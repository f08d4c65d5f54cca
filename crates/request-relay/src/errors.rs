//! The errors of this crate.

use std::time::Duration;

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::WorkerId;
use queen_contract::Assigned;
use worker_contract::WorkerInfo;

use crate::WorkerExit;

pub(crate) fn connection_lost(
    cause: &Diagnostic,
    assigned: &Assigned,
    tokens: usize,
) -> Diagnostic {
    let Assigned { worker, node, .. } = assigned;
    let error = Diagnostic::new(
        Code::WorkerLinkLost,
        format!(
            "connection to worker {worker} on node {node} was lost after {tokens} tokens: {cause}"
        ),
    )
    .hint(format!(
        "`rbee-keeper node show {node}` shows whether the node is reachable, and `rbee-keeper worker \
         logs {worker}` what the worker wrote"
    ))
    .detail("tokens", tokens);
    located(error, assigned)
}

/// Turns a lost connection into a crash.
pub(crate) fn crashed(mut error: Diagnostic, worker: &WorkerId, exit: &WorkerExit) -> Diagnostic {
    error.code = Code::WorkerCrashed;
    error.hint = Some(see_log(worker));
    if exit.out_of_memory {
        error.code = Code::OutOfMemory;
        error.hint = Some(
            "shorten the request, stop other workers of the node, choose a smaller quantization \
             or context length, or use a node with more memory"
                .to_owned(),
        );
    }
    if let Some(description) = &exit.description {
        error.message = format!("{} ({})", error.message, excerpt(description, 200));
    }
    error
}

/// Names the lost part of a model as the reason for which its worker failed.
pub(crate) fn part_lost(mut error: Diagnostic, worker: &WorkerInfo, part: &str) -> Diagnostic {
    let WorkerInfo { id, hive_id, .. } = worker;
    error.code = Code::WorkerCrashed;
    error.message = format!("worker {id} on node {hive_id} has failed: {part}");
    error.hint = Some(format!(
        "all parts of the model are started again; `rbee-keeper why {id}` shows what happened"
    ));
    error
}

pub(crate) fn stalled(assigned: &Assigned, seconds: u64, tokens: usize) -> Diagnostic {
    let Assigned { worker, node, .. } = assigned;
    let error = Diagnostic::new(
        Code::WorkerStalled,
        format!(
            "worker {worker} on node {node} stalled: no output for {seconds} s after {tokens} tokens"
        ),
    )
    .hint(see_log(worker))
    .detail("tokens", tokens);
    located(error, assigned)
}

/// Why a connection to a worker counts as lost although it is open.
pub(crate) fn no_response(silence: Duration) -> Diagnostic {
    let seconds = silence.as_secs();
    let message = format!("it sent nothing for {seconds} s and does not respond");
    Diagnostic::new(Code::WorkerLinkLost, message)
}

/// A worker ended a request for its deadline, which has not passed on the queen's clock.
pub(crate) fn clock_differs(mut error: Diagnostic, assigned: &Assigned) -> Diagnostic {
    let Assigned { worker, node, .. } = assigned;
    error.message = format!(
        "worker {worker} on node {node} ended the request before its deadline, because the clock \
         of its machine differs: {}",
        error.message
    );
    error.hint = Some(format!("set the clock of node {node}"));
    located(error, assigned)
}

/// Adds the worker and its node to the details.
pub(crate) fn located(error: Diagnostic, assigned: &Assigned) -> Diagnostic {
    error
        .detail("worker", assigned.worker.as_str())
        .detail("node", assigned.node.as_str())
}

pub(crate) fn stream_ended_early() -> Diagnostic {
    Diagnostic::new(
        Code::WorkerLinkLost,
        "the stream ended without a terminal event",
    )
}

pub(crate) fn deadline_passed(tokens: usize) -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        format!("the deadline passed after {tokens} tokens"),
    )
    .hint("set a later deadline, or request fewer tokens")
}

pub(crate) fn deadline_passed_in_call() -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        "the deadline passed before the worker responded",
    )
    .hint("set a later deadline, or send less input per request")
}

pub(crate) fn cancelled() -> Diagnostic {
    Diagnostic::new(Code::Cancelled, "the request was cancelled")
}

fn see_log(worker: &WorkerId) -> String {
    format!("see `rbee-keeper worker logs {worker}`")
}
