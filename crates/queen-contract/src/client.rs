use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::{Stream, stream::BoxStream};
use hive_contract::{
    AliasRequest, BackupRequest, EngineList, InstalledBinary, InstalledBinaryList, JobAccepted,
    JobEvent, LINK_PROTOCOL, ModelQuery, PackageDetails, PackageList, ProvisionRequest,
    PruneRequest, PruneResponse, PullRequest, RemovedBinaries, RemovedModel, RollbackRequest,
    UpdateResponse,
};
use http::{HeaderMap, Method};
use input_validation::{
    BinaryVersion, JobId, NodeName, PackageId, RequestId, WorkerId, WorkerType,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rest_client::{CallError, HttpClient, Peer, RestClient, Upgraded};
use serde::Serialize;
use worker_contract::WorkerHeartbeat;

use crate::{
    AddNode, DecisionList, DeployCall, DeploymentList, GpuYield, InferCall, InferEvent,
    InvitationList, InviteNode, JoinRequest, JoinResponse, LinkHello, ModelList, ModelReport,
    NewInvitation, NodeCallEvent, NodeEntry, NodeList, NodeLog, PolicyStatus, PolicyTest,
    PolicyTestCall, PowerSettings, PreflightCall, PreflightResponse, QueenHealth, ShutdownRequest,
    ShutdownResponse, SleepCall, SpawnCall, SpawnedWorker, Status, UndeployCall, UpdateNode,
    WorkerEntry, WorkerList,
};

const PEER: Peer = Peer {
    name: "queen",
    unreachable: Code::QueenUnreachable,
    bad_response: Code::QueenUnreachable,
};

/// Time limit for stopping workers, hives and the queen: the drains, and a margin.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Time limit for starting a worker: its program and its model may be fetched first.
const SPAWN_LIMIT: Duration = Duration::from_hours(6);

/// Time limit for calls that ask the source of a model.
const CATALOG_LIMIT: Duration = Duration::from_secs(70);

/// The path of a call about the models of a node.
fn of_node(call: &str, node: Option<&NodeName>) -> String {
    match node {
        Some(node) => format!("/v1/catalog/{call}?node={node}"),
        None => format!("/v1/catalog/{call}"),
    }
}

fn binaries_of_node(call: &str, node: Option<&NodeName>) -> String {
    match node {
        Some(node) => format!("/v1/worker-binaries{call}?node={node}"),
        None => format!("/v1/worker-binaries{call}"),
    }
}

/// Events of a call that adds or changes a node.
pub type NodeCallEvents = BoxStream<'static, Result<NodeCallEvent, CallError>>;

/// Client of the queen.
#[derive(Debug, Clone)]
pub struct QueenClient(RestClient);

impl QueenClient {
    /// Creates a client of the queen at the URL `base`. `token` is the control token, or a node's
    /// token for heartbeats.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// Creates a client that uses the connection pool of `http`.
    pub fn with_http(base: &str, token: Option<String>, http: HttpClient) -> Self {
        Self(RestClient::with_http(PEER, base, token, http))
    }

    /// Returns the URL of the queen.
    pub fn base(&self) -> &str {
        self.0.base()
    }

    /// Calls `GET /health`.
    pub async fn health(&self) -> Result<QueenHealth, CallError> {
        self.0.get("/health").await
    }

    /// Calls `GET /v1/status`.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.0.get("/v1/status").await
    }

    /// Calls `GET /v1/decisions/{about}`, or `GET /v1/decisions`.
    pub async fn decisions(
        &self,
        about: Option<&str>,
        limit: u32,
    ) -> Result<DecisionList, CallError> {
        let path = match about {
            Some(about) => {
                let about = utf8_percent_encode(about, NON_ALPHANUMERIC);
                format!("/v1/decisions/{about}?limit={limit}")
            }
            None => format!("/v1/decisions?limit={limit}"),
        };
        self.0.get(&path).await
    }

    /// Calls `GET /v1/policy`.
    pub async fn policy(&self) -> Result<PolicyStatus, CallError> {
        self.0.get("/v1/policy").await
    }

    /// Calls `POST /v1/policy/test`.
    pub async fn test_policy(&self, call: &PolicyTestCall) -> Result<PolicyTest, CallError> {
        let limit = Some(Duration::from_secs(10));
        self.0.post("/v1/policy/test", call, limit).await
    }

    /// Calls `GET /v1/nodes`.
    pub async fn nodes(&self) -> Result<NodeList, CallError> {
        self.0.get("/v1/nodes").await
    }

    /// Calls `GET /v1/nodes/{name}`.
    pub async fn node(&self, name: &NodeName) -> Result<NodeEntry, CallError> {
        self.0.get(&format!("/v1/nodes/{name}")).await
    }

    /// Calls `POST /v1/nodes` and returns the events.
    pub async fn add_node(&self, request: &AddNode) -> Result<NodeCallEvents, CallError> {
        self.node_call(Method::POST, "/v1/nodes", Some(request))
            .await
    }

    /// Calls `PUT /v1/nodes/{name}` and returns the events.
    pub async fn update_node(
        &self,
        name: &NodeName,
        request: &UpdateNode,
    ) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}");
        self.node_call(Method::PUT, &path, Some(request)).await
    }

    /// Calls `PUT /v1/nodes/{name}/yield`.
    pub async fn set_gpu_yield(
        &self,
        name: &NodeName,
        gpu_yield: &GpuYield,
    ) -> Result<NodeEntry, CallError> {
        let path = format!("/v1/nodes/{name}/yield");
        self.0.put(&path, gpu_yield).await
    }

    /// Calls `PUT /v1/nodes/{name}/power`.
    pub async fn set_power(
        &self,
        name: &NodeName,
        settings: &PowerSettings,
    ) -> Result<NodeEntry, CallError> {
        let path = format!("/v1/nodes/{name}/power");
        self.0.put(&path, settings).await
    }

    /// Calls `POST /v1/nodes/{name}/sleep` and returns the events.
    pub async fn sleep_node(
        &self,
        name: &NodeName,
        call: &SleepCall,
    ) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}/sleep");
        self.node_call(Method::POST, &path, Some(call)).await
    }

    /// Calls `POST /v1/nodes/{name}/wake` and returns the events.
    pub async fn wake_node(&self, name: &NodeName) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}/wake");
        self.node_call(Method::POST, &path, None::<&()>).await
    }

    /// Calls `DELETE /v1/nodes/{name}`, which responds when its workers have stopped.
    pub async fn remove_node(&self, name: &NodeName, force: bool) -> Result<(), CallError> {
        let path = format!("/v1/nodes/{name}?force={force}");
        self.0.delete(&path, Some(STOP_LIMIT)).await
    }

    /// Calls `POST /v1/invitations`.
    pub async fn invite(&self, request: &InviteNode) -> Result<NewInvitation, CallError> {
        let limit = Some(Duration::from_secs(10));
        self.0.post("/v1/invitations", request, limit).await
    }

    /// Calls `GET /v1/invitations`.
    pub async fn invitations(&self) -> Result<InvitationList, CallError> {
        self.0.get("/v1/invitations").await
    }

    /// Calls `DELETE /v1/invitations/{name}`.
    pub async fn revoke_invitation(&self, name: &NodeName) -> Result<(), CallError> {
        self.0
            .delete(&format!("/v1/invitations/{name}"), None)
            .await
    }

    /// Calls `POST /v1/join`. The token of this client is the secret of an invitation.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, CallError> {
        let limit = Some(Duration::from_secs(20));
        self.0.post("/v1/join", request, limit).await
    }

    /// Calls `GET /v1/link` and returns the connection, which has the protocol
    /// [`LINK_PROTOCOL`](hive_contract::LINK_PROTOCOL). The token of this client is that of a node.
    pub async fn link(&self, hello: &LinkHello) -> Result<Upgraded, CallError> {
        let LinkHello {
            version,
            api_version,
            queen_port,
        } = hello;
        let query = [
            ("version", version.clone()),
            ("api_version", api_version.to_string()),
            ("queen_port", queen_port.to_string()),
        ];
        self.0.upgrade("/v1/link", &query, LINK_PROTOCOL).await
    }

    /// Calls `POST /v1/nodes/{name}/hive/install` and returns the events.
    pub async fn install_hive(&self, name: &NodeName) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}/hive/install");
        self.node_call(Method::POST, &path, None::<&()>).await
    }

    /// Calls `POST /v1/nodes/{name}/hive/upgrade` and returns the events.
    pub async fn upgrade_hive(&self, name: &NodeName) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}/hive/upgrade");
        self.node_call(Method::POST, &path, None::<&()>).await
    }

    /// Calls `DELETE /v1/nodes/{name}/hive` and returns the events.
    pub async fn uninstall_hive(
        &self,
        name: &NodeName,
        models: bool,
    ) -> Result<NodeCallEvents, CallError> {
        let path = format!("/v1/nodes/{name}/hive?models={models}");
        self.node_call(Method::DELETE, &path, None::<&()>).await
    }

    /// Calls `GET /v1/nodes/{name}/hive/logs` for the last `lines` lines of a log.
    pub async fn node_log(
        &self,
        name: &NodeName,
        log: NodeLog,
        lines: u32,
    ) -> Result<String, CallError> {
        let log = match log {
            NodeLog::Hive => "hive",
            NodeLog::Build => "build",
        };
        let path = format!("/v1/nodes/{name}/hive/logs?log={log}&lines={lines}");
        self.0.get_text(&path).await
    }

    async fn node_call<B: Serialize + Sync + 'static>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<NodeCallEvents, CallError> {
        let (headers, parse) = (HeaderMap::new(), NodeCallEvent::read_sse);
        let events = self.0.events(method, path, body, headers, parse).await?;
        Ok(Box::pin(events))
    }

    /// Calls `GET /v1/workers`.
    pub async fn workers(&self) -> Result<WorkerList, CallError> {
        self.0.get("/v1/workers").await
    }

    /// Calls `GET /v1/workers/{id}`.
    pub async fn worker(&self, id: &WorkerId) -> Result<WorkerEntry, CallError> {
        self.0.get(&format!("/v1/workers/{id}")).await
    }

    /// Calls `GET /v1/engines`.
    pub async fn engines(&self, node: Option<&NodeName>) -> Result<EngineList, CallError> {
        match node {
            Some(node) => self.0.get(&format!("/v1/engines?node={node}")).await,
            None => self.0.get("/v1/engines").await,
        }
    }

    /// Calls `POST /v1/workers`, which responds when the worker serves requests.
    pub async fn spawn_worker(&self, call: &SpawnCall) -> Result<SpawnedWorker, CallError> {
        self.0.post("/v1/workers", call, Some(SPAWN_LIMIT)).await
    }

    /// Calls `GET /v1/workers/{id}/logs` for the last `lines` lines.
    pub async fn worker_logs(&self, id: &WorkerId, lines: u32) -> Result<String, CallError> {
        self.0
            .get_text(&format!("/v1/workers/{id}/logs?lines={lines}"))
            .await
    }

    /// Calls `DELETE /v1/workers/{id}`, which responds when the process has exited.
    pub async fn stop_worker(
        &self,
        id: &WorkerId,
        drain_seconds: Option<u64>,
        replace: bool,
    ) -> Result<(), CallError> {
        let drain = drain_seconds.map_or(String::new(), |s| format!("&drain_seconds={s}"));
        let query = format!("?replace={replace}{drain}");
        self.0
            .delete(&format!("/v1/workers/{id}{query}"), Some(STOP_LIMIT))
            .await
    }

    /// Calls `GET /v1/deployments`.
    pub async fn deployments(&self) -> Result<DeploymentList, CallError> {
        self.0.get("/v1/deployments").await
    }

    /// Calls `PUT /v1/deployments`.
    pub async fn deploy(&self, call: &DeployCall) -> Result<DeploymentList, CallError> {
        self.0.put("/v1/deployments", call).await
    }

    /// Calls `POST /v1/deployments/remove`, which responds when its workers have stopped.
    pub async fn undeploy(&self, call: &UndeployCall) -> Result<(), CallError> {
        self.0
            .post_empty_within("/v1/deployments/remove", call, STOP_LIMIT)
            .await
    }

    /// Calls `POST /v1/preflight`.
    pub async fn preflight(&self, call: &PreflightCall) -> Result<PreflightResponse, CallError> {
        self.0
            .post("/v1/preflight", call, Some(CATALOG_LIMIT))
            .await
    }

    /// Calls `GET /v1/catalog`.
    pub async fn catalog(&self) -> Result<ModelList, CallError> {
        self.0.get("/v1/catalog").await
    }

    /// Starts the job of `POST /v1/catalog/pull`, or returns the one that runs for the model.
    pub async fn pull_model(
        &self,
        node: Option<&NodeName>,
        request: &PullRequest,
    ) -> Result<JobAccepted, CallError> {
        self.0.start(&of_node("pull", node), request).await
    }

    /// Starts the job of `POST /v1/catalog/verify`.
    pub async fn verify_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<JobAccepted, CallError> {
        self.0.start(&of_node("verify", node), query).await
    }

    /// Calls `GET /v1/catalog/jobs/{id}/events` and returns all events of the job, past ones
    /// included.
    pub async fn catalog_job_events(
        &self,
        node: Option<&NodeName>,
        id: &JobId,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        let path = of_node(&format!("jobs/{id}/events"), node);
        let no_body = None::<&ModelQuery>;
        let (headers, parse) = (HeaderMap::new(), JobEvent::read_sse);
        self.0
            .events(Method::GET, &path, no_body, headers, parse)
            .await
    }

    /// Calls `DELETE /v1/catalog/jobs/{id}`, which cancels the job if it is running.
    pub async fn cancel_catalog_job(
        &self,
        node: Option<&NodeName>,
        id: &JobId,
    ) -> Result<(), CallError> {
        let path = of_node(&format!("jobs/{id}"), node);
        self.0.delete(&path, None).await
    }

    /// Calls `POST /v1/catalog/show`.
    pub async fn show_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<ModelReport, CallError> {
        let path = of_node("show", node);
        self.0.post(&path, query, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/catalog/remove`.
    pub async fn remove_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<RemovedModel, CallError> {
        let path = of_node("remove", node);
        self.0.post(&path, query, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/catalog/update`.
    pub async fn update_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<UpdateResponse, CallError> {
        let path = of_node("update", node);
        self.0.post(&path, query, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/catalog/prune`.
    pub async fn prune_models(
        &self,
        node: Option<&NodeName>,
        request: &PruneRequest,
    ) -> Result<PruneResponse, CallError> {
        let path = of_node("prune", node);
        self.0.post(&path, request, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/catalog/alias`.
    pub async fn set_alias(
        &self,
        node: Option<&NodeName>,
        request: &AliasRequest,
    ) -> Result<(), CallError> {
        self.0.post_empty(&of_node("alias", node), request).await
    }

    /// Calls `POST /v1/catalog/backup`.
    pub async fn back_up_catalog(
        &self,
        node: Option<&NodeName>,
        request: &BackupRequest,
    ) -> Result<(), CallError> {
        self.0.post_empty(&of_node("backup", node), request).await
    }

    /// Calls `POST /v1/catalog/restore`.
    pub async fn restore_catalog(
        &self,
        node: Option<&NodeName>,
        request: &BackupRequest,
    ) -> Result<(), CallError> {
        self.0.post_empty(&of_node("restore", node), request).await
    }

    /// Calls `GET /v1/worker-binaries`, or `GET /v1/worker-binaries/{type}`.
    pub async fn binaries(
        &self,
        node: Option<&NodeName>,
        of: Option<&WorkerType>,
    ) -> Result<InstalledBinaryList, CallError> {
        let call = of.map_or(String::new(), |worker_type| format!("/{worker_type}"));
        self.0.get(&binaries_of_node(&call, node)).await
    }

    /// Calls `GET /v1/worker-binaries/catalog`.
    pub async fn packages(&self, node: Option<&NodeName>) -> Result<PackageList, CallError> {
        let path = binaries_of_node("/catalog", node);
        self.0.get_within(&path, CATALOG_LIMIT).await
    }

    /// Calls `GET /v1/worker-binaries/catalog/{id}`.
    pub async fn package(
        &self,
        node: Option<&NodeName>,
        id: &PackageId,
    ) -> Result<PackageDetails, CallError> {
        let path = binaries_of_node(&format!("/catalog/{id}"), node);
        self.0.get_within(&path, CATALOG_LIMIT).await
    }

    /// Starts the job of `POST /v1/worker-binaries/provision`, or joins the one that runs for the
    /// same request.
    pub async fn provision(
        &self,
        node: Option<&NodeName>,
        request: &ProvisionRequest,
    ) -> Result<JobAccepted, CallError> {
        self.0
            .start(&binaries_of_node("/provision", node), request)
            .await
    }

    /// Calls `DELETE /v1/worker-binaries/{type}`.
    pub async fn remove_binary(
        &self,
        node: Option<&NodeName>,
        worker_type: &WorkerType,
        installation: Option<&BinaryVersion>,
    ) -> Result<RemovedBinaries, CallError> {
        let mut path = binaries_of_node(&format!("/{worker_type}"), node);
        if let Some(installation) = installation {
            let separator = if node.is_some() { '&' } else { '?' };
            // In a query, `+` stands for a space.
            let installation = installation.as_str().replace('+', "%2B");
            path = format!("{path}{separator}installation={installation}");
        }
        self.0.delete_for(&path, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/worker-binaries/{type}/rollback`.
    pub async fn roll_back_binary(
        &self,
        node: Option<&NodeName>,
        worker_type: &WorkerType,
        request: &RollbackRequest,
    ) -> Result<InstalledBinary, CallError> {
        let path = binaries_of_node(&format!("/{worker_type}/rollback"), node);
        self.0.post(&path, request, Some(CATALOG_LIMIT)).await
    }

    /// Calls `POST /v1/infer` and returns the events. A connection that fails in the middle of
    /// the stream is a [`CallError::Link`].
    pub async fn infer(
        &self,
        call: &InferCall,
    ) -> Result<impl Stream<Item = Result<InferEvent, CallError>> + Send + use<>, CallError> {
        let (headers, parse) = (HeaderMap::new(), InferEvent::read_sse);
        self.0
            .events(Method::POST, "/v1/infer", Some(call), headers, parse)
            .await
    }

    /// Calls `DELETE /v1/infer/{id}`, which cancels the request if it is running.
    pub async fn cancel(&self, id: &RequestId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/infer/{id}"), None).await
    }

    /// Calls `POST /v1/worker-heartbeats`. The status 409 means that the worker must exit.
    pub async fn heartbeat(&self, heartbeat: &WorkerHeartbeat) -> Result<(), CallError> {
        self.0.post_empty("/v1/worker-heartbeats", heartbeat).await
    }

    /// Calls `POST /v1/shutdown`.
    pub async fn shutdown(&self, request: &ShutdownRequest) -> Result<ShutdownResponse, CallError> {
        self.0.post("/v1/shutdown", request, Some(STOP_LIMIT)).await
    }
}
