//! The models on the nodes' disks.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs, event_stream};
use diagnostics::{Code, Diagnostic};
use futures_util::{Stream, StreamExt as _};
use hive_contract::{
    AliasRequest, BackupRequest, JobAccepted, JobEvent, ModelQuery, PruneRequest, PruneResponse,
    PullRequest, PullResponse, RemovedModel, UpdateResponse, VerifyResponse,
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use input_validation::JobId;
use queen_contract::{Availability, ModelEntry, ModelList, ModelReport, NodeQuery};
use worker_contract::WorkerStatus;

use crate::{
    Api,
    responses::{CatalogErrors, CatalogJobErrors, CatalogSourceErrors, JobErrors, ReadErrors},
};

/// List the models of all nodes
#[utoipa::path(get, path = "/v1/catalog", tag = "catalog", security(("control_token" = [])),
    responses((status = 200, body = ModelList, description = "The models"), ReadErrors))]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<ModelList>, ErrorResponse> {
    let workers = api.snapshot().await?.workers;
    let models = api.nodes.models().await.into_iter().map(|model| {
        let ready = workers.iter().filter(|worker| {
            worker.info.model_id == model.entry.model
                && worker.availability == Availability::Available
                && matches!(worker.info.status, WorkerStatus::Ready | WorkerStatus::Busy)
        });
        ModelEntry {
            ready_workers: ready.count() as u32,
            model: model.entry,
            nodes: model.nodes,
        }
    });
    let models = models.collect();
    let (aliases, notices) = api.nodes.aliases_and_notices();
    Ok(Json(ModelList {
        models,
        aliases,
        notices,
    }))
}

/// Fetch a model to a node
///
/// Starts a job. With `Accept: text/event-stream` the response streams its events, with
/// `Prefer: respond-async` it is 202 with the job's id, otherwise it is the result. The job
/// continues when the caller leaves; `DELETE /v1/catalog/jobs/{id}` cancels it. Jobs of the same
/// model share one download, which ends when all of them are cancelled.
#[utoipa::path(post, path = "/v1/catalog/pull", tag = "catalog", security(("control_token" = [])),
    request_body = PullRequest,
    params(NodeQuery, ("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The model, or the events of the job",
            content((PullResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        CatalogJobErrors))]
pub(crate) async fn pull(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<PullRequest>,
) -> Result<Response, ErrorResponse> {
    let job = api.nodes.pull(query.node.as_ref(), &request).await?;
    respond(&api, &query, job, &headers).await
}

/// Compare the files of a model on a node with their hashes
///
/// Starts a job, whose responses are those of a pull.
#[utoipa::path(post, path = "/v1/catalog/verify", tag = "catalog", security(("control_token" = [])),
    request_body = ModelQuery,
    params(NodeQuery, ("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The result, or the events of the job",
            content((VerifyResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        CatalogJobErrors))]
pub(crate) async fn verify(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ModelQuery>,
) -> Result<Response, ErrorResponse> {
    let job = api.nodes.verify(query.node.as_ref(), &request).await?;
    respond(&api, &query, job, &headers).await
}

/// Events of a job of the catalog, from the first to the terminal one
#[utoipa::path(get, path = "/v1/catalog/jobs/{id}/events", tag = "catalog", security(("control_token" = [])),
    params(NodeQuery, ("id" = JobId, Path, description = "id of the job")),
    responses((status = 200, description = "The events",
        content(("text/event-stream", item_schema = JobEvent))), JobErrors))]
pub(crate) async fn job_events(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    PathArg(id): PathArg<JobId>,
) -> Result<Response, ErrorResponse> {
    let events = api.nodes.model_job_events(query.node.as_ref(), &id).await?;
    Ok(stream(events))
}

/// Cancel a job of the catalog
///
/// What a pull has fetched is kept, and the next pull of the model continues it.
#[utoipa::path(delete, path = "/v1/catalog/jobs/{id}", tag = "catalog", security(("control_token" = [])),
    params(NodeQuery, ("id" = JobId, Path, description = "id of the job")),
    responses((status = 204, description = "The job is cancelled, or had already finished"), JobErrors))]
pub(crate) async fn cancel_job(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    PathArg(id): PathArg<JobId>,
) -> Result<StatusCode, ErrorResponse> {
    api.nodes.cancel_model_job(query.node.as_ref(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show one model, whether or not a node has it
#[utoipa::path(post, path = "/v1/catalog/show", tag = "catalog", security(("control_token" = [])),
    request_body = ModelQuery, params(NodeQuery),
    responses((status = 200, body = ModelReport, description = "The model"), CatalogSourceErrors))]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<ModelQuery>,
) -> Result<Json<ModelReport>, ErrorResponse> {
    let details = api.nodes.show_model(query.node.as_ref(), &request);
    Ok(Json(details.await?))
}

/// Remove the files of a model from a node
///
/// Files of the user are forgotten and stay on disk.
#[utoipa::path(post, path = "/v1/catalog/remove", tag = "catalog", security(("control_token" = [])),
    request_body = ModelQuery, params(NodeQuery),
    responses((status = 200, body = RemovedModel, description = "The model is removed"), CatalogErrors))]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<ModelQuery>,
) -> Result<Json<RemovedModel>, ErrorResponse> {
    let removed = api.nodes.remove_model(query.node.as_ref(), &request);
    Ok(Json(removed.await?))
}

/// Compare a model with the newest revision at its source
///
/// Changes nothing; a pull with that revision does.
#[utoipa::path(post, path = "/v1/catalog/update", tag = "catalog", security(("control_token" = [])),
    request_body = ModelQuery, params(NodeQuery),
    responses((status = 200, body = UpdateResponse, description = "The difference"), CatalogSourceErrors))]
pub(crate) async fn update(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<ModelQuery>,
) -> Result<Json<UpdateResponse>, ErrorResponse> {
    let difference = api.nodes.update_model(query.node.as_ref(), &request);
    Ok(Json(difference.await?))
}

/// Remove the models that were not used for the longest time from a node
#[utoipa::path(post, path = "/v1/catalog/prune", tag = "catalog", security(("control_token" = [])),
    request_body = PruneRequest, params(NodeQuery),
    responses((status = 200, body = PruneResponse, description = "What was removed"), CatalogErrors))]
pub(crate) async fn prune(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<PruneRequest>,
) -> Result<Json<PruneResponse>, ErrorResponse> {
    let pruned = api.nodes.prune_models(query.node.as_ref(), &request);
    Ok(Json(pruned.await?))
}

/// Set or remove an alias of a model
#[utoipa::path(post, path = "/v1/catalog/alias", tag = "catalog", security(("control_token" = [])),
    request_body = AliasRequest, params(NodeQuery),
    responses((status = 204, description = "The alias is set or removed"), CatalogErrors))]
pub(crate) async fn alias(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<AliasRequest>,
) -> Result<StatusCode, ErrorResponse> {
    api.nodes.set_alias(query.node.as_ref(), &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Write a copy of a node's database of models to its disk
#[utoipa::path(post, path = "/v1/catalog/backup", tag = "catalog", security(("control_token" = [])),
    request_body = BackupRequest, params(NodeQuery),
    responses((status = 204, description = "The copy is written"), CatalogErrors))]
pub(crate) async fn backup(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<BackupRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let node = query.node.as_ref();
    api.nodes.back_up_catalog(node, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace a node's database of models with a copy on its disk
///
/// Models on disk that the copy does not know are added to it.
#[utoipa::path(post, path = "/v1/catalog/restore", tag = "catalog", security(("control_token" = [])),
    request_body = BackupRequest, params(NodeQuery),
    responses((status = 204, description = "The database is replaced"), CatalogErrors))]
pub(crate) async fn restore(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    JsonBody(request): JsonBody<BackupRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let node = query.node.as_ref();
    api.nodes.restore_catalog(node, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Responds to a call that started a job as its headers request: with the job's events, with
/// its id immediately, or with its result.
pub(crate) async fn respond(
    api: &Api,
    query: &NodeQuery,
    job: JobAccepted,
    headers: &HeaderMap,
) -> Result<Response, ErrorResponse> {
    let requests = |name: HeaderName, value: &str| {
        let mut all = headers.get_all(name).iter();
        all.any(|v| {
            v.to_str()
                .is_ok_and(|v| v.to_ascii_lowercase().contains(value))
        })
    };
    let as_events = requests(header::ACCEPT, "text/event-stream");
    if !as_events && requests(HeaderName::from_static("prefer"), "respond-async") {
        let location = format!("/v1/catalog/jobs/{}", job.job_id);
        let location = [(header::LOCATION, location)];
        return Ok((StatusCode::ACCEPTED, location, Json(job)).into_response());
    }
    let node = query.node.as_ref();
    let events = api.nodes.model_job_events(node, &job.job_id).await?;
    if as_events {
        return Ok(stream(events));
    }
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event? {
            JobEvent::Result(result) => return Ok(Json(result).into_response()),
            JobEvent::Error(error) => return Err(error.into()),
            JobEvent::Cancelled {} => {
                let message = format!("job {} was cancelled", job.job_id);
                return Err(Diagnostic::new(Code::Cancelled, message).into());
            }
            JobEvent::Narration(_) | JobEvent::Progress(_) => {}
        }
    }
    Err(crate::errors::hive_stream_ended().into())
}

/// Events of a job. The last one is terminal, also if the connection to the hive fails.
fn stream(events: impl Stream<Item = Result<JobEvent, Diagnostic>> + Send + 'static) -> Response {
    let ended = futures_util::stream::once(async { Err(crate::errors::hive_stream_ended()) });
    let events = events.chain(ended).scan(false, |finished, event| {
        let event = (!*finished).then(|| event.unwrap_or_else(JobEvent::Error));
        *finished |= event.as_ref().is_some_and(JobEvent::is_terminal);
        std::future::ready(event)
    });
    event_stream(events.map(|event| {
        // Fails only for values that JSON cannot represent; an event has none.
        let data = event.data().unwrap_or_default();
        axum::body::Bytes::from(format!("event: {}\ndata: {data}\n\n", event.name()))
    }))
}
