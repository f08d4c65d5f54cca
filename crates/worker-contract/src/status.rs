use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use openapi_schema::{any_of, impl_schema, strings, text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sampling::SamplingValues;

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStatus {
    /// The model is loading.
    Starting,
    /// At least one slot is free.
    Ready,
    /// All slots are in use.
    Busy,
    /// Running requests continue; new ones are refused.
    Draining,
    /// The process is about to exit.
    Stopped,
}

/// Feature that a worker supports in addition to text completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Streaming of tokens.
    Stream,
    /// Continuation of a request that another worker began.
    Continue,
    /// Log probabilities.
    Logprobs,
    /// `/v1/tokenize` and `/v1/detokenize`.
    Tokenize,
    /// `/v1/embed`.
    Embed,
    /// Tool calls.
    Tools,
    /// Outputs that match a JSON schema, a regular expression or a grammar.
    Constraints,
    /// Images in messages.
    Vision,
    /// A capability that this version does not know.
    #[serde(other)]
    Unrecognized,
}

impl_schema! {
    Capability, uses [],
    "Feature that a worker supports in addition to text completion. Workers of newer versions may \
     report features that this version does not know.",
    any_of([
        strings(["stream", "continue", "logprobs", "tokenize", "embed", "tools", "constraints", "vision"]),
        text(),
    ])
}

/// Usage of the KV cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvCacheUse {
    /// Capacity in tokens.
    pub total: u64,
    /// Tokens in use by requests. Tokens that are only kept for reuse by later requests count
    /// as free.
    pub used: u64,
}

/// Identity and state of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// Id of the worker.
    pub id: WorkerId,
    /// Generation of this process among those with the same id.
    pub generation: Generation,
    /// Node that the worker runs on.
    pub hive_id: NodeName,
    /// Model that the worker serves, as clients name it.
    pub model_id: ModelRef,
    /// Device that the model runs on.
    pub device: DeviceId,
    /// TCP port that the worker listens on.
    pub port: u16,
    /// Process id.
    pub pid: u32,
    /// State of the worker.
    pub status: WorkerStatus,
    /// Name of the engine: `rbee-candle`, `rbee-mock`, `llama-cpp`, ….
    pub implementation: String,
    /// Version of the engine.
    pub version: String,
    /// Supported features.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Maximum number of concurrent requests.
    pub slots_total: u32,
    /// Number of requests that the worker could start now.
    pub slots_free: u32,
    /// Requests that the worker has accepted but not started.
    pub queue_depth: u32,
    /// Maximum length of prompt and output together, in tokens; 0 while loading.
    pub context_length: u32,
    /// Parameters of the sampler that the model recommends: the defaults of requests.
    #[serde(default, skip_serializing_if = "SamplingValues::is_empty")]
    pub sampling: SamplingValues,
    /// Resident memory of the process, in bytes.
    pub memory_bytes: u64,
    /// Usage of the KV cache.
    #[serde(default)]
    pub kv_cache: KvCacheUse,
    /// Digest of the prefixes in the KV cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_digest: Option<String>,
    /// Time since the engine finished its last step, in milliseconds; absent before the first
    /// step. A large value while requests are running means that the engine is stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step_ms: Option<u64>,
}

/// Heartbeat, which a worker sends to the queen every 5 s and whenever its status changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerHeartbeat {
    /// Current state of the worker.
    pub worker: WorkerInfo,
    /// Wall-clock time of the worker, for display only.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Number of the heartbeat, from 0 in each process. Heartbeats that arrive out of order
    /// are recognized by it.
    pub sequence: u64,
}

/// Response of `GET /health`: the process is listening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerHealth {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Id of the worker.
    pub worker_id: WorkerId,
    /// Generation of this process among those with the same id.
    pub generation: Generation,
    /// Version of the binary.
    pub version: String,
    /// Version of the contract.
    pub api_version: u32,
}

/// Progress of loading a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadProgress {
    /// Bytes loaded.
    pub done: u64,
    /// Bytes to load; 0 while unknown.
    pub total: u64,
}

/// Response of `GET /ready`: status 200 if the worker accepts requests, otherwise 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether the worker accepts requests.
    pub ready: bool,
    /// State of the worker.
    pub status: WorkerStatus,
    /// Progress of loading the weights.
    pub loading: LoadProgress,
}
