//! The worker contract: what a program must speak to be a worker of rbee, whoever wrote
//! it. Plain data; the `client` feature adds the calls.
//!
//! Start: `--worker-id --model --device --port --queen-url --hive-id --generation
//! [--context-length --slots --kv-cache-bytes --threads --alias]`, the token for incoming
//! calls in the file that `RBEE_WORKER_TOKEN_FILE` names, the one for heartbeats in
//! `RBEE_QUEEN_TOKEN_FILE`. A worker that cannot serve prints [`FatalLine`] as the last
//! line of its standard error and exits 1; it exits 98 when its port is taken.

#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
mod embed;
mod infer;
pub mod limits;
mod status;
mod stream;
mod tokenize;

#[cfg(feature = "client")]
pub use client::WorkerClient;
pub use embed::{EmbedRequest, EmbedResponse};
pub use infer::{
    Constraint, FinishReason, InferInput, InferRequest, InferResponse, Message, Role, Sampling,
    Timings, ToolCall, ToolChoice, ToolDefinition, Usage,
};
pub use status::{
    Capability, Health, KvCacheUse, LoadProgress, Ready, WorkerHeartbeat, WorkerInfo, WorkerStatus,
};
pub use stream::{
    EndEvent, MetricsEvent, StartedEvent, StreamEvent, TokenEvent, TokenLogprob, ToolCallPiece,
    TopLogprob,
};
pub use tokenize::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};

pub use diagnostics::FatalLine;

/// Version of this contract; a peer of another version is refused by name.
pub const API_VERSION: u32 = 1;
/// How often a worker tells the queen that it is there, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;
/// Environment variable with the file of the token for calls to the worker.
pub const WORKER_TOKEN_FILE_ENV: &str = "RBEE_WORKER_TOKEN_FILE";
/// Environment variable with the file of the token for heartbeats to the queen.
pub const QUEEN_TOKEN_FILE_ENV: &str = "RBEE_QUEEN_TOKEN_FILE";
