//! The worker binaries of the nodes.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs};
use hive_contract::{
    InstallationQuery, InstalledBinary, InstalledBinaryList, JobAccepted, JobEvent, PackageDetails,
    PackageList, ProvisionRequest, ProvisionResponse, RemovedBinaries, RollbackRequest,
};
use http::HeaderMap;
use input_validation::{PackageId, WorkerType};
use queen_contract::NodeQuery;

use crate::{
    Api, catalog,
    responses::{BinaryChangeErrors, BinaryErrors, PackageErrors, ProvisionErrors},
};

/// Worker binaries on a node
#[utoipa::path(get, path = "/v1/worker-binaries", tag = "worker binaries", security(("control_token" = [])),
    params(NodeQuery),
    responses((status = 200, body = InstalledBinaryList, description = "The worker binaries"), BinaryErrors))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
) -> Result<Json<InstalledBinaryList>, ErrorResponse> {
    Ok(Json(api.nodes.binaries(query.node.as_ref(), None).await?))
}

/// The versions of one worker binary on a node
#[utoipa::path(get, path = "/v1/worker-binaries/{type}", tag = "worker binaries", security(("control_token" = [])),
    params(NodeQuery, ("type" = WorkerType, Path, description = "type of the worker")),
    responses((status = 200, body = InstalledBinaryList, description = "The versions"), BinaryErrors))]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    PathArg(worker_type): PathArg<WorkerType>,
) -> Result<Json<InstalledBinaryList>, ErrorResponse> {
    let list = api.nodes.binaries(query.node.as_ref(), Some(&worker_type));
    Ok(Json(list.await?))
}

/// The packages of a node's catalog
///
/// The catalog is read again, and verified with its key.
#[utoipa::path(get, path = "/v1/worker-binaries/catalog", tag = "worker binaries", security(("control_token" = [])),
    params(NodeQuery),
    responses((status = 200, body = PackageList, description = "The packages"), PackageErrors))]
pub(crate) async fn packages(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
) -> Result<Json<PackageList>, ErrorResponse> {
    Ok(Json(api.nodes.packages(query.node.as_ref()).await?))
}

/// A package of a node's catalog, with its PKGBUILD
#[utoipa::path(get, path = "/v1/worker-binaries/catalog/{id}", tag = "worker binaries", security(("control_token" = [])),
    params(NodeQuery, ("id" = PackageId, Path, description = "id of the package")),
    responses((status = 200, body = PackageDetails, description = "The package"), PackageErrors))]
pub(crate) async fn package(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    PathArg(id): PathArg<PackageId>,
) -> Result<Json<PackageDetails>, ErrorResponse> {
    Ok(Json(api.nodes.package(query.node.as_ref(), &id).await?))
}

/// Make a worker binary available on a node
///
/// One that is installed is used at once. Otherwise it is built or downloaded, verified by running
/// it, and used by workers that start from then on. Starts a job. With `Accept: text/event-stream`
/// the response streams its events, with `Prefer: respond-async` it is 202 with the job's id,
/// otherwise it is the result. The job continues when the caller leaves;
/// `DELETE /v1/catalog/jobs/{id}` cancels it. Jobs of the same request share one build, which ends
/// when all of them are cancelled.
#[utoipa::path(post, path = "/v1/worker-binaries/provision", tag = "worker binaries", security(("control_token" = [])),
    request_body = ProvisionRequest,
    params(NodeQuery, ("prefer" = Option<String>, Header, description = "`respond-async` for a response with the job's id")),
    responses((status = 200, description = "The binary, or the events of the job",
            content((ProvisionResponse = "application/json"), ("text/event-stream", item_schema = JobEvent))),
        (status = 202, body = JobAccepted, description = "The job",
            headers(("location" = String, description = "Path of the job"))),
        ProvisionErrors))]
pub(crate) async fn provision(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ProvisionRequest>,
) -> Result<Response, ErrorResponse> {
    let job = api.nodes.provision(query.node.as_ref(), &request).await?;
    catalog::respond(&api, &query, job, &headers).await
}

/// Remove the versions of a worker binary from a node, or one of them
///
/// The binary of the hive's own release stays. A version that a worker runs from is not removed.
#[utoipa::path(delete, path = "/v1/worker-binaries/{type}", tag = "worker binaries", security(("control_token" = [])),
    params(NodeQuery, InstallationQuery, ("type" = WorkerType, Path, description = "type of the worker")),
    responses((status = 200, body = RemovedBinaries, description = "They are removed"), BinaryChangeErrors))]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    QueryArgs(which): QueryArgs<InstallationQuery>,
    PathArg(worker_type): PathArg<WorkerType>,
) -> Result<Json<RemovedBinaries>, ErrorResponse> {
    let node = query.node.as_ref();
    let removed = api.nodes.remove_binary(node, &worker_type, &which);
    Ok(Json(removed.await?))
}

/// Let new workers of a node run another installed version
///
/// Running workers keep theirs.
#[utoipa::path(post, path = "/v1/worker-binaries/{type}/rollback", tag = "worker binaries", security(("control_token" = [])),
    request_body = RollbackRequest,
    params(NodeQuery, ("type" = WorkerType, Path, description = "type of the worker")),
    responses((status = 200, body = InstalledBinary, description = "The version that new workers run"), BinaryChangeErrors))]
pub(crate) async fn roll_back(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<NodeQuery>,
    PathArg(worker_type): PathArg<WorkerType>,
    JsonBody(request): JsonBody<RollbackRequest>,
) -> Result<Json<InstalledBinary>, ErrorResponse> {
    let node = query.node.as_ref();
    let selected = api.nodes.roll_back_binary(node, &worker_type, &request);
    Ok(Json(selected.await?))
}
