use input_validation::{Backend, DeviceId, EngineName, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{DeviceProcess, EngineDecision, EngineEntry, Power, SplitRole};

/// Response of `GET /v1/health`, the only endpoint that requires no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HiveHealth {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Name of the node.
    pub hive_id: NodeName,
    /// Version of the binary.
    pub version: String,
    /// Version of the interface.
    pub api_version: u32,
    /// Process id of the hive.
    pub pid: u32,
}

/// CPU or GPU of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Id of the device on this node.
    pub id: DeviceId,
    /// Backend that workers on this device use.
    pub backend: Backend,
    /// Name of the product: `NVIDIA H100`.
    pub name: String,
    /// Total memory in bytes; for the CPU, that of the machine. 0 if unknown.
    pub memory_total_bytes: u64,
    /// Free memory in bytes. 0 if unknown.
    pub memory_free_bytes: u64,
    /// Version of the driver; absent for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub driver: Option<String>,
    /// CUDA compute capability: `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub compute_capability: Option<String>,
    /// Processes that use the memory of the GPU and are no workers of this hive, those with the
    /// most memory first, as far as the driver reports them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<DeviceProcess>,
}

/// Hardware or a driver that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceProblem {
    /// Backend that is affected.
    pub backend: Backend,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
}

/// CPU of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cpu {
    /// Name of the product.
    pub name: String,
    /// Number of cores that the hive may use.
    pub cores: u32,
    /// Instruction sets that speed up inference: `avx2`, `avx512vnni`, `amx-tile`, `neon`.
    pub features: Vec<String>,
}

/// Main memory of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ram {
    /// Total memory, in bytes.
    pub total_bytes: u64,
    /// Memory available to a new process without swapping, in bytes.
    pub available_bytes: u64,
}

/// Disk that contains the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Size of the file system, in bytes.
    pub total_bytes: u64,
    /// Space available to the hive's user, in bytes.
    pub free_bytes: u64,
}

/// Response of `GET /v1/capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// Host name of the machine.
    pub hostname: String,
    /// Devices of the machine; the CPU is the first one.
    pub devices: Vec<Device>,
    /// CPU of the machine.
    pub cpu: Cpu,
    /// Main memory of the machine.
    pub ram: Ram,
    /// Disk that contains the models.
    pub disk: Disk,
    /// Hardware and drivers that cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<DeviceProblem>,
    /// Worker binaries that are installed, or that the hive builds when a worker needs them:
    /// `llm-cpu-worker-rbee`.
    pub worker_binaries: Vec<String>,
    /// Engines that run models.
    #[serde(default)]
    pub engines: Vec<EngineEntry>,
    /// Whether the machine can be suspended, and how it can be woken.
    #[serde(default)]
    pub power: Power,
}

/// Body of `POST /v1/workers/spawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnRequest {
    /// Id of the worker. A running worker with this id is stopped first if its generation is
    /// lower; otherwise the request fails with `WORKER_EXISTS`.
    pub worker_id: WorkerId,
    /// Generation of the process among those with the same id.
    pub generation: Generation,
    /// Model that the worker serves.
    pub model: ModelRef,
    /// Device that the model runs on.
    pub device: DeviceId,
    /// URL of the queen, to which the worker sends heartbeats.
    #[schema(pattern = "^https?://[!-~]+$")]
    pub queen_url: String,
    /// Engine that runs the model. Default: the first one that can, that of rbee before others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineName>,
    /// Maximum length of prompt and output together, in tokens. Default: that of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub context_length: Option<u32>,
    /// Maximum number of concurrent requests. Default: chosen by the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub slots: Option<u32>,
    /// Number of threads that compute. Default: the number of cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub threads: Option<u32>,
    /// Whether to respond when the worker accepts requests, instead of when its process is
    /// listening. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub wait_ready: bool,
    /// What the process is in a model that is split over machines; absent if it has all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitRole>,
}

/// Response of `POST /v1/workers/spawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnResponse {
    /// Id of the worker.
    pub worker_id: WorkerId,
    /// Process id.
    pub pid: u32,
    /// TCP port that the worker listens on, on the loopback interface.
    pub port: u16,
    /// Generation of the process among those with the same id.
    pub generation: Generation,
}

/// State of a worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// The process is running.
    Running,
    /// The process has exited. Its pid may belong to another process.
    Exited,
}

/// Worker process of this machine, as recorded in the run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerProcess {
    /// Id of the worker.
    pub worker_id: WorkerId,
    /// Generation of the process among those with the same id.
    pub generation: Generation,
    /// Model that the worker serves.
    pub model: ModelRef,
    /// Device that the model runs on.
    pub device: DeviceId,
    /// TCP port that the worker listens on, on the loopback interface.
    pub port: u16,
    /// Process id.
    pub pid: u32,
    /// State of the process.
    pub state: WorkerState,
    /// Time of the spawn.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Time since the spawn, in seconds; 0 if the process has exited.
    pub uptime_seconds: u64,
    /// Resident memory, in bytes; 0 if the process has exited.
    pub rss_bytes: u64,
    /// Device memory, in bytes; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub vram_bytes: Option<u64>,
    /// Number of earlier spawns with this id.
    pub restarts: u64,
    /// The engine that runs the model, and why; absent for a model of the mock engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engine: Option<EngineDecision>,
    /// How the last process with this id exited; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_exit: Option<String>,
    /// Whether it has exited without being stopped by its hive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_by_itself: bool,
    /// The worker of which it computes a part; absent for workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub part_of: Option<WorkerId>,
}

/// Response of `GET /v1/workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerProcessList {
    /// Workers in order of their ids.
    pub workers: Vec<WorkerProcess>,
}

/// Query of `DELETE /v1/workers/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StopQuery {
    /// Time that running requests have to finish, in seconds; 0 aborts them. Default: 30.
    pub drain_seconds: Option<u64>,
}

/// Further query of the hive's `DELETE /v1/workers/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StopScope {
    /// The highest generation to stop: a later one keeps running. Default: any generation.
    pub generation: Option<Generation>,
}

/// Body of `POST /v1/shutdown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct HiveShutdownRequest {
    /// Whether to stop the workers first. Default: false.
    pub stop_workers: bool,
    /// Time that running requests of the workers have to finish, in seconds. Default: 30.
    pub drain_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;
    use worker_contract::limits::MAX_SLOTS;

    use super::*;

    #[test]
    fn documented_maximum_of_slots_is_the_limit() {
        let schema = serde_json::to_value(SpawnRequest::schema()).unwrap();
        assert_eq!(schema["properties"]["slots"]["maximum"], MAX_SLOTS);
    }
}
