use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use diagnostics::ErrorBody;
use http::StatusCode;
use worker_contract::{API_VERSION, Health, Ready, WorkerInfo, WorkerStatus};

use crate::Worker;

/// The process listens; public.
#[utoipa::path(get, path = "/health", tag = "lifecycle", security(()), responses(
    (status = 200, description = "It listens", body = Health),
))]
pub async fn health(State(worker): State<Worker>) -> Json<Health> {
    let config = worker.config();
    Json(Health {
        status: "ok".into(),
        worker_id: config.id.clone(),
        generation: config.generation,
        version: config.version.clone(),
        api_version: API_VERSION,
    })
}

/// Whether it can infer, with the progress of loading.
#[utoipa::path(get, path = "/ready", tag = "lifecycle", responses(
    (status = 200, description = "It can infer", body = Ready),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 503, description = "It loads, drains or stops", body = Ready),
))]
pub async fn ready(State(worker): State<Worker>) -> Response {
    let status = worker.status();
    let ready = matches!(status, WorkerStatus::Ready | WorkerStatus::Busy);
    let body = Ready {
        ready,
        status,
        loading: worker.load_progress(),
    };
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(body)).into_response()
}

/// Everything about the worker.
#[utoipa::path(get, path = "/info", tag = "lifecycle", responses(
    (status = 200, description = "The worker now", body = WorkerInfo),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
))]
pub async fn info(State(worker): State<Worker>) -> Json<WorkerInfo> {
    Json(worker.info())
}

/// No new work from now on; what runs goes on.
#[utoipa::path(post, path = "/v1/drain", tag = "lifecycle", responses(
    (status = 204, description = "It drains"),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
))]
pub async fn drain(State(worker): State<Worker>) -> StatusCode {
    tracing::info!("draining");
    worker.drain();
    StatusCode::NO_CONTENT
}

/// Drains, finishes what runs for up to 30 s, then ends the process.
#[utoipa::path(post, path = "/v1/shutdown", tag = "lifecycle", responses(
    (status = 202, description = "It will end"),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
))]
pub async fn shutdown(State(worker): State<Worker>) -> StatusCode {
    worker.drain();
    worker.shutdown().cancel();
    StatusCode::ACCEPTED
}
