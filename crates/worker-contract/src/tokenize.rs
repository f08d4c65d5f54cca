use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{InferInput, ToolDefinition};

/// Body of `POST /v1/tokenize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// What is to be encoded, as `/v1/infer` would.
    pub input: InferInput,
    /// What the model is told that it may call; only with messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
}

/// Answer of `POST /v1/tokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeResponse {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// How many.
    pub count: u32,
}

/// Body of `POST /v1/detokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// Token ids.
    pub tokens: Vec<u32>,
}

/// Answer of `POST /v1/detokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeResponse {
    /// Their text; special tokens contribute nothing, bytes that are no UTF-8 show as U+FFFD.
    pub text: String,
}
