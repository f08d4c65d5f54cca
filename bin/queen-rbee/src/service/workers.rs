use std::sync::Arc;

use axum::{Json, extract::State};
use daemon_shell::{Answer, JsonBody, PathArg, QueryArgs};
use diagnostics::{Code, Diagnostic, ErrorBody};
use hive_contract::StopQuery;
use http::StatusCode;
use input_validation::{Generation, WorkerId};
use queen_contract::{WorkerEntry, WorkerList};
use rest_client::CallError;
use scheduler::Event;
use serde::Deserialize;
use utoipa::IntoParams;
use worker_contract::{WorkerHeartbeat, WorkerStatus};
use worker_registry::Filter;

use crate::app::App;

/// Lines of a log that are told unless asked for more or fewer.
const DEFAULT_LINES: u32 = 200;

/// The workers that are heard
#[utoipa::path(get, path = "/v1/workers", tag = "workers", security(("control_token" = [])),
    responses((status = 200, body = WorkerList), (status = "default", body = ErrorBody)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<WorkerList>, Answer> {
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    Ok(Json(WorkerList { workers }))
}

/// One worker
#[utoipa::path(get, path = "/v1/workers/{id}", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path)),
    responses((status = 200, body = WorkerEntry), (status = "default", body = ErrorBody)))]
pub async fn show(
    State(app): State<Arc<App>>,
    PathArg(id): PathArg<WorkerId>,
) -> Result<Json<WorkerEntry>, Answer> {
    Ok(Json(
        heard(&app, &id)
            .await?
            .ok_or_else(|| App::worker_not_found(&id))?,
    ))
}

async fn heard(app: &App, id: &WorkerId) -> Result<Option<WorkerEntry>, Diagnostic> {
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    Ok(workers.into_iter().find(|worker| worker.info.id == *id))
}

/// Query of a log.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
pub struct LogQuery {
    /// The last so many lines; absent, 200.
    lines: Option<u32>,
}

/// The last lines of a worker's log
#[utoipa::path(get, path = "/v1/workers/{id}/logs", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path), LogQuery),
    responses((status = 200, body = String), (status = "default", body = ErrorBody)))]
pub async fn logs(
    State(app): State<Arc<App>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<LogQuery>,
) -> Result<String, Answer> {
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    Ok(app.hive_now()?.client.worker_logs(&id, lines).await?)
}

/// Stop a worker; the next request for its model starts a new one
///
/// Answers when the process is gone.
#[utoipa::path(delete, path = "/v1/workers/{id}", tag = "workers", security(("control_token" = [])),
    params(("id" = WorkerId, Path), StopQuery),
    responses((status = 204, description = "its process is gone"),
        (status = "default", body = ErrorBody)))]
pub async fn stop(
    State(app): State<Arc<App>>,
    PathArg(id): PathArg<WorkerId>,
    QueryArgs(query): QueryArgs<StopQuery>,
) -> Result<StatusCode, Answer> {
    let heard = heard(&app, &id).await?.map(|worker| worker.info.generation);
    // A task of its own: a caller that goes away must not leave a stopped worker unfenced.
    let stopped = tokio::spawn(async move {
        let ran = stop_process(&app, &id, query, heard).await?;
        let lowest = Generation(ran.0.saturating_add(1));
        let worker = id.clone();
        app.store
            .call(move |store| store.fence(&worker, lowest))
            .await?;
        app.dispatcher.tell(Event::Fence(id, lowest)).await;
        Ok::<_, Diagnostic>(())
    });
    stopped.await.map_err(Diagnostic::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

/// Has the hive end the process and returns its generation. A worker that no hive has ends
/// by its fence.
async fn stop_process(
    app: &App,
    id: &WorkerId,
    query: StopQuery,
    heard: Option<Generation>,
) -> Result<Generation, Diagnostic> {
    let unknown = || heard.ok_or_else(|| App::worker_not_found(id));
    let hive = match app.hive_now() {
        Ok(hive) => hive,
        Err(_) if app.hive.is_none() => return unknown(),
        Err(error) => return Err(error),
    };
    let entry = match hive.client.worker(id).await {
        Ok(entry) => entry,
        Err(CallError::Answer(_, error)) if error.code == Code::WorkerNotFound => return unknown(),
        Err(error) => return Err(error.into()),
    };
    hive.client.stop_worker(id, query.drain_seconds).await?;
    Ok(heard.map_or(entry.generation, |heard| heard.max(entry.generation)))
}

/// A worker tells its state
///
/// 409 `FENCED`: a newer spawn of it is known, or it was stopped; it must end.
#[utoipa::path(post, path = "/v1/worker-heartbeats", tag = "workers", security(("node_token" = [])),
    request_body = WorkerHeartbeat,
    responses((status = 204, description = "heard"), (status = "default", body = ErrorBody)))]
pub async fn heartbeat(
    State(app): State<Arc<App>>,
    JsonBody(heartbeat): JsonBody<WorkerHeartbeat>,
) -> Result<StatusCode, Answer> {
    let worker = heartbeat.worker.clone();
    app.dispatcher.heartbeat(heartbeat).await?;
    // What depends on the model is known once that is loaded.
    if matches!(worker.status, WorkerStatus::Ready | WorkerStatus::Busy) {
        app.models.heard(&worker);
    }
    Ok(StatusCode::NO_CONTENT)
}
