use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::Stream;
use http::{HeaderMap, Method};
use input_validation::{JobId, WorkerId};
use rest_client::{CallError, Peer, RestClient};

use crate::{
    Capabilities, Health, JobEvent, JobStatus, ModelList, ShutdownRequest, SpawnRequest,
    SpawnResponse, WorkerEntry, WorkerList,
};

const PEER: Peer = Peer {
    name: "hive",
    unreachable: Code::HiveUnreachable,
    bad_response: Code::HiveBadResponse,
};

/// Longest a stop may take: drain 30 s, SIGTERM 10 s, SIGKILL, and some air.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Calls to one hive.
#[derive(Debug, Clone)]
pub struct HiveClient(RestClient);

impl HiveClient {
    /// A client of the hive at `base`.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// The address that this client calls.
    pub fn base(&self) -> &str {
        self.0.base()
    }

    /// `GET /v1/health`.
    pub async fn health(&self) -> Result<Health, CallError> {
        self.0.get("/v1/health").await
    }

    /// `GET /v1/capabilities`.
    pub async fn capabilities(&self) -> Result<Capabilities, CallError> {
        self.0.get("/v1/capabilities").await
    }

    /// `GET /v1/models`.
    pub async fn models(&self) -> Result<ModelList, CallError> {
        self.0.get("/v1/models").await
    }

    /// `POST /v1/workers/spawn`, waiting for the result.
    pub async fn spawn(&self, request: &SpawnRequest) -> Result<SpawnResponse, CallError> {
        self.0.post("/v1/workers/spawn", request, None).await
    }

    /// `POST /v1/workers/spawn` as the job's events. A stream that breaks is a
    /// [`CallError::Link`].
    pub async fn spawn_events(
        &self,
        request: &SpawnRequest,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        self.job_stream(Method::POST, "/v1/workers/spawn", Some(request))
            .await
    }

    /// `GET /v1/jobs/{id}/events`, from the first.
    pub async fn job_events(
        &self,
        id: &JobId,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        self.job_stream(Method::GET, &format!("/v1/jobs/{id}/events"), None)
            .await
    }

    /// `GET /v1/jobs/{id}`.
    pub async fn job(&self, id: &JobId) -> Result<JobStatus, CallError> {
        self.0.get(&format!("/v1/jobs/{id}")).await
    }

    /// `DELETE /v1/jobs/{id}`: idempotent.
    pub async fn cancel_job(&self, id: &JobId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/jobs/{id}"), None).await
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

    /// `POST /v1/shutdown`: returns when the workers are stopped, if asked to; the hive's
    /// own process ends right after.
    pub async fn shutdown(&self, request: &ShutdownRequest) -> Result<(), CallError> {
        self.0.post("/v1/shutdown", request, Some(STOP_LIMIT)).await
    }

    async fn job_stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&SpawnRequest>,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        self.0
            .events(method, path, body, HeaderMap::new(), JobEvent::read_sse)
            .await
    }
}
