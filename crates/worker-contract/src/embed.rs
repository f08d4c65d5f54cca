use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{defaults::is_false, infer::InferInput};

/// Body of `POST /v1/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbedRequest {
    /// Id of the request; must not be the id of a running request.
    pub request_id: RequestId,
    /// Inputs to embed.
    #[schema(min_items = 1)]
    pub inputs: Vec<InferInput>,
    /// Whether to truncate inputs that are longer than the context instead of refusing them.
    /// Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub truncate: bool,
    /// Deadline. A request that is not complete then fails with `DEADLINE_EXCEEDED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
}

/// Response of `POST /v1/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbedResponse {
    /// Id of the request.
    pub request_id: RequestId,
    /// Model that computed the embeddings.
    pub model: ModelRef,
    /// One vector of length 1 for each input, in the order of the request.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
}
