//! The queen's control interface and its native inference API, which the keeper uses. The APIs
//! of OpenAI, Ollama and Anthropic are in `openai-gateway`. Plain data; the feature `client` adds
//! a client.

#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
mod decisions;
mod deployments;
mod gpu_yield;
mod infer;
mod joining;
mod node_calls;
mod node_spec;
mod policy;
mod power;
mod preflight;
mod queue;
mod spawning;
mod types;

#[cfg(feature = "client")]
pub use client::{NodeCallEvents, QueenClient};
pub use decisions::{Decision, DecisionCandidate, DecisionKind, DecisionList, DecisionQuery};
pub use deployments::{
    DEFAULT_KEEP_ALIVE_SECONDS, DeployCall, DeployedPart, DeployedWorker, Deployment,
    DeploymentList, DeploymentSpec, DeploymentState, UndeployCall,
};
pub use gpu_yield::{GpuYield, YieldNow, YieldPhase, YieldedDevice};
pub use infer::{Assigned, DetokenizeCall, InferCall, InferEvent, TokenizeCall};
pub use joining::{
    DEFAULT_EXPIRY_SECONDS, Invitation, InvitationList, InvitationToken, InviteNode, JoinRequest,
    JoinResponse, LinkHello, MAX_EXPIRY_SECONDS, NewInvitation,
};
pub use node_calls::{
    AddNode, NodeCallEvent, NodeLog, NodeLogQuery, NodeSecret, RemoveNode, UninstallHive,
    UpdateNode,
};
pub use node_spec::{DirectNode, NodeSpec, SshNode};
pub use policy::{PolicyFailureEntry, PolicyScript, PolicyStatus, PolicyTest, PolicyTestCall};
pub use power::{Asleep, MAX_SLEEP_AFTER_SECONDS, NodePower, PowerSettings, SleepCall, SleepCause};
pub use preflight::{NodePreflight, PreflightCall, PreflightResponse};
pub use queue::{Priority, QueueEntry, Waiting, WaitingReason};
pub use spawning::{SpawnCall, SpawnedWorker};
pub use types::{
    Availability, ContextFit, DeviceFit, HiveService, ModelEntry, ModelList, ModelReport,
    NodeEntry, NodeList, NodeQuery, NodeStatus, QueenHealth, ReplaceQuery, RequestCounts,
    ShutdownRequest, ShutdownResponse, Status, WorkerEntry, WorkerList,
};

/// Version of this interface. Processes refuse peers of other versions.
pub const API_VERSION: u32 = 1;
/// Default TCP port of the queen.
pub const DEFAULT_PORT: u16 = 8500;
/// Default model of the keeper's commands.
pub const DEFAULT_MODEL: &str = "builtin:haiku";
/// Response header: id of the worker that serves the request.
pub const HEADER_WORKER: &str = "x-rbee-worker";
/// Request header: node that the worker must run on. Response header: node that it runs on.
pub const HEADER_NODE: &str = "x-rbee-node";
/// Response header: id of the request.
pub const HEADER_REQUEST_ID: &str = "x-rbee-request-id";
/// Response header: seed of the sampler, from the request or drawn at random.
pub const HEADER_SEED: &str = "x-rbee-seed";
/// Response header: time spent waiting for a worker, loading included, in milliseconds.
pub const HEADER_QUEUE_MS: &str = "x-rbee-queue-ms";
/// Response header: the parameters of the sampler that are used, as `temperature=0.7, top_k=20`.
pub const HEADER_SAMPLING: &str = "x-rbee-sampling";
/// Response header: what was changed in the request or ignored so that it could be served.
pub const HEADER_NOTES: &str = "x-rbee-notes";
/// Request header: deadline of the request, in RFC 3339.
pub const HEADER_DEADLINE: &str = "x-request-deadline";
/// Request header: priority of the request, `interactive` or `batch`.
pub const HEADER_PRIORITY: &str = "x-request-priority";
