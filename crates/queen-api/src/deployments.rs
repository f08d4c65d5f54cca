use std::sync::Arc;

use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::Diagnostic;
use http::StatusCode;
use queen_contract::{DeployCall, DeploymentList, UndeployCall};

use crate::{
    Api,
    responses::{DeployErrors, ReadErrors, UndeployErrors},
};

/// List the deployments
///
/// Those that users made, and those of models that requests have named.
#[utoipa::path(get, path = "/v1/deployments", tag = "deployments", security(("control_token" = [])),
    responses((status = 200, body = DeploymentList, description = "The deployments"), ReadErrors))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
) -> Result<Json<DeploymentList>, ErrorResponse> {
    let snapshot = api.snapshot().await?;
    let deployments = api.nodes.deployments(&snapshot).await?;
    Ok(Json(DeploymentList { deployments }))
}

/// Create or replace deployments
///
/// Responds when they are stored; workers start after that. Workers that run with another engine,
/// context or number of slots are replaced one after another. All or nothing is changed.
#[utoipa::path(put, path = "/v1/deployments", tag = "deployments", security(("control_token" = [])),
    request_body = DeployCall,
    responses((status = 200, body = DeploymentList, description = "These deployments"), DeployErrors))]
pub(crate) async fn deploy(
    State(api): State<Arc<Api>>,
    JsonBody(call): JsonBody<DeployCall>,
) -> Result<Json<DeploymentList>, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not leave it half done.
    let deploying = Arc::clone(&api);
    let deployed =
        tokio::spawn(async move { deploying.nodes.deploy(call, &deploying.dispatcher).await });
    let models = deployed.await.map_err(Diagnostic::internal)??;
    let Json(mut list) = list(State(api)).await?;
    list.deployments
        .retain(|deployment| models.contains(&deployment.model));
    Ok(Json(list))
}

/// Remove a deployment
///
/// Responds when its workers have stopped. A later request for its model starts a new worker.
#[utoipa::path(post, path = "/v1/deployments/remove", tag = "deployments",
    security(("control_token" = [])), request_body = UndeployCall,
    responses((status = 204, description = "It is removed"), UndeployErrors))]
pub(crate) async fn undeploy(
    State(api): State<Arc<Api>>,
    JsonBody(call): JsonBody<UndeployCall>,
) -> Result<StatusCode, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not leave it half done.
    let undeployed = tokio::spawn(async move { api.nodes.undeploy(call, &api.dispatcher).await });
    undeployed.await.map_err(Diagnostic::internal)??;
    Ok(StatusCode::NO_CONTENT)
}
