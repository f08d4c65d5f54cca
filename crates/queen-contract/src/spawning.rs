use hive_contract::EngineDecision;
use input_validation::{Backend, EngineName, Generation, ModelRef, NodeName, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnCall {
    /// Model that the worker serves.
    pub model: ModelRef,
    /// Node that it runs on. Default: `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub node: Option<NodeName>,
    /// Backend that it computes on. Default: `cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub backend: Option<Backend>,
    /// Engine that runs the model, from now on. A running worker with another one is replaced.
    /// Default: the first one that can, that of rbee before others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engine: Option<EngineName>,
}

/// Response of `POST /v1/workers`: a worker that serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnedWorker {
    /// Its id.
    pub worker_id: WorkerId,
    /// Generation of its process.
    pub generation: Generation,
    /// Node that it runs on.
    pub node: NodeName,
    /// The engine that runs the model, and why; absent for a model of the mock engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engine: Option<EngineDecision>,
}
