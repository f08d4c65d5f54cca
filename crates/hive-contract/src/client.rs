use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::Stream;
use http::{HeaderMap, Method};
use input_validation::{BinaryVersion, Generation, JobId, PackageId, WorkerId, WorkerType};
use rest_client::{CallError, Download, Peer, RestClient, Upgraded};

use crate::{
    AliasRequest, BackupRequest, Capabilities, ContentQuery, HiveHealth, HiveShutdownRequest,
    InstalledBinary, InstalledBinaryList, InstalledModelList, JobAccepted, JobEvent, JobStatus,
    LINK_PROTOCOL, ManifestQuery, ModelDetails, ModelManifest, ModelQuery, NodePullRequest,
    PackageDetails, PackageList, PreflightReport, PreflightRequest, ProvisionRequest, PruneRequest,
    PruneResponse, RemovedBinaries, RemovedModel, RollbackRequest, SpawnRequest, SpawnResponse,
    SuspendRequest, UpdateResponse, WakeRequest, WorkerProcess, WorkerProcessList,
};

const PEER: Peer = Peer {
    name: "hive",
    unreachable: Code::HiveUnreachable,
    bad_response: Code::HiveBadResponse,
};

/// Time limit for stopping a worker: 30 s to drain, 10 s after SIGTERM, SIGKILL, and a margin.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for reading the headers of a model, possibly from its source.
const SHOW_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for reading which files a model has.
const MANIFEST_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for a preflight, which may read the header of a model from its source.
const PREFLIGHT_LIMIT: Duration = Duration::from_secs(30);

/// Client of a hive.
#[derive(Debug, Clone)]
pub struct HiveClient(RestClient);

impl HiveClient {
    /// Creates a client of the hive at the URL `base`. `token` is the node's token.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// Creates a client that uses the connection pool of `http`.
    pub fn with_http(base: &str, token: Option<String>, http: rest_client::HttpClient) -> Self {
        Self(RestClient::with_http(PEER, base, token, http))
    }

    /// Returns the URL of the hive.
    pub fn base(&self) -> &str {
        self.0.base()
    }

    /// Calls `GET /v1/health`.
    pub async fn health(&self) -> Result<HiveHealth, CallError> {
        self.0.get("/v1/health").await
    }

    /// Calls `GET /v1/link` and returns the connection, which has the protocol
    /// [`LINK_PROTOCOL`]. Its first two bytes are the port of the node's loopback interface that
    /// leads to the queen, in network byte order.
    pub async fn link(&self) -> Result<Upgraded, CallError> {
        self.0.upgrade("/v1/link", &[], LINK_PROTOCOL).await
    }

    /// Calls `GET /v1/capabilities`.
    pub async fn capabilities(&self) -> Result<Capabilities, CallError> {
        self.0.get("/v1/capabilities").await
    }

    /// Calls `POST /v1/preflight`.
    pub async fn preflight(
        &self,
        request: &PreflightRequest,
    ) -> Result<PreflightReport, CallError> {
        self.0
            .post("/v1/preflight", request, Some(PREFLIGHT_LIMIT))
            .await
    }

    /// Calls `GET /v1/models`.
    pub async fn models(&self) -> Result<InstalledModelList, CallError> {
        self.0.get("/v1/models").await
    }

    /// Calls `POST /v1/models/show`.
    pub async fn show_model(&self, query: &ModelQuery) -> Result<ModelDetails, CallError> {
        self.0
            .post("/v1/models/show", query, Some(SHOW_LIMIT))
            .await
    }

    /// Starts the job of `POST /v1/models/pull`, or returns the one that runs for the model.
    pub async fn pull_model(&self, request: &NodePullRequest) -> Result<JobAccepted, CallError> {
        self.0.start("/v1/models/pull", request).await
    }

    /// Calls `POST /v1/models/manifest`.
    pub async fn model_manifest(&self, query: &ManifestQuery) -> Result<ModelManifest, CallError> {
        self.0
            .post("/v1/models/manifest", query, Some(MANIFEST_LIMIT))
            .await
    }

    /// Calls `GET /v1/models/content` with headers such as `Range`, without a time limit.
    pub async fn model_content(
        &self,
        query: &ContentQuery,
        headers: HeaderMap,
    ) -> Result<Download, CallError> {
        let ContentQuery {
            model,
            path,
            sha256,
        } = query;
        let model = model.to_string();
        let query = [("model", &model), ("path", path), ("sha256", sha256)];
        let query = query.map(|(name, value)| (name, value.as_str()));
        self.0.download("/v1/models/content", &query, headers).await
    }

    /// Starts the job of `POST /v1/models/verify`.
    pub async fn verify_model(&self, query: &ModelQuery) -> Result<JobAccepted, CallError> {
        self.0.start("/v1/models/verify", query).await
    }

    /// Calls `POST /v1/models/remove`.
    pub async fn remove_model(&self, query: &ModelQuery) -> Result<RemovedModel, CallError> {
        self.0
            .post("/v1/models/remove", query, Some(SHOW_LIMIT))
            .await
    }

    /// Calls `POST /v1/models/update`.
    pub async fn update_model(&self, query: &ModelQuery) -> Result<UpdateResponse, CallError> {
        self.0
            .post("/v1/models/update", query, Some(SHOW_LIMIT))
            .await
    }

    /// Calls `POST /v1/models/prune`.
    pub async fn prune_models(&self, request: &PruneRequest) -> Result<PruneResponse, CallError> {
        self.0
            .post("/v1/models/prune", request, Some(SHOW_LIMIT))
            .await
    }

    /// Calls `POST /v1/models/alias`.
    pub async fn set_alias(&self, request: &AliasRequest) -> Result<(), CallError> {
        self.0.post_empty("/v1/models/alias", request).await
    }

    /// Calls `POST /v1/models/backup`.
    pub async fn back_up_catalog(&self, request: &BackupRequest) -> Result<(), CallError> {
        self.0.post_empty("/v1/models/backup", request).await
    }

    /// Calls `POST /v1/models/restore`.
    pub async fn restore_catalog(&self, request: &BackupRequest) -> Result<(), CallError> {
        self.0.post_empty("/v1/models/restore", request).await
    }

    /// Calls `GET /v1/worker-binaries`.
    pub async fn binaries(&self) -> Result<InstalledBinaryList, CallError> {
        self.0.get("/v1/worker-binaries").await
    }

    /// Calls `GET /v1/worker-binaries/{type}`.
    pub async fn binary(&self, worker_type: &WorkerType) -> Result<InstalledBinaryList, CallError> {
        self.0
            .get(&format!("/v1/worker-binaries/{worker_type}"))
            .await
    }

    /// Calls `GET /v1/worker-binaries/catalog`.
    pub async fn packages(&self) -> Result<PackageList, CallError> {
        let path = "/v1/worker-binaries/catalog";
        self.0.get_within(path, SHOW_LIMIT).await
    }

    /// Calls `GET /v1/worker-binaries/catalog/{id}`.
    pub async fn package(&self, id: &PackageId) -> Result<PackageDetails, CallError> {
        let path = format!("/v1/worker-binaries/catalog/{id}");
        self.0.get_within(&path, SHOW_LIMIT).await
    }

    /// Starts the job of `POST /v1/worker-binaries/provision`, or joins the one that runs for the
    /// same request.
    pub async fn provision(&self, request: &ProvisionRequest) -> Result<JobAccepted, CallError> {
        self.0.start("/v1/worker-binaries/provision", request).await
    }

    /// Calls `DELETE /v1/worker-binaries/{type}`.
    pub async fn remove_binary(
        &self,
        worker_type: &WorkerType,
        installation: Option<&BinaryVersion>,
    ) -> Result<RemovedBinaries, CallError> {
        let query = installation.map_or(String::new(), |id| {
            // In a query, `+` stands for a space.
            format!("?installation={}", id.as_str().replace('+', "%2B"))
        });
        self.0
            .delete_for(
                &format!("/v1/worker-binaries/{worker_type}{query}"),
                Some(SHOW_LIMIT),
            )
            .await
    }

    /// Calls `POST /v1/worker-binaries/{type}/rollback`.
    pub async fn roll_back_binary(
        &self,
        worker_type: &WorkerType,
        request: &RollbackRequest,
    ) -> Result<InstalledBinary, CallError> {
        let path = format!("/v1/worker-binaries/{worker_type}/rollback");
        self.0.post(&path, request, Some(SHOW_LIMIT)).await
    }

    /// Calls `POST /v1/workers/spawn` and waits for the result, without a time limit.
    pub async fn spawn(&self, request: &SpawnRequest) -> Result<SpawnResponse, CallError> {
        self.0.post("/v1/workers/spawn", request, None).await
    }

    /// Calls `POST /v1/workers/spawn` and returns the events of the job. A connection that fails
    /// in the middle of the stream is a [`CallError::Link`].
    pub async fn spawn_events(
        &self,
        request: &SpawnRequest,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        self.job_stream(Method::POST, "/v1/workers/spawn", Some(request))
            .await
    }

    /// Calls `GET /v1/jobs/{id}/events` and returns all events of the job, past ones included.
    pub async fn job_events(
        &self,
        id: &JobId,
    ) -> Result<impl Stream<Item = Result<JobEvent, CallError>> + Send + use<>, CallError> {
        self.job_stream(Method::GET, &format!("/v1/jobs/{id}/events"), None)
            .await
    }

    /// Calls `GET /v1/jobs/{id}`.
    pub async fn job(&self, id: &JobId) -> Result<JobStatus, CallError> {
        self.0.get(&format!("/v1/jobs/{id}")).await
    }

    /// Calls `DELETE /v1/jobs/{id}`, which cancels the job if it is running.
    pub async fn cancel_job(&self, id: &JobId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/jobs/{id}"), None).await
    }

    /// Calls `GET /v1/workers`.
    pub async fn workers(&self) -> Result<WorkerProcessList, CallError> {
        self.0.get("/v1/workers").await
    }

    /// Calls `GET /v1/workers/{id}`.
    pub async fn worker(&self, id: &WorkerId) -> Result<WorkerProcess, CallError> {
        self.0.get(&format!("/v1/workers/{id}")).await
    }

    /// Calls `GET /v1/workers/{id}/logs` for the last `lines` lines.
    pub async fn worker_logs(&self, id: &WorkerId, lines: u32) -> Result<String, CallError> {
        self.0
            .get_text(&format!("/v1/workers/{id}/logs?lines={lines}"))
            .await
    }

    /// Calls `DELETE /v1/workers/{id}`, which responds when the process of this generation or
    /// an earlier one has exited.
    pub async fn stop_worker(
        &self,
        id: &WorkerId,
        generation: Generation,
        drain_seconds: Option<u64>,
    ) -> Result<(), CallError> {
        let drain = drain_seconds.map_or(String::new(), |s| format!("&drain_seconds={s}"));
        let query = format!("?generation={generation}{drain}");
        self.0
            .delete(&format!("/v1/workers/{id}{query}"), Some(STOP_LIMIT))
            .await
    }

    /// Calls `POST /v1/shutdown`. The hive responds after it has stopped the workers, if
    /// requested, and exits immediately after.
    pub async fn shutdown(&self, request: &HiveShutdownRequest) -> Result<(), CallError> {
        self.0.post("/v1/shutdown", request, Some(STOP_LIMIT)).await
    }

    /// Calls `POST /v1/suspend`. The machine may be asleep before the response has arrived: then
    /// the call fails as if the hive did not respond.
    pub async fn suspend(&self, request: &SuspendRequest) -> Result<(), CallError> {
        self.0.post_empty("/v1/suspend", request).await
    }

    /// Calls `POST /v1/wake`.
    pub async fn wake(&self, request: &WakeRequest) -> Result<(), CallError> {
        self.0.post_empty("/v1/wake", request).await
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
