//! The queen's control interface and the native inference edge that the keeper uses. The
//! OpenAI-compatible edge lives in `openai-gateway`. Plain data; the `client` feature adds
//! the calls.

#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
mod infer;
mod types;

#[cfg(feature = "client")]
pub use client::QueenClient;
pub use infer::{Assigned, DetokenizeCall, InferCall, InferEvent, TokenizeCall};
pub use types::{
    Availability, Deployment, DeploymentList, DeploymentState, Health, ModelEntry, ModelList,
    NodeEntry, NodeList, NodeStatus, RequestCounts, ShutdownRequest, ShutdownResponse, Status,
    WorkerEntry, WorkerList,
};

/// Version of this interface; a peer of another version is refused by name.
pub const API_VERSION: u32 = 1;
/// Where a queen listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 8500;
/// The model that serves when none is named.
pub const DEFAULT_MODEL: &str = "builtin:haiku";
/// Response header: the worker that answered.
pub const HEADER_WORKER: &str = "x-rbee-worker";
/// Response header: the node it runs on.
pub const HEADER_NODE: &str = "x-rbee-node";
/// Response header: the request's name.
pub const HEADER_REQUEST_ID: &str = "x-rbee-request-id";
/// Response header: the seed, given or drawn.
pub const HEADER_SEED: &str = "x-rbee-seed";
/// Response header: milliseconds in the queue, loading included.
pub const HEADER_QUEUE_MS: &str = "x-rbee-queue-ms";
/// Request header: RFC 3339 instant after which the answer is worth nothing.
pub const HEADER_DEADLINE: &str = "x-request-deadline";
