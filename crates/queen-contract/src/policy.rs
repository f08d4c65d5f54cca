use input_validation::{Backend, ModelRef, NodeName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decision, Priority};

/// Response of `GET /v1/policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStatus {
    /// File of the script, on the queen's machine.
    pub file: String,
    /// The script in use; absent if the queen decides by its own rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub script: Option<PolicyScript>,
    /// Why what is in the file now is not in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
    /// Number of decisions that the script in use failed for.
    pub failures: u64,
    /// The script in use is not run any more, because it failed too often in a row.
    pub suspended: bool,
    /// The last failure of the script in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_failure: Option<PolicyFailureEntry>,
}

/// A script in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyScript {
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// Since when it is in use.
    #[schema(value_type = String, format = DateTime)]
    pub loaded_at: Timestamp,
    /// Whether it decides which worker serves a request.
    pub routes: bool,
    /// Whether it decides where workers are started.
    pub places: bool,
}

/// A failure of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyFailureEntry {
    /// When it failed.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What failed, and where.
    pub message: String,
}

/// Body of `POST /v1/policy/test`: a request that might arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTestCall {
    /// Text of a script. Default: the script in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Model of the request.
    pub model: ModelRef,
    /// Node that the request requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Backend that the request requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Priority of the request.
    #[serde(default)]
    pub priority: Priority,
    /// Size of its prompt, in bytes.
    #[serde(default)]
    pub prompt_bytes: u64,
}

/// Response of `POST /v1/policy/test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyTest {
    /// What the queen would decide by its own rules now, the first decision first.
    pub default: Vec<Decision>,
    /// What it would decide with the script; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub policy: Option<Vec<Decision>>,
    /// Whether the script failed.
    pub failed: bool,
}
