use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use daemon_shell::ErrorResponse;
use http::header;
use inference_execution::RuntimeCounts;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{errors, responses::MetricsErrors, worker::Worker};

/// The content type of the OpenMetrics text format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "lifecycle", responses(
    (status = 200, description = "Metrics in the OpenMetrics text format", body = String,
     content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    MetricsErrors,
))]
pub async fn metrics(State(worker): State<Worker>) -> Result<Response, ErrorResponse> {
    let mut text = String::new();
    if let Ok(service) = worker.service() {
        text = service.engine_metrics().await;
    }
    encode(&mut text, &registry(&worker)).map_err(errors::metrics_not_encoded)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// All values are read from the worker and its runtime; nothing is counted here.
fn registry(worker: &Worker) -> Registry {
    let service = worker.service().ok();
    let counts = service.map_or(RuntimeCounts::default(), |s| s.counts());
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
    registry.register("requests", "Ended requests by outcome", requests);

    for (name, help, count) in [
        (
            "tokens_generated",
            "Generated tokens, including end tokens",
            counts.generated_tokens,
        ),
        (
            "prompt_tokens",
            "Prompt tokens of accepted requests",
            counts.prompt_tokens,
        ),
        (
            "prefix_cached_tokens",
            "Prompt tokens that the prefix cache provided",
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
            "Maximum number of running requests",
            u64::from(info.slots_total),
        ),
        (
            "slots_free",
            "Number of requests that could start now",
            u64::from(info.slots_free),
        ),
        (
            "queue_depth",
            "Number of accepted requests that wait",
            u64::from(info.queue_depth),
        ),
        (
            "kv_cache_tokens",
            "Size of the KV cache in tokens",
            info.kv_cache.total,
        ),
        (
            "kv_cache_used_tokens",
            "Number of tokens in the KV cache that requests hold",
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
        "Time from a request's arrival to its first token",
        worker.first_token_seconds().clone(),
    );
    registry
}
