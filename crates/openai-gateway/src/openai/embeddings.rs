use base64::{Engine as _, engine::general_purpose::STANDARD};
use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{EmbedResponse, InferInput};

use crate::{
    embed::{dimensions, inputs, truncated},
    errors::must_be,
    fields::{integer, read},
    openai::schemas::EncodingFormat,
    schemas::EmbeddingsInput,
};

/// Body of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct EmbeddingsRequest {
    /// Model: an id that `/v1/models` lists.
    pub model: String,
    /// String, array of strings, array of token ids, or array of such arrays. Up to 2048 inputs,
    /// each of which must fit into the context of the model.
    #[schema(value_type = EmbeddingsInput)]
    pub input: Value,
    /// `float` (the default) or `base64`: the components as little-endian 32-bit floats.
    #[schema(value_type = Option<EncodingFormat>)]
    pub encoding_format: Option<String>,
    /// Number of components to keep of each vector, at least 1. The rest is dropped, and the
    /// vector normalized to length 1 again. Default: all.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integer")]
    pub dimensions: Option<i64>,
    /// Id of the end user; ignored.
    pub user: Option<String>,
}

/// Request for embeddings in OpenAI's dialect, translated for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedEmbeddingsRequest {
    /// Model as the client named it.
    pub model: String,
    pub inputs: Vec<InferInput>,
    dimensions: Option<usize>,
    base64: bool,
}

/// Response of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EmbeddingsResponse {
    /// Always `list`.
    #[schema(pattern = "^list$")]
    pub object: &'static str,
    /// One embedding for each input, in the order of the request.
    pub data: Vec<Embedding>,
    /// Model as the request named it.
    pub model: String,
    /// Token counts of all inputs together.
    pub usage: EmbeddingsUsage,
}

/// Embedding of one input.
#[expect(clippy::struct_field_names, reason = "OpenAI's name")]
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Embedding {
    /// Always `embedding`.
    #[schema(pattern = "^embedding$")]
    pub object: &'static str,
    /// Index of the input, from 0.
    pub index: usize,
    /// Vector of length 1.
    pub embedding: EmbeddingVector,
}

/// Components of a vector in the requested `encoding_format`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EmbeddingVector {
    Float(Vec<f32>),
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
}

/// Token counts of an embeddings response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct EmbeddingsUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
    /// Same as `prompt_tokens`.
    pub total_tokens: u32,
}

impl ParsedEmbeddingsRequest {
    pub fn parse(body: &Value) -> Result<Self, Diagnostic> {
        let fields: EmbeddingsRequest = read(body)?;
        let base64 = match fields.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(must_be("encoding_format", "`float` or `base64`")),
        };
        Ok(Self {
            inputs: inputs(&fields.input)?,
            dimensions: dimensions(fields.dimensions)?,
            base64,
            model: fields.model,
        })
    }

    /// Converts a worker's response. Fails if more dimensions are requested than the vectors
    /// have.
    pub fn into_response(self, response: EmbedResponse) -> Result<EmbeddingsResponse, Diagnostic> {
        let usage = EmbeddingsUsage {
            prompt_tokens: response.prompt_tokens,
            total_tokens: response.prompt_tokens,
        };
        let vectors = truncated(response.vectors, self.dimensions)?;
        let data = vectors.into_iter().enumerate().map(|(index, vector)| {
            let embedding = if self.base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                EmbeddingVector::Base64(STANDARD.encode(bytes))
            } else {
                EmbeddingVector::Float(vector)
            };
            Embedding {
                object: "embedding",
                index,
                embedding,
            }
        });
        Ok(EmbeddingsResponse {
            object: "list",
            data: data.collect(),
            model: self.model,
            usage,
        })
    }
}

#[cfg(test)]
#[path = "embeddings_tests.rs"]
mod tests;
