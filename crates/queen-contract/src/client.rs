use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::Stream;
use http::{HeaderMap, Method};
use input_validation::{RequestId, WorkerId};
use rest_client::{CallError, Peer, RestClient};
use worker_contract::WorkerHeartbeat;

use crate::{
    DeploymentList, Health, InferCall, InferEvent, ModelList, NodeList, ShutdownRequest,
    ShutdownResponse, Status, WorkerEntry, WorkerList,
};

const PEER: Peer = Peer {
    name: "queen",
    unreachable: Code::QueenUnreachable,
    bad_response: Code::QueenUnreachable,
};

/// Longest a stop may take: the drain, the hives' stops, and some air.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Calls to the queen.
#[derive(Debug, Clone)]
pub struct QueenClient(RestClient);

impl QueenClient {
    /// A client of the queen at `base`.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// The address that this client calls.
    pub fn base(&self) -> &str {
        self.0.base()
    }

    /// `GET /health`.
    pub async fn health(&self) -> Result<Health, CallError> {
        self.0.get("/health").await
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.0.get("/v1/status").await
    }

    /// `GET /v1/nodes`.
    pub async fn nodes(&self) -> Result<NodeList, CallError> {
        self.0.get("/v1/nodes").await
    }

    /// `GET /v1/workers`.
    pub async fn workers(&self) -> Result<WorkerList, CallError> {
        self.0.get("/v1/workers").await
    }

    /// `GET /v1/workers/{id}`.
    pub async fn worker(&self, id: &WorkerId) -> Result<WorkerEntry, CallError> {
        self.0.get(&format!("/v1/workers/{id}")).await
    }

    /// `GET /v1/workers/{id}/logs`: the last `lines` lines.
    pub async fn worker_logs(&self, id: &WorkerId, lines: u32) -> Result<String, CallError> {
        self.0
            .get_text(&format!("/v1/workers/{id}/logs?lines={lines}"))
            .await
    }

    /// `DELETE /v1/workers/{id}`: returns when the process is gone.
    pub async fn stop_worker(
        &self,
        id: &WorkerId,
        drain_seconds: Option<u64>,
    ) -> Result<(), CallError> {
        let query = drain_seconds.map_or(String::new(), |s| format!("?drain_seconds={s}"));
        self.0
            .delete(&format!("/v1/workers/{id}{query}"), Some(STOP_LIMIT))
            .await
    }

    /// `GET /v1/deployments`.
    pub async fn deployments(&self) -> Result<DeploymentList, CallError> {
        self.0.get("/v1/deployments").await
    }

    /// `GET /v1/catalog`.
    pub async fn catalog(&self) -> Result<ModelList, CallError> {
        self.0.get("/v1/catalog").await
    }

    /// `POST /v1/infer`: events, ending with the terminal one. A stream that breaks is a
    /// [`CallError::Link`].
    pub async fn infer(
        &self,
        call: &InferCall,
    ) -> Result<impl Stream<Item = Result<InferEvent, CallError>> + Send + use<>, CallError> {
        let (headers, read) = (HeaderMap::new(), InferEvent::read_sse);
        self.0
            .events(Method::POST, "/v1/infer", Some(call), headers, read)
            .await
    }

    /// `DELETE /v1/infer/{id}`: idempotent.
    pub async fn cancel(&self, id: &RequestId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/infer/{id}"), None).await
    }

    /// `POST /v1/worker-heartbeats`. An answer 409 means that the worker is fenced.
    pub async fn heartbeat(&self, heartbeat: &WorkerHeartbeat) -> Result<(), CallError> {
        self.0.post_empty("/v1/worker-heartbeats", heartbeat).await
    }

    /// `POST /v1/shutdown`.
    pub async fn shutdown(&self, request: &ShutdownRequest) -> Result<ShutdownResponse, CallError> {
        self.0.post("/v1/shutdown", request, Some(STOP_LIMIT)).await
    }
}
