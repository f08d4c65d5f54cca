//! Calls of machines that connect to the queen, and their invitations.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs, Upgrade, require_bearer};
use hive_contract::LINK_PROTOCOL;
use http::{HeaderMap, StatusCode};
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::{
    InvitationList, InvitationToken, InviteNode, JoinRequest, JoinResponse, LinkHello,
    MAX_EXPIRY_SECONDS, NewInvitation, NodeSecret,
};
use queen_nodes::NodeConnection;

use crate::{
    Api, errors,
    responses::{InviteErrors, JoinErrors, LinkErrors, ReadErrors, RevokeErrors},
};

/// List the invitations that can be used
#[utoipa::path(get, path = "/v1/invitations", tag = "nodes", security(("control_token" = [])),
    responses((status = 200, body = InvitationList, description = "The invitations"), ReadErrors))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
) -> Result<Json<InvitationList>, ErrorResponse> {
    let invitations = api.nodes.invitations(Timestamp::now()).await?;
    Ok(Json(InvitationList { invitations }))
}

/// Invite a machine to become a node
///
/// The machine connects to the queen, which does not need to reach it. An earlier invitation for
/// the same name is void.
#[utoipa::path(post, path = "/v1/invitations", tag = "nodes", security(("control_token" = [])),
    request_body = InviteNode,
    responses((status = 200, body = NewInvitation, description = "The invitation with its secret"), InviteErrors))]
pub(crate) async fn invite(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<InviteNode>,
) -> Result<Json<NewInvitation>, ErrorResponse> {
    if !(1..=MAX_EXPIRY_SECONDS).contains(&request.expires_seconds) {
        return Err(errors::invalid_expiry(MAX_EXPIRY_SECONDS).into());
    }
    let (invitation, secret) = api.nodes.invite(request, Timestamp::now()).await?;
    let token = InvitationToken {
        secret: secret.expose().to_owned(),
        certificate: api.reach.certificate.clone(),
    };
    Ok(Json(NewInvitation {
        invitation,
        token: NodeSecret(token.to_text()),
        queen_urls: api.reach.urls.clone(),
    }))
}

/// Revoke the invitation for a name
#[utoipa::path(delete, path = "/v1/invitations/{name}", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    responses((status = 204, description = "The invitation is void"), RevokeErrors))]
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
) -> Result<StatusCode, ErrorResponse> {
    api.nodes.revoke_invitation(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Use an invitation: the machine becomes a node
///
/// An invitation can be used once. The machine that has used it can repeat the call with the same
/// `attempt`, if it did not receive the response.
#[utoipa::path(post, path = "/v1/join", tag = "nodes", security(("invitation" = [])),
    request_body = JoinRequest,
    responses((status = 200, body = JoinResponse, description = "The node and its token"), JoinErrors))]
pub(crate) async fn join(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<JoinRequest>,
) -> Result<Json<JoinResponse>, ErrorResponse> {
    let secret = require_bearer(&headers)?;
    let joined = api.nodes.join(secret, &request, Timestamp::now()).await?;
    Ok(Json(joined))
}

/// Connect a node to the queen
///
/// The connection has the protocol `rbee-link` from then on: both sides open streams to ports of
/// the other one.
#[utoipa::path(get, path = "/v1/link", tag = "nodes", security(("node_token" = [])),
    params(LinkHello),
    responses((status = 101, description = "The connection has the protocol"), LinkErrors))]
pub(crate) async fn link(
    State(api): State<Arc<Api>>,
    Extension(node): Extension<NodeName>,
    QueryArgs(hello): QueryArgs<LinkHello>,
    upgrade: Upgrade,
) -> Response {
    if let Err(error) = api.nodes.check_hello(&node, &hello) {
        return ErrorResponse(error).into_response();
    }
    let nodes = api.nodes.clone();
    upgrade.switch(LINK_PROTOCOL, move |connection| {
        let connection = NodeConnection {
            stream: Box::new(connection),
            queen_port: hello.queen_port.get(),
        };
        if let Err(error) = nodes.attach(&node, connection) {
            tracing::warn!(%node, %error, "cannot use the connection of a node");
        }
    })
}
