use std::time::Duration;

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{EmbedResponse, InferInput};

use crate::{
    embeddings::{dimensions, inputs, shortened},
    fields::read,
};

/// Body of `POST /api/embed`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaEmbedRequest {
    /// As `/api/tags` lists it, or by its short name.
    pub model: String,
    /// A text or a list of texts.
    pub input: Value,
    /// The first so many numbers of each vector, brought to length 1 again.
    pub dimensions: Option<i64>,
    /// Whether only the beginning of an input that is too long is embedded (true, the
    /// default), or it is refused.
    pub truncate: Option<bool>,
}

/// Body of `POST /api/embeddings`, the older form.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaEmbeddingsRequest {
    /// As `/api/tags` lists it, or by its short name.
    pub model: String,
    /// A text.
    pub prompt: String,
}

/// A request for embeddings, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct OllamaEmbedCall {
    /// The model by the client's name for it.
    pub model: String,
    /// What is embedded.
    pub inputs: Vec<InferInput>,
    /// Whether only the beginning of an input that is too long is embedded.
    pub truncate: bool,
    dimensions: Option<usize>,
}

/// Answer of `POST /api/embed`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaEmbedAnswer {
    /// The model by the client's name for it.
    pub model: String,
    /// One for each input, in order, each of length 1.
    pub embeddings: Vec<Vec<f32>>,
    /// All of it, in nanoseconds.
    pub total_duration: u64,
    /// Waiting for the model, in nanoseconds.
    pub load_duration: u64,
    /// Tokens of all inputs.
    pub prompt_eval_count: u32,
}

/// Answer of `POST /api/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaEmbeddingsAnswer {
    /// The vector, of length 1.
    pub embedding: Vec<f32>,
}

impl OllamaEmbedCall {
    /// Reads the JSON body of `POST /api/embed`.
    pub fn parse(body: &Value) -> Result<Self, Diagnostic> {
        let fields: OllamaEmbedRequest = read(body)?;
        Ok(Self {
            inputs: inputs(&fields.input)?,
            truncate: fields.truncate.unwrap_or(true),
            dimensions: dimensions(fields.dimensions)?,
            model: fields.model,
        })
    }

    /// Reads the JSON body of `POST /api/embeddings`.
    pub fn parse_older(body: &Value) -> Result<Self, Diagnostic> {
        let fields: OllamaEmbeddingsRequest = read(body)?;
        Ok(Self {
            inputs: vec![InferInput::Prompt(fields.prompt)],
            truncate: true,
            dimensions: None,
            model: fields.model,
        })
    }

    /// The document of `POST /api/embed`: an answer that took `total`, `waited` of it for the
    /// model.
    pub fn answer(
        self,
        response: EmbedResponse,
        total: Duration,
        waited: Duration,
    ) -> Result<OllamaEmbedAnswer, Diagnostic> {
        Ok(OllamaEmbedAnswer {
            model: self.model,
            embeddings: shortened(response.vectors, self.dimensions)?,
            total_duration: total.as_nanos() as u64,
            load_duration: waited.as_nanos() as u64,
            prompt_eval_count: response.prompt_tokens,
        })
    }
}

impl OllamaEmbeddingsAnswer {
    /// The document of `POST /api/embeddings`.
    pub fn new(response: EmbedResponse) -> Self {
        Self {
            embedding: response.vectors.into_iter().next().unwrap_or_default(),
        }
    }
}
