use hive_contract::Device;
use input_validation::{Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use worker_contract::WorkerInfo;

/// Answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Version of the interface.
    pub api_version: u32,
    /// The queen's process.
    pub pid: u32,
}

/// Whether a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Not tried yet.
    Unknown,
    /// Its hive answers.
    Reachable,
    /// Its hive does not answer.
    Unreachable,
}

/// A machine that the queen knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeEntry {
    /// Its name; `local` is the queen's own machine.
    pub name: NodeName,
    /// Where its hive is reached.
    pub hive_url: Option<String>,
    /// Whether it answers.
    pub status: NodeStatus,
    /// What computes there, as last seen.
    pub devices: Vec<Device>,
    /// When its hive answered last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_connected: Option<Timestamp>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Answer of `GET /v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// By name.
    pub nodes: Vec<NodeEntry>,
}

/// Whether a worker gets new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Heartbeats come.
    Available,
    /// No heartbeat for 15 s.
    Silent,
    /// A connection to it failed after its last heartbeat.
    Failed,
}

/// A worker as the queen sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerEntry {
    /// Its last heartbeat.
    #[serde(flatten)]
    pub info: WorkerInfo,
    /// Whether it gets new work.
    pub availability: Availability,
    /// Age of the last heartbeat.
    pub heartbeat_age_ms: u64,
    /// Requests that this queen runs on it.
    pub active_requests: u32,
}

/// Answer of `GET /v1/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<WorkerEntry>,
}

/// A model that a node has, as the queen lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// The model.
    #[serde(flatten)]
    pub model: hive_contract::ModelEntry,
    /// Nodes that have its files.
    pub nodes: Vec<NodeName>,
    /// Workers that can infer with it now.
    pub ready_workers: u32,
}

/// Answer of `GET /v1/catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// By reference.
    pub models: Vec<ModelEntry>,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// No worker; the next request loads one.
    Idle,
    /// A worker is being spawned or loads.
    Starting,
    /// A worker can infer.
    Ready,
    /// Too many failures; waits before the next attempt.
    Backoff,
}

/// A model that is to be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// What is served.
    pub model: ModelRef,
    /// Where.
    pub node: NodeName,
    /// The worker that serves it.
    pub worker_id: WorkerId,
    /// The last spawn of it.
    pub generation: Generation,
    /// Where it stands.
    pub state: DeploymentState,
    /// When the first request asked for it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Why the last start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Answer of `GET /v1/deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentList {
    /// By model.
    pub deployments: Vec<Deployment>,
}

/// Requests counted since the queen started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestCounts {
    /// Waiting for a worker.
    pub waiting: u64,
    /// On a worker.
    pub running: u64,
    /// Ended well.
    pub completed: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Ended because the client went away or asked for it.
    pub cancelled: u64,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The queen itself.
    pub queen: Health,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Its machines.
    pub nodes: Vec<NodeEntry>,
    /// Its workers.
    pub workers: Vec<WorkerEntry>,
    /// What is to be served.
    pub deployments: Vec<Deployment>,
    /// Its requests.
    pub requests: RequestCounts,
}

/// Body of `POST /v1/shutdown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ShutdownRequest {
    /// Stop hives and workers as well, workers first.
    pub cascade: bool,
    /// How long running requests may go on; absent, 30 s.
    pub drain_seconds: Option<u64>,
}

/// Answer of `POST /v1/shutdown`: what was stopped, in order. The queen's own process ends
/// right after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownResponse {
    /// One sentence each.
    pub stopped: Vec<String>,
}
