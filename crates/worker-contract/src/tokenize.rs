use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    defaults,
    infer::{InferInput, ReasoningOptions},
    message::ToolDefinition,
};

/// Body of `POST /v1/tokenize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// Input to convert as `/v1/infer` does; must not be empty.
    pub input: InferInput,
    /// Functions that the model may call; requires an input of messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// How the model reasons before it answers, which may change the prompt.
    #[serde(
        default,
        deserialize_with = "defaults::object",
        skip_serializing_if = "ReasoningOptions::is_default"
    )]
    pub reasoning: ReasoningOptions,
    /// Further variables of the chat template, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub template_variables: Map<String, Value>,
}

/// Response of `POST /v1/tokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeResponse {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Number of tokens.
    pub count: u32,
}

/// Body of `POST /v1/detokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// Token ids; each must be in the vocabulary of the model.
    pub tokens: Vec<u32>,
}

/// Response of `POST /v1/detokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeResponse {
    /// Text of the tokens, without special tokens. Bytes that are not valid UTF-8 appear as
    /// U+FFFD.
    pub text: String,
}
