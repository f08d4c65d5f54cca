use std::{path::PathBuf, sync::Arc};

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, blocking};
use diagnostics::{Code, Diagnostic};
use hive_contract::{
    AliasRequest, BackupRequest, InstalledModelList, JobAccepted, JobEvent, ModelDetails,
    ModelQuery, NodePullRequest, PruneRequest, PruneResponse, PullResponse, RemovedModel,
    UpdateResponse, VerifyResponse, WorkerState,
};
use http::{HeaderMap, StatusCode};
use input_validation::ModelRef;
use model_catalog::InUse;

use super::{
    Hive, jobs,
    responses::{
        ModelChangeErrors, ModelErrors, PullErrors, SourceErrors, StorageErrors, StoreErrors,
    },
};

/// Models on the machine
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, body = InstalledModelList, description = "The models"), StorageErrors))]
pub async fn list(
    State(hive): State<Arc<Hive>>,
) -> Result<Json<InstalledModelList>, ErrorResponse> {
    // Without the workers, only the note that a loaded file was replaced is missing.
    let in_use = in_use(&hive).await.unwrap_or_default();
    let loaded: Vec<ModelRef> = in_use.into_iter().map(|(model, _)| model).collect();
    let list = blocking(move || {
        Ok(InstalledModelList {
            models: hive.catalog.list(&loaded)?,
            aliases: hive.catalog.aliases()?,
            notices: hive.catalog.notices().to_vec(),
        })
    });
    Ok(Json(list.await?))
}

/// The models of the running workers.
async fn in_use(hive: &Hive) -> Result<InUse, Diagnostic> {
    let workers = hive.workers.list().await?.into_iter();
    let running = workers.filter(|worker| worker.state == WorkerState::Running);
    Ok(running
        .map(|worker| (worker.model, worker.worker_id))
        .collect())
}

/// One model, whether or not it is on the machine
///
/// For a model that is not on the machine, its source is asked.
#[utoipa::path(post, path = "/v1/models/show", tag = "models", request_body = ModelQuery,
    responses((status = 200, body = ModelDetails, description = "The model"), SourceErrors))]
pub async fn show(
    State(hive): State<Arc<Hive>>,
    JsonBody(query): JsonBody<ModelQuery>,
) -> Result<Json<ModelDetails>, ErrorResponse> {
    Ok(Json(hive.puller.details(query.model).await?))
}

/// Fetch a model
///
/// Starts a job. With `Accept: text/event-stream` the response streams its events, with
/// `Prefer: respond-async` it is 202 with the job's id, otherwise it is the result. The job
/// continues when the caller leaves; `DELETE /v1/jobs/{id}` cancels it. Jobs of the same model
/// share one download, which ends when all of them are cancelled.
#[utoipa::path(post, path = "/v1/models/pull", tag = "models", request_body = NodePullRequest,
    params(("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The model, or the events of the job",
            content((PullResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        PullErrors))]
pub async fn pull(
    State(hive): State<Arc<Hive>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<NodePullRequest>,
) -> Result<Response, ErrorResponse> {
    let job = hive.puller.start(&hive.jobs, request)?;
    jobs::respond(&hive, &job, &headers).await
}

/// Compare the files of a model with their hashes
///
/// Starts a job, whose responses are those of a pull.
#[utoipa::path(post, path = "/v1/models/verify", tag = "models", request_body = ModelQuery,
    params(("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The result, or the events of the job",
            content((VerifyResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        PullErrors))]
pub async fn verify(
    State(hive): State<Arc<Hive>>,
    headers: HeaderMap,
    JsonBody(query): JsonBody<ModelQuery>,
) -> Result<Response, ErrorResponse> {
    let catalog = Arc::clone(&hive.catalog);
    let job = hive.jobs.start("verify", |context| {
        blocking(move || catalog.verify(&query.model, &context))
    })?;
    jobs::respond(&hive, &job, &headers).await
}

/// Remove the files of a model
///
/// Files of the user are forgotten and stay on disk.
#[utoipa::path(post, path = "/v1/models/remove", tag = "models", request_body = ModelQuery,
    responses((status = 200, body = RemovedModel, description = "The model is removed"), ModelChangeErrors))]
pub async fn remove(
    State(hive): State<Arc<Hive>>,
    JsonBody(query): JsonBody<ModelQuery>,
) -> Result<Json<RemovedModel>, ErrorResponse> {
    let in_use = in_use(&hive).await?;
    let removed = blocking(move || hive.catalog.remove(&query.model, &in_use));
    Ok(Json(removed.await?))
}

/// Compare a model with the newest revision at its source
///
/// Changes nothing; a pull with that revision does.
#[utoipa::path(post, path = "/v1/models/update", tag = "models", request_body = ModelQuery,
    responses((status = 200, body = UpdateResponse, description = "The difference"), SourceErrors))]
pub async fn update(
    State(hive): State<Arc<Hive>>,
    JsonBody(query): JsonBody<ModelQuery>,
) -> Result<Json<UpdateResponse>, ErrorResponse> {
    Ok(Json(hive.puller.update(query.model).await?))
}

/// Remove the models that were not used for the longest time
#[utoipa::path(post, path = "/v1/models/prune", tag = "models", request_body = PruneRequest,
    responses((status = 200, body = PruneResponse, description = "What was removed"), StoreErrors))]
pub async fn prune(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<PruneRequest>,
) -> Result<Json<PruneResponse>, ErrorResponse> {
    let in_use = in_use(&hive).await?;
    let pruned = blocking(move || hive.catalog.prune(request, &in_use));
    Ok(Json(pruned.await?))
}

/// Set or remove an alias
#[utoipa::path(post, path = "/v1/models/alias", tag = "models", request_body = AliasRequest,
    responses((status = 204, description = "The alias is set or removed"), ModelErrors))]
pub async fn alias(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<AliasRequest>,
) -> Result<StatusCode, ErrorResponse> {
    blocking(move || hive.catalog.set_alias(&request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Write a copy of the database of models
#[utoipa::path(post, path = "/v1/models/backup", tag = "models", request_body = BackupRequest,
    responses((status = 204, description = "The copy is written"), StoreErrors))]
pub async fn backup(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<BackupRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let path = absolute(&request)?;
    blocking(move || hive.catalog.back_up(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace the database of models with a copy
///
/// Models on disk that the copy does not know are added to it.
#[utoipa::path(post, path = "/v1/models/restore", tag = "models", request_body = BackupRequest,
    responses((status = 204, description = "The database is replaced"), StoreErrors))]
pub async fn restore(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<BackupRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let path = absolute(&request)?;
    blocking(move || hive.catalog.restore(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn absolute(request: &BackupRequest) -> Result<PathBuf, Diagnostic> {
    let path = PathBuf::from(&request.path);
    if path.is_absolute() && !request.path.chars().any(char::is_control) && request.path.len() > 1 {
        return Ok(path);
    }
    let message = format!(
        "not an absolute path: \"{}\"",
        diagnostics::excerpt(&request.path, 120)
    );
    Err(Diagnostic::new(Code::InvalidRequest, message)
        .param("path")
        .hint("name a file on the machine of the hive, from `/` on"))
}
