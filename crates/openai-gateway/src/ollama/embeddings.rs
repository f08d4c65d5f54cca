use std::time::Duration;

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{EmbedResponse, InferInput};

use crate::{
    embed::{dimensions, inputs, truncated},
    fields::read,
    schemas::EmbeddingsInput,
};

/// Body of `POST /api/embed`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaEmbedRequest {
    /// Model: a name that `/api/tags` lists, or its short form.
    pub model: String,
    /// Text or texts to embed, up to 2048. Token ids are accepted as well.
    #[schema(value_type = EmbeddingsInput)]
    pub input: Value,
    /// Number of components to keep of each vector, at least 1. The rest is dropped, and the
    /// vector normalized to length 1 again. Default: all.
    #[schema(minimum = 1)]
    pub dimensions: Option<i64>,
    /// Whether to truncate inputs that are longer than the context of the model (true, the
    /// default) or to refuse them.
    #[schema(default = true)]
    pub truncate: Option<bool>,
}

/// Body of `POST /api/embeddings`, which `/api/embed` supersedes.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaEmbeddingsRequest {
    /// Model: a name that `/api/tags` lists, or its short form.
    pub model: String,
    pub prompt: String,
}

/// Request for embeddings in Ollama's dialect, translated for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedOllamaEmbedRequest {
    /// Model as the client named it.
    pub model: String,
    pub inputs: Vec<InferInput>,
    /// Whether to truncate inputs that are longer than the context instead of refusing them.
    pub truncate: bool,
    dimensions: Option<usize>,
}

/// Response of `POST /api/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaEmbedResponse {
    /// Model as the request named it.
    pub model: String,
    /// One vector of length 1 for each input, in the order of the request.
    pub embeddings: Vec<Vec<f32>>,
    /// Time from the arrival of the request to the response, in nanoseconds.
    pub total_duration: u64,
    /// Time spent waiting for a worker, in nanoseconds.
    pub load_duration: u64,
    /// Tokens of all inputs.
    pub prompt_eval_count: u32,
}

/// Response of `POST /api/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaEmbeddingsResponse {
    /// Vector of length 1.
    pub embedding: Vec<f32>,
}

impl ParsedOllamaEmbedRequest {
    /// Parses the JSON body of `POST /api/embed`.
    pub fn parse(body: &Value) -> Result<Self, Diagnostic> {
        let fields: OllamaEmbedRequest = read(body)?;
        Ok(Self {
            inputs: inputs(&fields.input)?,
            truncate: fields.truncate.unwrap_or(true),
            dimensions: dimensions(fields.dimensions)?,
            model: fields.model,
        })
    }

    /// Parses the JSON body of `POST /api/embeddings`.
    pub fn parse_superseded(body: &Value) -> Result<Self, Diagnostic> {
        let fields: OllamaEmbeddingsRequest = read(body)?;
        Ok(Self {
            inputs: vec![InferInput::Prompt(fields.prompt)],
            truncate: true,
            dimensions: None,
            model: fields.model,
        })
    }

    /// Converts a worker's response to that of `POST /api/embed`. `total` is the time since the
    /// request arrived, `waited` the part of it spent waiting for a worker.
    ///
    /// Fails if more dimensions are requested than the vectors have.
    pub fn into_response(
        self,
        response: EmbedResponse,
        total: Duration,
        waited: Duration,
    ) -> Result<OllamaEmbedResponse, Diagnostic> {
        Ok(OllamaEmbedResponse {
            model: self.model,
            embeddings: truncated(response.vectors, self.dimensions)?,
            total_duration: total.as_nanos() as u64,
            load_duration: waited.as_nanos() as u64,
            prompt_eval_count: response.prompt_tokens,
        })
    }
}

impl From<EmbedResponse> for OllamaEmbeddingsResponse {
    fn from(response: EmbedResponse) -> Self {
        Self {
            embedding: response.vectors.into_iter().next().unwrap_or_default(),
        }
    }
}
