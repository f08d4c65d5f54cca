use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::Diagnostic;
use http::{HeaderValue, header};
use queen_contract::{
    API_VERSION, PreflightCall, PreflightResponse, QueenHealth, ShutdownRequest, ShutdownResponse,
    Status,
};

use crate::{
    Api,
    responses::{HostErrors, PreflightErrors, ReadErrors, ShutdownErrors},
};

/// Check that the queen responds
#[utoipa::path(get, path = "/health", tag = "control", security(()),
    responses((status = 200, body = QueenHealth, description = "The queen responds"), HostErrors))]
pub(crate) async fn health() -> Json<QueenHealth> {
    Json(own_health())
}

fn own_health() -> QueenHealth {
    QueenHealth {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION,
        pid: std::process::id(),
    }
}

/// Show the state of the queen, its nodes, workers, deployments and requests
#[utoipa::path(get, path = "/v1/status", tag = "control", security(("control_token" = [])),
    responses((status = 200, body = Status, description = "The state"), ReadErrors))]
pub(crate) async fn status(State(api): State<Arc<Api>>) -> Result<Json<Status>, ErrorResponse> {
    let mut snapshot = api.snapshot().await?;
    api.nodes.add_parts(&mut snapshot.workers);
    Ok(Json(Status {
        queen: own_health(),
        uptime_seconds: api.dispatcher.clock().now().as_secs(),
        nodes: api.nodes.entries(),
        deployments: api.nodes.deployments(&snapshot).await?,
        requests: snapshot.counts,
        queues: snapshot.queues,
        workers: snapshot.workers,
    }))
}

/// Check whether a worker could be started on the nodes
///
/// Starts nothing. All checks run, and the report has all failures, those of the hives included.
#[utoipa::path(post, path = "/v1/preflight", tag = "control", security(("control_token" = [])),
    request_body = PreflightCall,
    responses((status = 200, body = PreflightResponse, description = "The checks"), PreflightErrors))]
pub(crate) async fn preflight(
    State(api): State<Arc<Api>>,
    JsonBody(call): JsonBody<PreflightCall>,
) -> Result<Json<PreflightResponse>, ErrorResponse> {
    Ok(Json(api.nodes.preflight(&call).await?))
}

/// Shut down the queen, and if requested its hives and workers
///
/// Responds when everything has stopped; the queen's own process exits immediately after.
#[utoipa::path(post, path = "/v1/shutdown", tag = "control", security(("control_token" = [])),
    request_body = ShutdownRequest,
    responses((status = 200, body = ShutdownResponse, description = "What was stopped"), ShutdownErrors))]
pub(crate) async fn shutdown(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<ShutdownRequest>,
) -> Result<Json<ShutdownResponse>, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not leave it half done.
    let shutdown = Arc::clone(&api.shutdown);
    let stopped = tokio::spawn(async move { shutdown.run(request).await }).await;
    Ok(Json(stopped.map_err(Diagnostic::internal)??))
}

/// Show the metrics in the OpenMetrics text format
#[utoipa::path(get, path = "/metrics", tag = "control",
    responses((status = 200, body = String, description = "The metrics",
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"), ReadErrors))]
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, ErrorResponse> {
    let text = api
        .metrics
        .text(&api.snapshot().await?, &api.nodes.entries())?;
    let mut response = text.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    Ok(response)
}
