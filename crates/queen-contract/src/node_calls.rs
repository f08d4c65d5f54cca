//! Bodies and queries of the calls that register nodes.

use std::fmt;

use input_validation::{HostKeyFingerprint, NodeName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::NodeSpec;

/// Body of `POST /v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddNode {
    /// Name of the new node.
    pub name: NodeName,
    /// How to reach it, and what to do.
    #[serde(flatten)]
    pub node: UpdateNode,
}

/// Body of `PUT /v1/nodes/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateNode {
    /// How the queen reaches the node.
    pub spec: NodeSpec,
    /// Token of the hive; required for a direct link that is new. The queen makes the tokens of
    /// other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token: Option<NodeSecret>,
    /// Fingerprint of the node's SSH host key, to trust it if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub accept_host_key: Option<HostKeyFingerprint>,
    /// Whether to install the hive if it is missing. Default: false.
    #[serde(default)]
    pub install: bool,
}

/// Token of a node: 16 or more printable ASCII characters. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct NodeSecret(pub String);

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret")
    }
}

/// Query of `DELETE /v1/nodes/{name}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RemoveNode {
    /// Whether to stop workers that run on the node. Default: false, which refuses to remove it.
    #[serde(default)]
    pub force: bool,
}

/// Query of `DELETE /v1/nodes/{name}/hive`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UninstallHive {
    /// Whether to remove the models as well. Default: false.
    #[serde(default)]
    pub models: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let text = r#"{"name": "a", "spec": {"link": "direct", "url": "http://127.0.0.1:9"}, "token": "0123456789abcdef"}"#;
        let request: AddNode = serde_json::from_str(text).unwrap();
        assert_eq!(
            request.node.token,
            Some(NodeSecret("0123456789abcdef".to_owned()))
        );
        assert!(!format!("{request:?}").contains("0123"));
    }
}
