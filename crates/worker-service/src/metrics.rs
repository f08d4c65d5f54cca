use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use daemon_shell::Answer;
use diagnostics::{Diagnostic, ErrorBody};
use http::header;
use inference_execution::{Runtime, RuntimeCounts};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::Worker;

/// The content type of the OpenMetrics text format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "lifecycle", responses(
    (status = 200, description = "OpenMetrics text", body = String,
     content_type = "application/openmetrics-text"),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
))]
pub async fn metrics(State(worker): State<Worker>) -> Result<Response, Answer> {
    let mut text = String::new();
    encode(&mut text, &registry(&worker))
        .map_err(|e| Diagnostic::internal(format!("metrics: {e}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// The figures are the runtime's own; they are only put into words here.
fn registry(worker: &Worker) -> Registry {
    let runtime = worker.runtime().ok();
    let counts = runtime.map_or(RuntimeCounts::default(), Runtime::counts);
    let info = worker.info();
    let mut registry = Registry::with_prefix("rbee_worker");

    let requests = Family::<[(&str, &str); 1], Counter>::default();
    for (outcome, count) in [
        ("completed", counts.completed),
        ("cancelled", counts.cancelled),
        ("deadline_exceeded", counts.expired),
        ("failed", counts.failed),
    ] {
        requests
            .get_or_create(&[("outcome", outcome)])
            .inc_by(count);
    }
    registry.register("requests", "Requests that ended, by outcome", requests);

    for (name, help, count) in [
        (
            "tokens_generated",
            "Tokens generated and sent, end tokens included",
            counts.generated_tokens,
        ),
        (
            "prompt_tokens",
            "Tokens of accepted prompts",
            counts.prompt_tokens,
        ),
        (
            "prefix_cached_tokens",
            "Tokens of prompts that were not computed because the KV cache had them",
            counts.cached_tokens,
        ),
    ] {
        let counter = <Counter>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }

    for (name, help, value) in [
        (
            "slots",
            "Requests that run at once",
            u64::from(info.slots_total),
        ),
        (
            "slots_free",
            "Requests that could start now",
            u64::from(info.slots_free),
        ),
        (
            "queue_depth",
            "Accepted requests that wait",
            u64::from(info.queue_depth),
        ),
        (
            "kv_cache_tokens",
            "Room in the KV cache, in tokens",
            info.kv_cache.total,
        ),
        (
            "kv_cache_used_tokens",
            "Tokens that requests hold in the KV cache",
            info.kv_cache.used,
        ),
        (
            "resident_memory_bytes",
            "Resident memory of the process",
            info.memory_bytes,
        ),
    ] {
        let gauge = <Gauge>::default();
        gauge.set(value as i64);
        registry.register(name, help, gauge);
    }

    registry.register(
        "first_token_seconds",
        "From a request's arrival to its first token",
        worker.first_token_seconds().clone(),
    );
    registry
}
