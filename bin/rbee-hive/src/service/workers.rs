use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs};
use hive_contract::{
    JobAccepted, JobEvent, SpawnRequest, SpawnResponse, StopQuery, StopScope, WorkerProcess,
    WorkerProcessList,
};
use http::{HeaderMap, StatusCode};
use input_validation::WorkerId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Hive, jobs,
    node::detached,
    responses::{SpawnErrors, WorkerErrors, WorkersErrors},
};

/// Number of log lines that are returned by default.
const DEFAULT_LOG_LINES: u32 = 100;

/// Query of `GET /v1/workers/{id}/logs`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Number of lines from the end of the log, of which at most 10000 are returned. Default: 100.
    #[param(default = 100)]
    lines: Option<u32>,
}

/// The workers of this machine
#[utoipa::path(get, path = "/v1/workers", tag = "workers",
    responses((status = 200, body = WorkerProcessList, description = "The workers"), WorkersErrors))]
pub async fn list(State(hive): State<Arc<Hive>>) -> Result<Json<WorkerProcessList>, ErrorResponse> {
    let workers = hive.workers.list().await?;
    Ok(Json(WorkerProcessList { workers }))
}

/// One worker
#[utoipa::path(get, path = "/v1/workers/{id}", tag = "workers",
    params(("id" = WorkerId, Path, description = "id of the worker")),
    responses((status = 200, body = WorkerProcess, description = "The worker"), WorkerErrors))]
pub async fn show(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<WorkerId>,
) -> Result<Json<WorkerProcess>, ErrorResponse> {
    Ok(Json(hive.workers.get(&id).await?))
}

/// The last lines of a worker's log
#[utoipa::path(get, path = "/v1/workers/{id}/logs", tag = "workers",
    params(("id" = WorkerId, Path, description = "id of the worker"), LogsQuery),
    responses((status = 200, body = String, description = "The lines",
        content_type = "text/plain; charset=utf-8"), WorkerErrors))]
pub async fn logs(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<LogsQuery>,
) -> Result<String, ErrorResponse> {
    let lines = query.lines.unwrap_or(DEFAULT_LOG_LINES);
    Ok(hive.workers.logs(&id, lines as usize).await?)
}

/// Stop a worker; responds when its process is gone
#[utoipa::path(delete, path = "/v1/workers/{id}", tag = "workers",
    params(("id" = WorkerId, Path, description = "id of the worker"), StopQuery, StopScope),
    responses((status = 204, description = "Its process is gone"), WorkerErrors))]
pub async fn stop(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<StopQuery>,
    QueryArgs(scope): QueryArgs<StopScope>,
) -> Result<StatusCode, ErrorResponse> {
    let drain = query.drain_seconds.map(Duration::from_secs);
    detached(async move { hive.workers.stop(&id, scope.generation, drain).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Spawn a worker
///
/// Starts a job. With `Accept: text/event-stream` the response streams its events, with
/// `Prefer: respond-async` it is 202 with the job's id, otherwise it is the result.
#[utoipa::path(post, path = "/v1/workers/spawn", tag = "workers", request_body = SpawnRequest,
    params(("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The worker, or the events of the job",
            content((SpawnResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        SpawnErrors))]
pub async fn spawn(
    State(hive): State<Arc<Hive>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SpawnRequest>,
) -> Result<Response, ErrorResponse> {
    let workers = Arc::clone(&hive.workers);
    let job = hive.jobs.start("spawn", |context| async move {
        workers.spawn(request, &context).await
    })?;
    jobs::respond(&hive, &job, &headers).await
}
