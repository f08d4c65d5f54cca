use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Model that requests can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicModel {
    /// Value for `model` in requests.
    pub id: String,
    /// Always `model`.
    #[serde(rename = "type")]
    #[schema(pattern = "^model$")]
    kind: &'static str,
    /// Same as `id`.
    display_name: String,
    /// Time at which the queen started.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Always `active`.
    #[schema(pattern = "^active$")]
    lifecycle: &'static str,
    /// Maximum length of prompt and output together, in tokens; null if unknown.
    max_input_tokens: Option<u32>,
}

impl AnthropicModel {
    /// Creates a model whose context length may be known.
    pub fn new(id: String, created_at: Timestamp, context_length: Option<u32>) -> Self {
        Self {
            display_name: id.clone(),
            id,
            kind: "model",
            created_at,
            lifecycle: "active",
            max_input_tokens: context_length,
        }
    }
}

/// Response of `GET /v1/models` to a client of Anthropic: all models on one page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicModelList {
    /// Models in order of their ids.
    data: Vec<AnthropicModel>,
    /// Always false.
    has_more: bool,
    /// Id of the first model; null if there is none.
    first_id: Option<String>,
    /// Id of the last model; null if there is none.
    last_id: Option<String>,
}

impl AnthropicModelList {
    pub fn new(data: Vec<AnthropicModel>) -> Self {
        Self {
            has_more: false,
            first_id: data.first().map(|model| model.id.clone()),
            last_id: data.last().map(|model| model.id.clone()),
            data,
        }
    }
}
