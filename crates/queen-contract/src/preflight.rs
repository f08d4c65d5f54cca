use hive_contract::{PreflightCheck, PreflightRequest};
use input_validation::NodeName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of the queen's `POST /v1/preflight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreflightCall {
    /// Node that is checked. Default: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The worker whose start is checked.
    #[serde(flatten)]
    pub worker: PreflightRequest,
}

/// Checks of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodePreflight {
    /// Name of the node.
    pub node: NodeName,
    /// The checks, by level.
    pub checks: Vec<PreflightCheck>,
}

/// Response of the queen's `POST /v1/preflight`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PreflightResponse {
    /// Checks of each node, in order of their names.
    pub nodes: Vec<NodePreflight>,
}
