//! The errors of this crate.

use std::fmt::Display;

use diagnostics::{Code, Diagnostic, escape};
use input_validation::{Generation, RequestId, WorkerId};
use worker_contract::LoadProgress;

pub(crate) fn not_ready(progress: LoadProgress) -> Diagnostic {
    let LoadProgress { done, total } = progress;
    let message = format!("the model is loading: {done} of {total} bytes");
    Diagnostic::new(Code::NotReady, message)
        .hint("try again when `GET /ready` returns 200")
        .detail("done_bytes", done)
        .detail("total_bytes", total)
        .detail("retry_after_seconds", 1)
}

pub(crate) fn submit_panicked(id: &RequestId, cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("submitting request {id} failed: {cause}"))
}

pub(crate) fn stream_incomplete(id: &RequestId) -> Diagnostic {
    let message = format!("the events of request {id} ended without a terminal event");
    Diagnostic::internal(message)
}

pub(crate) fn tokenizer_panicked(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("the tokenizer failed: {cause}"))
}

pub(crate) fn metrics_not_encoded(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot encode the metrics: {cause}"))
}

pub(crate) fn no_signal_handler(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot install signal handlers: {cause}"))
}

pub(crate) fn loader_not_started(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot start the loader thread: {cause}"))
}

pub(crate) fn loader_panicked() -> Diagnostic {
    Diagnostic::internal("the loader thread panicked")
}

pub(crate) fn worker_stopped() -> Diagnostic {
    Diagnostic::new(Code::Draining, "the worker was stopped")
        .hint("send the request again; its output so far can be continued")
}

/// The queen refused a heartbeat because a newer generation of this worker exists.
pub(crate) fn superseded(
    id: &WorkerId,
    generation: Generation,
    refusal: &Diagnostic,
) -> Diagnostic {
    let refusal = escape(&refusal.message);
    let message = format!("worker {id} of generation {generation} is superseded: {refusal}");
    Diagnostic::new(Code::Fenced, message)
        .hint("no action needed: a newer process has replaced this one")
}
