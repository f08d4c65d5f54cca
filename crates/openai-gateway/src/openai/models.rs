use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Model that requests can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenAiModel {
    /// Value for `model` in requests.
    pub id: String,
    /// Always `model`.
    #[schema(pattern = "^model$")]
    pub object: String,
    /// Time at which the model was fetched, or else the queen started, in seconds since the Unix
    /// epoch.
    pub created: i64,
    /// Always `rbee`.
    #[schema(pattern = "^rbee$")]
    pub owned_by: String,
    /// Extension: maximum length of prompt and output together, in tokens; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub context_length: Option<u32>,
    /// Extension: same as `context_length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub max_model_len: Option<u32>,
    /// Extension: whether a worker has loaded the model.
    pub state: OpenAiModelState,
}

/// Whether a worker has loaded a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OpenAiModelState {
    /// A worker has loaded the model or is loading it.
    Loaded,
    /// The first request loads the model.
    NotLoaded,
}

impl OpenAiModel {
    /// Creates a model whose context length may be known.
    pub fn new(
        id: String,
        created: i64,
        context_length: Option<u32>,
        state: OpenAiModelState,
    ) -> Self {
        Self {
            id,
            object: "model".to_owned(),
            created,
            owned_by: "rbee".to_owned(),
            context_length,
            max_model_len: context_length,
            state,
        }
    }
}

/// Response of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenAiModelList {
    /// Always `list`.
    #[schema(pattern = "^list$")]
    pub object: String,
    /// Models in order of their ids.
    pub data: Vec<OpenAiModel>,
}

impl OpenAiModelList {
    pub fn new(data: Vec<OpenAiModel>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}
