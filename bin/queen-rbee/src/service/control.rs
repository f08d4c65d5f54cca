use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Answer, JsonBody};
use diagnostics::{Diagnostic, ErrorBody};
use http::{HeaderValue, header};
use queen_contract::{
    API_VERSION, Availability, Deployment, DeploymentList, DeploymentState, Health, ModelEntry,
    ModelList, NodeList, ShutdownRequest, ShutdownResponse, Status,
};
use queen_store::DeploymentRow;
use worker_contract::WorkerStatus;
use worker_registry::Filter;

use crate::{app::App, dispatcher::Snapshot, ending, nodes};

/// The queen answers
#[utoipa::path(get, path = "/health", tag = "control", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(own_health())
}

fn own_health() -> Health {
    Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION,
        pid: std::process::id(),
    }
}

/// Everything at a glance
#[utoipa::path(get, path = "/v1/status", tag = "control", security(("control_token" = [])),
    responses((status = 200, body = Status), (status = "default", body = ErrorBody)))]
pub async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, Answer> {
    let snapshot = app.dispatcher.snapshot(Filter::default()).await?;
    Ok(Json(Status {
        queen: own_health(),
        uptime_seconds: app.clock.now().as_secs(),
        nodes: nodes::list(&app.store).await?,
        deployments: deployed(&app, &snapshot).await?,
        requests: snapshot.counts,
        workers: snapshot.workers,
    }))
}

/// The machines
#[utoipa::path(get, path = "/v1/nodes", tag = "control", security(("control_token" = [])),
    responses((status = 200, body = NodeList), (status = "default", body = ErrorBody)))]
pub async fn nodes(State(app): State<Arc<App>>) -> Result<Json<NodeList>, Answer> {
    let nodes = nodes::list(&app.store).await?;
    Ok(Json(NodeList { nodes }))
}

/// What is to be served
#[utoipa::path(get, path = "/v1/deployments", tag = "control", security(("control_token" = [])),
    responses((status = 200, body = DeploymentList), (status = "default", body = ErrorBody)))]
pub async fn deployments(State(app): State<Arc<App>>) -> Result<Json<DeploymentList>, Answer> {
    let snapshot = app.dispatcher.snapshot(Filter::default()).await?;
    let deployments = deployed(&app, &snapshot).await?;
    Ok(Json(DeploymentList { deployments }))
}

async fn deployed(app: &App, snapshot: &Snapshot) -> Result<Vec<Deployment>, Diagnostic> {
    let rows = app.store.call(|store| store.deployments()).await?;
    Ok(rows
        .into_iter()
        .map(|row| Deployment {
            state: state_of(&row, snapshot),
            model: row.place.model,
            node: row.place.node,
            worker_id: row.worker_id,
            generation: row.generation,
            created_at: row.created_at,
            last_error: row.last_error,
        })
        .collect())
}

fn state_of(row: &DeploymentRow, snapshot: &Snapshot) -> DeploymentState {
    let worker = snapshot.workers.iter().find(|worker| {
        worker.info.id == row.worker_id && worker.availability == Availability::Available
    });
    let target = snapshot
        .targets
        .iter()
        .find(|view| view.target.model == row.place.model && view.target.node == row.place.node);
    match (worker.map(|worker| worker.info.status), target) {
        (Some(WorkerStatus::Ready | WorkerStatus::Busy), _) => DeploymentState::Ready,
        (Some(WorkerStatus::Starting), _) => DeploymentState::Starting,
        (_, Some(view)) if view.starting => DeploymentState::Starting,
        (_, Some(view)) if !view.pause.is_zero() => DeploymentState::Backoff,
        _ => DeploymentState::Idle,
    }
}

/// Models that the machines have
#[utoipa::path(get, path = "/v1/catalog", tag = "control", security(("control_token" = [])),
    responses((status = 200, body = ModelList), (status = "default", body = ErrorBody)))]
pub async fn catalog(State(app): State<Arc<App>>) -> Result<Json<ModelList>, Answer> {
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    let models = app.models.list().await.into_iter().map(|model| {
        let ready = workers.iter().filter(|worker| {
            worker.info.model_id == model.model
                && worker.availability == Availability::Available
                && matches!(worker.info.status, WorkerStatus::Ready | WorkerStatus::Busy)
        });
        ModelEntry {
            ready_workers: ready.count() as u32,
            nodes: vec![app.home_node.clone()],
            model,
        }
    });
    Ok(Json(ModelList {
        models: models.collect(),
    }))
}

/// End the queen, with or without its hives and workers
///
/// Answers when everything is stopped; the queen's own process ends right after.
#[utoipa::path(post, path = "/v1/shutdown", tag = "control", security(("control_token" = [])),
    request_body = ShutdownRequest,
    responses((status = 200, body = ShutdownResponse), (status = "default", body = ErrorBody)))]
pub async fn shutdown(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<ShutdownRequest>,
) -> Result<Json<ShutdownResponse>, Answer> {
    // A task of its own: a caller that goes away must not leave it half done.
    let ended = tokio::spawn(ending::end(app, request)).await;
    Ok(Json(ended.map_err(Diagnostic::internal)??))
}

/// Figures for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "control",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = "default", body = ErrorBody)))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Answer> {
    let snapshot = app.dispatcher.snapshot(Filter::default()).await?;
    let mut response = app.metrics.text(&snapshot)?.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    Ok(response)
}
