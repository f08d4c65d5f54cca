use hive_contract::{AliasEntry, Device, InstalledModel, ModelDetails};
use input_validation::NodeName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use worker_contract::WorkerInfo;

use crate::{DeployedPart, Deployment, GpuYield, NodePower, NodeSpec, QueueEntry, YieldedDevice};

/// Response of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueenHealth {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Version of the binary.
    pub version: String,
    /// Version of the interface.
    pub api_version: u32,
    /// Process id of the queen.
    pub pid: u32,
}

/// Whether the hive of a node responds, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// The queen has not called the hive yet.
    Unknown,
    /// The hive responds.
    Reachable,
    /// The hive does not respond.
    Unreachable,
    /// The machine is being put to sleep: no request goes there any more.
    Suspending,
    /// The queen has put the machine to sleep.
    Asleep,
    /// The machine is being woken.
    Waking,
}

/// Registered machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeEntry {
    /// Name of the node; `local` is the machine of the queen.
    pub name: NodeName,
    /// How the queen reaches the node.
    pub spec: NodeSpec,
    /// URL of the hive; null if unknown.
    pub hive_url: Option<String>,
    /// Version of the hive; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hive_version: Option<String>,
    /// Who keeps the hive running; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hive_service: Option<HiveService>,
    /// Whether the hive responds.
    pub status: NodeStatus,
    /// Devices of the node, as last reported by its hive.
    pub devices: Vec<Device>,
    /// Time of the hive's last response; null if there was none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_connected: Option<Timestamp>,
    /// Last error of a call to the hive; absent if the last call succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_error: Option<String>,
    /// When its GPUs are left to other programs; absent for the default, `auto`.
    #[serde(default, skip_serializing_if = "GpuYield::is_auto")]
    pub gpu_yield: GpuYield,
    /// The GPUs that are left to other programs now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yielded: Vec<YieldedDevice>,
    /// How it sleeps and is woken.
    #[serde(default, skip_serializing_if = "NodePower::is_default")]
    pub power: NodePower,
}

/// Who keeps a hive running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HiveService {
    /// The queen: the hive is a process of its own.
    Process,
    /// systemd: the hive is a service of the user.
    Systemd,
}

/// Response of `GET /v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// Nodes in order of their names.
    pub nodes: Vec<NodeEntry>,
}

/// Whether a worker receives new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// The worker sends heartbeats and receives new requests.
    Available,
    /// The last heartbeat is more than 15 s old.
    Silent,
    /// A connection to the worker failed after its last heartbeat.
    Failed,
    /// The worker did not compute its requests. It is stopped unless it computes again soon.
    Stalled,
    /// The worker is being stopped.
    Stopping,
}

/// Worker that is registered with the queen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerEntry {
    /// Content of the last heartbeat.
    #[serde(flatten)]
    pub info: WorkerInfo,
    /// Whether the worker receives new requests.
    pub availability: Availability,
    /// Age of the last heartbeat, in milliseconds.
    pub heartbeat_age_ms: u64,
    /// Number of requests that the queen is running on the worker.
    pub active_requests: u32,
    /// What computes parts of its model on other nodes. Absent if it has all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<DeployedPart>,
}

/// Response of `GET /v1/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// Workers in order of their ids.
    pub workers: Vec<WorkerEntry>,
}

/// Model that is available on at least one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// Properties of the model.
    #[serde(flatten)]
    pub model: InstalledModel,
    /// Nodes that have the files of the model.
    pub nodes: Vec<NodeName>,
    /// Number of workers that accept requests for the model.
    pub ready_workers: u32,
}

/// Response of `GET /v1/catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Models in order of their references.
    pub models: Vec<ModelEntry>,
    /// Aliases in order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasEntry>,
    /// What users should know about the catalogs of the nodes, such as that one was rebuilt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// Query of the calls about the models of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NodeQuery {
    /// Node whose models are meant. Default: `local`.
    pub node: Option<NodeName>,
}

/// Longest context of a model on a device, with the KV cache in a storage type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextFit {
    /// Storage type of the KV cache: `f32`, `f16`, `q8_0`.
    pub kv_type: String,
    /// Longest sequence that fits in the free memory next to the weights, in tokens, at most the
    /// context length of the model; null if the model does not fit.
    pub context_length: Option<u32>,
    /// Memory for the weights and the shortest sequence, in bytes.
    pub minimum_bytes: u64,
    /// Memory for the weights and a sequence of the model's context length, in bytes.
    pub full_bytes: u64,
}

/// Whether and how a model fits on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceFit {
    /// Node of the device.
    pub node: NodeName,
    /// The device, with its free memory.
    pub device: Device,
    /// Whether the node has the files of the model.
    pub has_files: bool,
    /// Longest contexts in each storage type of the KV cache; empty for the mock engine.
    pub contexts: Vec<ContextFit>,
}

/// Response of `POST /v1/catalog/show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelReport {
    /// The model.
    #[serde(flatten)]
    pub details: ModelDetails,
    /// The devices of all nodes, in order of the nodes' names.
    pub fit: Vec<DeviceFit>,
}

/// Numbers of requests since the start of the queen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestCounts {
    /// Requests that are waiting for a worker.
    pub waiting: u64,
    /// Requests that a worker is running.
    pub running: u64,
    /// Requests that completed.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were cancelled or whose client disconnected.
    pub cancelled: u64,
}

/// Response of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Health of the queen.
    pub queen: QueenHealth,
    /// Time since the start of the queen, in seconds.
    pub uptime_seconds: u64,
    /// Nodes in order of their names.
    pub nodes: Vec<NodeEntry>,
    /// Workers in order of their ids.
    pub workers: Vec<WorkerEntry>,
    /// Deployments in order of their models.
    pub deployments: Vec<Deployment>,
    /// Numbers of requests since the start of the queen.
    pub requests: RequestCounts,
    /// Requests that wait, by model; in order of the models.
    #[serde(default)]
    #[schema(required)]
    pub queues: Vec<QueueEntry>,
}

/// Further query of the queen's `DELETE /v1/workers/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReplaceQuery {
    /// Whether a new worker is started for requests that wait for this one, or that it does not
    /// finish in time. Default: false.
    pub replace: Option<bool>,
}

/// Body of `POST /v1/shutdown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ShutdownRequest {
    /// Whether to stop the workers and hives first. Default: false.
    pub cascade: bool,
    /// Time that running requests have to finish, in seconds. Default: 30.
    pub drain_seconds: Option<u64>,
}

/// Response of `POST /v1/shutdown`. The queen exits immediately after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownResponse {
    /// What was stopped, in order; one sentence for each process.
    pub stopped: Vec<String>,
}
