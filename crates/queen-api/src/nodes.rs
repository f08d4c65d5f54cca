//! Calls that register nodes and manage their hives.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, QueryArgs, event_stream};
use diagnostics::{Diagnostic, Narration};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header};
use input_validation::NodeName;
use queen_contract::{
    AddNode, GpuYield, NodeCallEvent, NodeEntry, NodeList, NodeLogQuery, PowerSettings, RemoveNode,
    SleepCall, UninstallHive, UpdateNode,
};
use queen_nodes::{Narrate, Nodes};
use tokio::sync::mpsc;

use crate::{
    Api,
    responses::{
        KeyErrors, LookupErrors, NodeErrors, PowerErrors, RemoveNodeErrors, SleepErrors,
        WakeErrors, YieldErrors,
    },
    workers::DEFAULT_LOG_LINES,
};

/// Number of messages that a reader may be behind; it misses further ones.
const NARRATION_CAPACITY: usize = 256;

/// List the nodes
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", security(("control_token" = [])),
    responses((status = 200, body = NodeList, description = "The nodes"), KeyErrors))]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Json<NodeList> {
    Json(NodeList {
        nodes: api.nodes.entries(),
    })
}

/// Add a node
///
/// The connection is tested first, and the node is saved only if it works. With
/// `Accept: text/event-stream` the response streams what happens, and its last event is the
/// node or the error.
#[utoipa::path(post, path = "/v1/nodes", tag = "nodes", security(("control_token" = [])),
    request_body = AddNode,
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        NodeErrors))]
pub(crate) async fn add(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<AddNode>,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Add(request), &headers).await
}

/// Show one node
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    responses((status = 200, body = NodeEntry, description = "The node"), LookupErrors))]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
) -> Result<Json<NodeEntry>, ErrorResponse> {
    Ok(Json(api.nodes.get(&name)?.entry()))
}

/// Change how a node is reached
///
/// The new way is tested first, and replaces the old one only if it works. Responds like the
/// call that adds a node.
#[utoipa::path(put, path = "/v1/nodes/{name}", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    request_body = UpdateNode,
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        NodeErrors))]
pub(crate) async fn update(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<UpdateNode>,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Update(name, request), &headers).await
}

/// Set when the GPUs of a node are left to other programs
///
/// While a GPU is left to them, no worker runs on it; requests continue elsewhere, if they can.
#[utoipa::path(put, path = "/v1/nodes/{name}/yield", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    request_body = GpuYield,
    responses((status = 200, body = NodeEntry, description = "The node"), YieldErrors))]
pub(crate) async fn set_gpu_yield(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    JsonBody(wanted): JsonBody<GpuYield>,
) -> Result<Json<NodeEntry>, ErrorResponse> {
    Ok(Json(api.nodes.set_gpu_yield(&name, wanted).await?))
}

/// Set how a node is woken, and when it is put to sleep
#[utoipa::path(put, path = "/v1/nodes/{name}/power", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    request_body = PowerSettings,
    responses((status = 200, body = NodeEntry, description = "The node"), PowerErrors))]
pub(crate) async fn set_power(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    JsonBody(settings): JsonBody<PowerSettings>,
) -> Result<Json<NodeEntry>, ErrorResponse> {
    Ok(Json(api.nodes.set_power(&name, settings).await?))
}

/// Put a node to sleep
///
/// No request goes there any more, its workers are stopped, and its machine is suspended. Responds
/// like the call that adds a node, when the machine does not respond any more.
#[utoipa::path(post, path = "/v1/nodes/{name}/sleep", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    request_body = SleepCall,
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        SleepErrors))]
pub(crate) async fn sleep(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    headers: HeaderMap,
    JsonBody(call): JsonBody<SleepCall>,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Sleep(name, call), &headers).await
}

/// Wake a node
///
/// Sends magic packets until the hive of the node responds. Responds like the call that adds a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/wake", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        WakeErrors))]
pub(crate) async fn wake(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Wake(name), &headers).await
}

/// Remove a node
///
/// Refused with `NODE_IN_USE` while workers run on it, unless forced: then they are stopped. A
/// hive that the queen started is stopped as well.
#[utoipa::path(delete, path = "/v1/nodes/{name}", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node"), RemoveNode),
    responses((status = 204, description = "The node is removed"), RemoveNodeErrors))]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    QueryArgs(query): QueryArgs<RemoveNode>,
) -> Result<StatusCode, ErrorResponse> {
    // A task of its own, so that a caller that disconnects does not leave it half done.
    let removed = tokio::spawn(async move {
        let (nodes, dispatcher) = (&api.nodes, &api.dispatcher);
        nodes.remove(&name, query.force, dispatcher).await
    });
    removed.await.map_err(Diagnostic::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

/// Install the hive of this release on a node
///
/// Responds like the call that adds a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/hive/install", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        NodeErrors))]
pub(crate) async fn install(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Install(name), &headers).await
}

/// Replace the hive of a node by that of this release
///
/// Responds like the call that adds a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/hive/upgrade", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node")),
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        NodeErrors))]
pub(crate) async fn upgrade(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Upgrade(name), &headers).await
}

/// Remove the hive from the machine of a node
///
/// The models stay, unless they are to be removed. Responds like the call that adds a node.
#[utoipa::path(delete, path = "/v1/nodes/{name}/hive", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node"), UninstallHive),
    responses((status = 200, description = "The node, or the events of the call",
        content((NodeEntry = "application/json"), ("text/event-stream", item_schema = NodeCallEvent))),
        NodeErrors))]
pub(crate) async fn uninstall(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    QueryArgs(query): QueryArgs<UninstallHive>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    respond(&api, NodeCall::Uninstall(name, query), &headers).await
}

/// Show the last lines of the log of a node's hive, or of the last build on the node
#[utoipa::path(get, path = "/v1/nodes/{name}/hive/logs", tag = "nodes", security(("control_token" = [])),
    params(("name" = NodeName, Path, description = "name of the node"), NodeLogQuery),
    responses((status = 200, body = String, description = "The lines",
        content_type = "text/plain; charset=utf-8"), NodeErrors))]
pub(crate) async fn logs(
    State(api): State<Arc<Api>>,
    PathArg(name): PathArg<NodeName>,
    QueryArgs(query): QueryArgs<NodeLogQuery>,
) -> Result<String, ErrorResponse> {
    let lines = query.lines.unwrap_or(DEFAULT_LOG_LINES);
    Ok(api.nodes.log(&name, query.log, lines).await?)
}

/// A call that takes a while and reports what happens.
enum NodeCall {
    Add(AddNode),
    Update(NodeName, UpdateNode),
    Install(NodeName),
    Upgrade(NodeName),
    Uninstall(NodeName, UninstallHive),
    Sleep(NodeName, SleepCall),
    Wake(NodeName),
}

impl NodeCall {
    async fn run(self, nodes: &Nodes, narrate: Narrate<'_>) -> Result<NodeEntry, Diagnostic> {
        let name = match self {
            Self::Add(request) => return nodes.register(request, narrate).await,
            Self::Update(name, request) => return nodes.update(&name, request, narrate).await,
            Self::Install(name) => {
                nodes.install(&name, narrate).await?;
                name
            }
            Self::Upgrade(name) => {
                nodes.upgrade(&name, narrate).await?;
                name
            }
            Self::Uninstall(name, query) => {
                nodes.uninstall(&name, query.models, narrate).await?;
                name
            }
            Self::Sleep(name, call) => {
                nodes.sleep(&name, call, narrate).await?;
                name
            }
            Self::Wake(name) => {
                nodes.wake(&name, narrate).await?;
                name
            }
        };
        Ok(nodes.get(&name)?.entry())
    }
}

/// Runs the call in a task of its own, so that a caller that disconnects does not leave it half
/// done, and responds as the headers request: with its events, or with its result.
async fn respond(
    api: &Arc<Api>,
    call: NodeCall,
    headers: &HeaderMap,
) -> Result<Response, ErrorResponse> {
    let (sender, mut events) = mpsc::channel(NARRATION_CAPACITY);
    let nodes = api.nodes.clone();
    tokio::spawn(async move {
        let narrate = |narration: Narration| {
            let _ = sender.try_send(NodeCallEvent::Narration(narration));
        };
        let event = match call.run(&nodes, &narrate).await {
            Ok(entry) => NodeCallEvent::Result(Box::new(entry)),
            Err(error) => NodeCallEvent::Error(error),
        };
        let _ = sender.send(event).await;
    });
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    let as_events = accepted.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.to_ascii_lowercase().contains("text/event-stream")
    });
    if as_events {
        let events = stream::poll_fn(move |context| events.poll_recv(context));
        return Ok(event_stream(events.map(|event| encode(&event))));
    }
    while let Some(event) = events.recv().await {
        match event {
            NodeCallEvent::Narration(_) => {}
            NodeCallEvent::Result(entry) => return Ok(Json(entry).into_response()),
            NodeCallEvent::Error(error) => return Err(error.into()),
        }
    }
    Err(Diagnostic::internal("the task of the call panicked").into())
}

fn encode(event: &NodeCallEvent) -> Bytes {
    let mut out = Vec::new();
    // Serializing plain data into memory cannot fail.
    let _ = event.write_sse(&mut out);
    Bytes::from(out)
}
