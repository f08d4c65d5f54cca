use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use worker_contract::{API_VERSION, Ready, WorkerHealth, WorkerInfo, WorkerStatus};

use crate::{responses::TokenErrors, worker::Worker};

/// Reports that the process is listening. Does not require a token.
#[utoipa::path(get, path = "/health", tag = "lifecycle", security(()), responses(
    (status = 200, description = "The process is listening", body = WorkerHealth),
))]
pub async fn health(State(worker): State<Worker>) -> Json<WorkerHealth> {
    let config = worker.config();
    Json(WorkerHealth {
        status: "ok".into(),
        worker_id: config.id.clone(),
        generation: config.generation,
        version: config.version.clone(),
        api_version: API_VERSION,
    })
}

/// Reports whether the worker accepts requests, and the progress of loading.
#[utoipa::path(get, path = "/ready", tag = "lifecycle", responses(
    (status = 200, description = "The worker accepts requests", body = Ready),
    (status = 503, description = "The worker is loading, draining or stopping", body = Ready),
    TokenErrors,
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

/// Returns the identity, state and capabilities of the worker.
#[utoipa::path(get, path = "/info", tag = "lifecycle", responses(
    (status = 200, description = "The current state of the worker", body = WorkerInfo),
    TokenErrors,
))]
pub async fn info(State(worker): State<Worker>) -> Json<WorkerInfo> {
    Json(worker.info())
}

/// Refuses new requests from now on. Running requests continue.
#[utoipa::path(post, path = "/v1/drain", tag = "lifecycle", responses(
    (status = 204, description = "The worker is draining"),
    TokenErrors,
))]
pub async fn drain(State(worker): State<Worker>) -> StatusCode {
    tracing::info!("draining");
    worker.drain();
    StatusCode::NO_CONTENT
}

/// Drains, lets running requests finish for up to 30 s, then exits.
#[utoipa::path(post, path = "/v1/shutdown", tag = "lifecycle", responses(
    (status = 202, description = "The worker is shutting down"),
    TokenErrors,
))]
pub async fn shutdown(State(worker): State<Worker>) -> StatusCode {
    worker.drain();
    worker.shutdown().cancel();
    StatusCode::ACCEPTED
}
