//! The HTTP interface that every worker of rbee implements, whoever wrote the worker. Plain
//! data; the feature `client` adds a client.
//!
//! A hive starts a worker with `--worker-id --model --device --port --queen-url --hive-id
//! --generation [--context-length --slots --kv-cache-bytes --threads --alias]`. The file named
//! by `RBEE_WORKER_TOKEN_FILE` contains the token that callers must send, the one named by
//! `RBEE_QUEEN_TOKEN_FILE` the token for heartbeats. A worker that fails prints a
//! [`FatalLine`] as the last line on its standard error and exits with code 1; it exits with
//! code 98 if its port is taken.

#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
mod defaults;
mod embed;
mod engine_kind;
mod infer;
pub mod limits;
mod message;
mod output;
mod sampling;
#[cfg(test)]
mod schema_tests;
mod schemas;
mod status;
mod stream;
mod tokenize;

#[cfg(feature = "client")]
pub use client::WorkerClient;
pub use embed::{EmbedRequest, EmbedResponse};
pub use engine_kind::EngineKind;
pub use infer::{Constraint, InferInput, InferRequest, InferResponse, ReasoningOptions};
pub use message::{Image, Message, Role, ToolCall, ToolChoice, ToolDefinition};
pub use output::{FinishReason, Timings, TokenLogprob, ToolCallPiece, TopLogprob, Usage};
pub use sampling::{ALL_TOKENS, Sampling, SamplingValues};
pub use status::{
    Capability, KvCacheUse, LoadProgress, Ready, WorkerHealth, WorkerHeartbeat, WorkerInfo,
    WorkerStatus,
};
pub use stream::{EndEvent, MetricsEvent, StartedEvent, StreamEvent, TokenEvent, UNKNOWN_TOKEN};
pub use tokenize::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};

pub use diagnostics::FatalLine;

/// Version of this contract. Processes refuse peers of other versions.
pub const API_VERSION: u32 = 1;
/// Interval between heartbeats, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;
/// Environment variable that names the file of the token for calls to the worker.
pub const WORKER_TOKEN_FILE_ENV: &str = "RBEE_WORKER_TOKEN_FILE";
/// Environment variable that names the file of the token for heartbeats to the queen.
pub const QUEEN_TOKEN_FILE_ENV: &str = "RBEE_QUEEN_TOKEN_FILE";
