use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{InferInput, infer::is_no};

/// Body of `POST /v1/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbedRequest {
    /// Its name; cancelling names it.
    pub request_id: RequestId,
    /// What is embedded, at least one; each must fit the context, unless they are cut.
    pub inputs: Vec<InferInput>,
    /// Whether only the beginning of an input that is too long is embedded. Otherwise it is
    /// refused.
    #[serde(default, skip_serializing_if = "is_no")]
    pub truncate: bool,
    /// When the answer is worth nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
}

/// Answer of `POST /v1/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbedResponse {
    /// The request's name.
    pub request_id: RequestId,
    /// The model that answered.
    pub model: ModelRef,
    /// One for each input, in order: what the model makes of the whole of it, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
}
