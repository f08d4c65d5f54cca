use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStatus {
    /// Loading its model.
    Starting,
    /// Has a free slot.
    Ready,
    /// Every slot is taken.
    Busy,
    /// Finishes what runs, takes nothing new.
    Draining,
    /// About to exit.
    Stopped,
}

/// What a worker can do beyond plain text completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Streams tokens.
    Stream,
    /// Continues from tokens generated elsewhere, exactly.
    Continue,
    /// Reports log probabilities.
    Logprobs,
    /// `/v1/tokenize` and `/v1/detokenize`.
    Tokenize,
    /// `/v1/embed`.
    Embed,
    /// Calls tools.
    Tools,
    /// Keeps answers to a schema, an expression or a grammar.
    Constraints,
    /// A capability that this version does not know.
    #[serde(other)]
    Unrecognized,
}

/// Room in the KV cache, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvCacheUse {
    /// Tokens that fit.
    pub total: u64,
    /// Tokens that requests hold; what is only kept for later ones that begin alike is free.
    pub used: u64,
}

/// Everything a queen knows of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// Its name.
    pub id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// The node it runs on.
    pub hive_id: NodeName,
    /// The model as clients name it.
    pub model_id: ModelRef,
    /// Where it computes.
    pub device: DeviceId,
    /// Where it listens, on its own machine.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// What it is doing.
    pub status: WorkerStatus,
    /// The engine: `rbee-candle`, `rbee-mock`, `llama-cpp`, ….
    pub implementation: String,
    /// Version of the engine.
    pub version: String,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Requests it can run at once.
    pub slots_total: u32,
    /// Requests it could take now.
    pub slots_free: u32,
    /// Requests that it accepted and has not started.
    pub queue_depth: u32,
    /// Longest prompt plus answer, in tokens; 0 while loading.
    pub context_length: u32,
    /// Resident memory of the process.
    pub memory_bytes: u64,
    /// Its KV cache.
    #[serde(default)]
    pub kv_cache: KvCacheUse,
    /// Summary of the prefixes it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_digest: Option<String>,
    /// Since the engine finished a step; absent before its first. An engine that has work and
    /// finishes nothing for long is stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step_ms: Option<u64>,
}

/// Sent to the queen every 5 s and on every change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerHeartbeat {
    /// The worker now.
    pub worker: WorkerInfo,
    /// The worker's wall clock; for people, never for decisions.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Counts up from 0 in each process, so that an overtaken heartbeat is recognised.
    pub sequence: u64,
}

/// Answer of `/health`: the process listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// The worker's name.
    pub worker_id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// Version of the program.
    pub version: String,
    /// Version of the contract.
    pub api_version: u32,
}

/// How far loading is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadProgress {
    /// Done so far.
    pub done: u64,
    /// Of this many; 0 while not known.
    pub total: u64,
}

/// Answer of `/ready`: 200 when it can infer, else 503 with the same body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// It can infer.
    pub ready: bool,
    /// What it is doing.
    pub status: WorkerStatus,
    /// Bytes of weights loaded.
    pub loading: LoadProgress,
}
