//! Bodies and queries of the calls that register nodes.

use std::fmt;

use diagnostics::{Diagnostic, Narration};
use input_validation::{HostKeyFingerprint, NodeName};
use openapi_schema::{any_of, event_of_json, impl_schema, reference};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{NodeEntry, NodeSpec};

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
    pub token: Option<NodeSecret>,
    /// Fingerprint of the node's SSH host key, to trust it if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_host_key: Option<HostKeyFingerprint>,
    /// Whether to install the hive if it is missing. Default: false.
    #[serde(default)]
    pub install: bool,
}

/// Token of a node: 16 or more printable ASCII characters. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[!-~]{16,}$")]
pub struct NodeSecret(pub String);

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret")
    }
}

/// Event of a call that adds or changes a node. The last event is `result` or `error`.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeCallEvent {
    /// Message for display.
    Narration(Narration),
    /// The call succeeded: the node after it.
    Result(Box<NodeEntry>),
    /// The call failed.
    Error(Diagnostic),
}

impl_schema! {
    NodeCallEvent, uses [Narration, NodeEntry, Diagnostic],
    "Event of a call that adds or changes a node. The last event is `result` or `error`.",
    any_of([
        event_of_json(Some("narration"), reference::<Narration>()),
        event_of_json(Some("result"), reference::<NodeEntry>()),
        event_of_json(Some("error"), reference::<Diagnostic>()),
    ])
}

impl NodeCallEvent {
    /// Appends the event to `out` as a server-sent event.
    pub fn write_sse(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let (name, data) = match self {
            Self::Narration(e) => ("narration", serde_json::to_string(e)?),
            Self::Result(e) => ("result", serde_json::to_string(e)?),
            Self::Error(e) => ("error", serde_json::to_string(e)?),
        };
        out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        Ok(())
    }

    /// Parses a server-sent event from its type and data. Returns `Ok(None)` for a type that
    /// this version does not know.
    pub fn read_sse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(match name {
            "narration" => Some(Self::Narration(serde_json::from_str(data)?)),
            "result" => Some(Self::Result(serde_json::from_str(data)?)),
            "error" => Some(Self::Error(serde_json::from_str(data)?)),
            _ => None,
        })
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

/// A log of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeLog {
    /// That of its hive.
    #[default]
    Hive,
    /// That of the last build on the node.
    Build,
}

/// Query of `GET /v1/nodes/{name}/hive/logs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NodeLogQuery {
    /// Which log. Default: `hive`.
    #[serde(default)]
    #[param(inline, default = "hive")]
    pub log: NodeLog,
    /// Number of lines from the end of the log, of which at most 10000 are returned. Default: 200.
    #[param(default = 200)]
    pub lines: Option<u32>,
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
