use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs};
use diagnostics::Diagnostic;
use hive_contract::{EngineList, StopQuery};
use http::StatusCode;
use input_validation::{NodeName, WorkerId};
use queen_contract::{NodeQuery, ReplaceQuery, SpawnCall, SpawnedWorker, WorkerEntry, WorkerList};
use serde::Deserialize;
use utoipa::IntoParams;
use worker_contract::{WorkerHeartbeat, WorkerStatus};

use crate::{
    Api,
    responses::{
        BinaryErrors, HeartbeatErrors, LookupErrors, ReadErrors, SpawnWorkerErrors, StopErrors,
        WorkerErrors,
    },
};

/// Number of log lines unless the request says otherwise.
pub(crate) const DEFAULT_LOG_LINES: u32 = 200;

/// List the registered workers
#[utoipa::path(get, path = "/v1/workers", tag = "workers", security(("control_token" = [])),
    responses((status = 200, body = WorkerList, description = "The workers"), ReadErrors))]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<WorkerList>, ErrorResponse> {
    let mut workers = api.snapshot().await?.workers;
    api.nodes.add_parts(&mut workers);
    Ok(Json(WorkerList { workers }))
}

/// Show one worker
#[utoipa::path(get, path = "/v1/workers/{id}", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path, description = "id of the worker")),
    responses((status = 200, body = WorkerEntry, description = "The worker"), LookupErrors))]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    PathArg(id): PathArg<WorkerId>,
) -> Result<Json<WorkerEntry>, ErrorResponse> {
    Ok(Json(api.nodes.worker(&id, &api.dispatcher).await?))
}

/// List the engines of a node
#[utoipa::path(get, path = "/v1/engines", tag = "workers", security(("control_token" = [])),
    params(NodeQuery),
    responses((status = 200, body = EngineList, description = "The engines"), BinaryErrors))]
pub(crate) async fn engines(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
) -> Result<Json<EngineList>, ErrorResponse> {
    Ok(Json(api.nodes.engines(query.node.as_ref()).await?))
}

/// Spawn a worker
///
/// Responds when it serves requests. If a worker for the model runs there, with the engine that is
/// named, it is the response.
#[utoipa::path(post, path = "/v1/workers", tag = "workers", security(("control_token" = [])),
    request_body = SpawnCall,
    responses((status = 200, body = SpawnedWorker, description = "The worker serves requests"),
        SpawnWorkerErrors))]
pub(crate) async fn spawn(
    State(api): State<Arc<Api>>,
    JsonBody(call): JsonBody<SpawnCall>,
) -> Result<Json<SpawnedWorker>, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not end it halfway.
    let spawned = tokio::spawn(async move { api.nodes.spawn_worker(call, &api.dispatcher).await });
    Ok(Json(spawned.await.map_err(Diagnostic::internal)??))
}

/// Query of the calls that show a log.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Number of lines from the end of the log, of which at most 10000 are returned. Default: 200.
    #[param(default = 200)]
    pub(crate) lines: Option<u32>,
}

/// Show the last lines of a worker's log
#[utoipa::path(get, path = "/v1/workers/{id}/logs", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path, description = "id of the worker"), LogQuery),
    responses((status = 200, body = String, description = "The lines",
        content_type = "text/plain; charset=utf-8"), WorkerErrors))]
pub(crate) async fn logs(
    State(api): State<Arc<Api>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<LogQuery>,
) -> Result<String, ErrorResponse> {
    let lines = query.lines.unwrap_or(DEFAULT_LOG_LINES);
    Ok(api.nodes.worker_logs(&id, lines).await?)
}

/// Stop a worker
///
/// Responds when its process has exited. Requests that run on it and do not finish in time, or
/// wait for it, continue on another running worker of the model, else fail with `DRAINING`, or
/// continue on a new worker if this one is replaced. A later request for its model starts a new
/// worker.
#[utoipa::path(delete, path = "/v1/workers/{id}", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path, description = "id of the worker"), StopQuery, ReplaceQuery),
    responses((status = 204, description = "The process has exited"),
        StopErrors))]
pub(crate) async fn stop(
    State(api): State<Arc<Api>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<StopQuery>,
    QueryArgs(further): QueryArgs<ReplaceQuery>,
) -> Result<StatusCode, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not leave a stopped worker
    // unfenced.
    let stopped = tokio::spawn(async move {
        let (nodes, dispatcher) = (&api.nodes, &api.dispatcher);
        nodes
            .stop_worker(
                &id,
                query.drain_seconds,
                further.replace.unwrap_or(false),
                dispatcher,
            )
            .await
    });
    stopped.await.map_err(Diagnostic::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

/// Receive a worker's heartbeat
///
/// 409 `FENCED`: a newer spawn of the worker is known, or it was stopped; it must exit.
#[utoipa::path(post, path = "/v1/worker-heartbeats", tag = "workers", security(("node_token" = [])),
    request_body = WorkerHeartbeat,
    responses((status = 204, description = "The heartbeat is accepted"), HeartbeatErrors))]
pub(crate) async fn heartbeat(
    State(api): State<Arc<Api>>,
    Extension(sender): Extension<NodeName>,
    JsonBody(heartbeat): JsonBody<WorkerHeartbeat>,
) -> Result<StatusCode, ErrorResponse> {
    let worker = heartbeat.worker.clone();
    api.nodes.check_heartbeat(&sender, &worker)?;
    api.dispatcher.heartbeat(heartbeat).await?;
    // Capabilities that depend on the model are known once it is loaded.
    if matches!(worker.status, WorkerStatus::Ready | WorkerStatus::Busy) {
        api.nodes.remember_capabilities(&worker);
    }
    Ok(StatusCode::NO_CONTENT)
}
