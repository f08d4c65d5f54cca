use input_validation::{Backend, DeviceId, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Answer of `GET /v1/health`, the one public call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// The node's name.
    pub hive_id: NodeName,
    /// Version of the program.
    pub version: String,
    /// Version of the interface.
    pub api_version: u32,
    /// The hive's process.
    pub pid: u32,
}

/// Something that computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its name on this node.
    pub id: DeviceId,
    /// How it is driven.
    pub backend: Backend,
    /// What it is: `NVIDIA H100`.
    pub name: String,
    /// Its memory; for the CPU, the machine's.
    pub memory_total_bytes: u64,
    /// Of it, free now.
    pub memory_free_bytes: u64,
    /// Version of its driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// CUDA compute capability: `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
}

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cpu {
    /// What it is.
    pub name: String,
    /// Cores that this process may use.
    pub cores: u32,
    /// Instruction sets that matter here: `avx2`, `avx512vnni`, `amx-tile`, `neon`.
    pub features: Vec<String>,
}

/// Main memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ram {
    /// All of it.
    pub total_bytes: u64,
    /// What a new process can have without swapping.
    pub available_bytes: u64,
}

/// The disk that holds the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// All of it.
    pub total_bytes: u64,
    /// What is free for this user.
    pub free_bytes: u64,
}

/// Answer of `GET /v1/capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// The machine's own name.
    pub hostname: String,
    /// What computes here; the CPU is always first.
    pub devices: Vec<Device>,
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub ram: Ram,
    /// The disk that holds the models.
    pub disk: Disk,
    /// Worker programs that are installed: `llm-cpu-worker-rbee`.
    pub worker_binaries: Vec<String>,
}

/// Body of `POST /v1/workers/spawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnRequest {
    /// The worker's name. A live worker of this name and a lower generation is stopped
    /// first; one of the same or a higher generation is a conflict.
    pub worker_id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// What it serves.
    pub model: ModelRef,
    /// Where it computes.
    pub device: DeviceId,
    /// Where it sends its heartbeats.
    pub queen_url: String,
    /// Longest prompt plus answer; absent, the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Requests at once; absent, the worker's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Threads that compute; absent, the cores of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Answer when the worker can infer, not already when its process is up.
    #[serde(default)]
    pub wait_ready: bool,
}

/// Result of a spawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnResponse {
    /// The worker's name.
    pub worker_id: WorkerId,
    /// Its process.
    pub pid: u32,
    /// Where it listens, on loopback.
    pub port: u16,
    /// Which spawn of this name it is.
    pub generation: Generation,
}

/// What the process table says of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Its process lives.
    Running,
    /// Its process is gone (or its pid now belongs to another program).
    Exited,
}

/// A worker of this machine, from the run directory and the process table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerEntry {
    /// Its name.
    pub worker_id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// What it serves.
    pub model: ModelRef,
    /// Where it computes.
    pub device: DeviceId,
    /// Where it listens, on loopback.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// Whether the process lives.
    pub state: WorkerState,
    /// When it was spawned.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long it has been running; 0 when it is not.
    pub uptime_seconds: u64,
    /// Resident memory; 0 when it is not running.
    pub rss_bytes: u64,
    /// Device memory, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_bytes: Option<u64>,
    /// How often this name was spawned before.
    pub restarts: u64,
    /// How the last process of this name ended, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
}

/// Answer of `GET /v1/workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<WorkerEntry>,
}

/// Query of `DELETE /v1/workers/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
pub struct StopQuery {
    /// How long running requests may go on; absent, 30 s; 0 stops at once.
    pub drain_seconds: Option<u64>,
}

/// How a model is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelFormat {
    /// One GGUF file.
    Gguf,
    /// A folder with safetensors, config and tokenizer.
    Safetensors,
    /// No file: the mock engine.
    Mock,
}

/// A model that this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// How it is asked for.
    pub model: ModelRef,
    /// How it is stored.
    pub format: ModelFormat,
    /// On disk.
    pub size_bytes: u64,
    /// Family: `llama`.
    pub architecture: String,
    /// Weight type: `F16`.
    pub quantization: String,
    /// Longest prompt plus answer, in tokens.
    pub context_length: u32,
    /// Weights, counted.
    pub parameters: u64,
}

/// Answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// By reference.
    pub models: Vec<ModelEntry>,
}

/// Body of `POST /v1/shutdown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ShutdownRequest {
    /// Stop the workers first (drain, then signals).
    pub stop_workers: bool,
    /// How long running requests may go on; absent, 30 s.
    pub drain_seconds: Option<u64>,
}
