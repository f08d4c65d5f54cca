use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs, blocking};
use diagnostics::{Code, Diagnostic};
use hive_contract::{
    InstallationQuery, InstalledBinary, InstalledBinaryList, JobAccepted, JobEvent, PackageDetails,
    PackageList, ProvisionRequest, ProvisionResponse, RemovedBinaries, RollbackRequest,
};
use http::HeaderMap;
use input_validation::{PackageId, WorkerType};
use worker_provisioning::InUse;

use super::{
    Hive, jobs,
    responses::{BinaryChangeErrors, BinaryErrors, PackageErrors, ProvisionErrors, StorageErrors},
};

/// Worker binaries on the machine
#[utoipa::path(get, path = "/v1/worker-binaries", tag = "worker binaries",
    responses((status = 200, body = InstalledBinaryList, description = "The worker binaries"), StorageErrors))]
pub async fn list(
    State(hive): State<Arc<Hive>>,
) -> Result<Json<InstalledBinaryList>, ErrorResponse> {
    let in_use = hive.workers.programs().await?;
    let list = blocking(move || hive.binaries.catalog().list(None));
    Ok(Json(with_workers(list.await?, &in_use)))
}

/// The installed versions of one worker binary
#[utoipa::path(get, path = "/v1/worker-binaries/{type}", tag = "worker binaries",
    params(("type" = WorkerType, Path, description = "type of the worker")),
    responses((status = 200, body = InstalledBinaryList, description = "The versions"), BinaryErrors))]
pub async fn show(
    State(hive): State<Arc<Hive>>,
    PathArg(worker_type): PathArg<WorkerType>,
) -> Result<Json<InstalledBinaryList>, ErrorResponse> {
    let in_use = hive.workers.programs().await?;
    let list = blocking(move || {
        let list = hive.binaries.catalog().list(Some(&worker_type))?;
        if list.binaries.is_empty() {
            return Err(not_installed(&worker_type));
        }
        Ok(list)
    });
    Ok(Json(with_workers(list.await?, &in_use)))
}

/// Adds the workers that run each binary.
fn with_workers(mut list: InstalledBinaryList, in_use: &InUse) -> InstalledBinaryList {
    for binary in &mut list.binaries {
        let users = in_use
            .iter()
            .filter(|(_, program)| program.as_os_str() == binary.binary_path.as_str());
        binary.workers = users.map(|(id, _)| id.clone()).collect();
        binary.workers.dedup();
    }
    list
}

/// The packages of this hive's catalog
///
/// The catalog is read again, and verified with its key.
#[utoipa::path(get, path = "/v1/worker-binaries/catalog", tag = "worker binaries",
    responses((status = 200, body = PackageList, description = "The packages"), PackageErrors))]
pub async fn packages(State(hive): State<Arc<Hive>>) -> Result<Json<PackageList>, ErrorResponse> {
    Ok(Json(hive.binaries.packages().await?))
}

/// A package of this hive's catalog, with its PKGBUILD
#[utoipa::path(get, path = "/v1/worker-binaries/catalog/{id}", tag = "worker binaries",
    params(("id" = PackageId, Path, description = "id of the package")),
    responses((status = 200, body = PackageDetails, description = "The package"), PackageErrors))]
pub async fn package(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<PackageId>,
) -> Result<Json<PackageDetails>, ErrorResponse> {
    Ok(Json(hive.binaries.package(&id).await?))
}

/// Make a worker binary available
///
/// One that is installed is used at once. Otherwise it is built or downloaded, verified by running
/// it, and used by workers that start from then on. Starts a job. With `Accept: text/event-stream`
/// the response streams its events, with `Prefer: respond-async` it is 202 with the job's id,
/// otherwise it is the result. The job continues when the caller leaves; `DELETE /v1/jobs/{id}`
/// cancels it. Jobs of the same request share one build, which ends when all of them are
/// cancelled.
#[utoipa::path(post, path = "/v1/worker-binaries/provision", tag = "worker binaries", request_body = ProvisionRequest,
    params(("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The binary, or the events of the job",
            content((ProvisionResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        ProvisionErrors))]
pub async fn provision(
    State(hive): State<Arc<Hive>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ProvisionRequest>,
) -> Result<Response, ErrorResponse> {
    let job = hive.binaries.start(request)?;
    jobs::respond(&hive, &job, &headers).await
}

/// Remove the versions of a worker binary, or one of them
///
/// The binary of the hive's own release stays. A version that a worker runs from is not removed.
#[utoipa::path(delete, path = "/v1/worker-binaries/{type}", tag = "worker binaries",
    params(("type" = WorkerType, Path, description = "type of the worker"), InstallationQuery),
    responses((status = 200, body = RemovedBinaries, description = "They are removed"), BinaryChangeErrors))]
pub async fn remove(
    State(hive): State<Arc<Hive>>,
    PathArg(worker_type): PathArg<WorkerType>,
    QueryArgs(query): QueryArgs<InstallationQuery>,
) -> Result<Json<RemovedBinaries>, ErrorResponse> {
    let in_use = hive.workers.programs().await?;
    let removed = blocking(move || {
        let installation = query.installation.as_ref();
        let catalog = hive.binaries.catalog();
        catalog.remove(&worker_type, installation, &in_use)
    });
    Ok(Json(removed.await?))
}

/// Let new workers run another installed version
///
/// Running workers keep theirs.
#[utoipa::path(post, path = "/v1/worker-binaries/{type}/rollback", tag = "worker binaries", request_body = RollbackRequest,
    params(("type" = WorkerType, Path, description = "type of the worker")),
    responses((status = 200, body = InstalledBinary, description = "The version that new workers run"), BinaryChangeErrors))]
pub async fn roll_back(
    State(hive): State<Arc<Hive>>,
    PathArg(worker_type): PathArg<WorkerType>,
    JsonBody(request): JsonBody<RollbackRequest>,
) -> Result<Json<InstalledBinary>, ErrorResponse> {
    let selected = blocking(move || {
        let catalog = hive.binaries.catalog();
        catalog.roll_back(&worker_type, request.installation.as_ref())
    });
    Ok(Json(selected.await?))
}

fn not_installed(worker_type: &WorkerType) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("{worker_type} is not installed on this node"),
    )
    .hint("list what is with `rbee-keeper worker-binary list`")
}
