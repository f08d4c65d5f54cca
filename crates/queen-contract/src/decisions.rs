use input_validation::{ModelRef, NodeName, RequestId, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the queen decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A request was assigned to a worker.
    Route,
    /// A request waits.
    Wait,
    /// A worker is started.
    Spawn,
    /// The engine of a worker was chosen.
    Engine,
    /// A worker could not be started.
    SpawnFailed,
    /// A worker did not complete a request.
    AttemptFailed,
    /// A request ended with an error.
    Refuse,
    /// The policy failed, so the default decided.
    PolicyFailed,
    /// A worker is stopped.
    Stop,
    /// A worker was removed, because it sent no heartbeat.
    Lost,
}

/// A worker, a node and a backend, or an engine that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionCandidate {
    /// Id of the worker, node and backend, such as `attic cuda`, or name of the engine.
    pub name: String,
    /// Whether it was chosen.
    pub chosen: bool,
    /// What was compared, or why it was not possible.
    pub note: String,
}

/// A decision and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What was decided.
    pub kind: DecisionKind,
    /// Request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Model that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// Worker that was chosen, failed or is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Node of that worker, or on which one is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Why, in one sentence.
    pub reason: String,
    /// What was considered, the best first.
    pub candidates: Vec<DecisionCandidate>,
    /// Number of candidates that are not in the list.
    pub more_candidates: u64,
}

/// Response of `GET /v1/decisions` and `GET /v1/decisions/{about}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionList {
    /// The decisions, the oldest first.
    pub decisions: Vec<Decision>,
}

/// Query of the decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DecisionQuery {
    /// Number of decisions, the latest ones, of which at most 2000 are kept. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(default = 50)]
    pub limit: Option<u32>,
}
