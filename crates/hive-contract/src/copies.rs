//! Copies of models from node to node, through the queen.

use input_validation::ModelRef;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::PullRequest;

/// Where a hive finds the models of other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopySource {
    /// URL under which the node reaches the queen. The hive sends the node's token to it.
    #[schema(pattern = "^https?://[!-~]+$")]
    pub queen_url: String,
    /// Whether to fetch the model from its vendor if no node can provide it. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub or_vendor: bool,
}

/// Body of the hive's `POST /v1/models/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePullRequest {
    /// What to fetch.
    #[serde(flatten)]
    pub request: PullRequest,
    /// Where to copy the model from. Default: it is fetched from its vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub copy_from: Option<CopySource>,
}

impl From<PullRequest> for NodePullRequest {
    fn from(request: PullRequest) -> Self {
        Self {
            request,
            copy_from: None,
        }
    }
}

/// Body of calls for the manifest of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManifestQuery {
    /// Reference of the model.
    pub model: ModelRef,
    /// Revision of the files. Default: the one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub revision: Option<String>,
}

/// File of a model that another node can copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManifestEntry {
    /// Path in the model's directory.
    pub path: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// Whether the file has weights.
    pub weights: bool,
}

/// A fetched model, as another node needs it to copy the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelManifest {
    /// Canonical reference of the model.
    pub model: ModelRef,
    /// Revision of the files.
    pub revision: String,
    /// What a worker opens: the path of a file, or an empty text for the directory.
    pub entry: String,
    /// The files.
    pub files: Vec<ManifestEntry>,
}

/// Query of calls for the content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ContentQuery {
    /// Reference of the model.
    pub model: ModelRef,
    /// Path of the file in the model's directory.
    pub path: String,
    /// SHA-256 that the file must have, in hexadecimal.
    pub sha256: String,
}
