use base64::{Engine as _, engine::general_purpose::STANDARD};
use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{EmbedResponse, InferInput};

use crate::fields::{invalid, limit, read};

/// Most inputs of one request.
const MOST_INPUTS: usize = 2048;

/// Body of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct EmbeddingsRequest {
    /// A model that `/v1/models` lists.
    pub model: String,
    /// A text, a list of texts, token ids, or a list of lists of them; up to 2048 inputs, each
    /// of which must fit the context.
    pub input: Value,
    /// `float` (the default) or `base64`: the numbers as little-endian 32-bit floats.
    pub encoding_format: Option<String>,
    /// The first so many numbers of each vector, brought to length 1 again.
    pub dimensions: Option<i64>,
    /// The end user; not used.
    pub user: Option<String>,
}

/// A request for embeddings, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsCall {
    /// The model by the client's name for it.
    pub model: String,
    /// What is embedded.
    pub inputs: Vec<InferInput>,
    /// Numbers wanted of each vector.
    pub dimensions: Option<usize>,
    /// Numbers as base64.
    pub base64: bool,
}

/// Answer of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EmbeddingsAnswer {
    /// Always `list`.
    pub object: &'static str,
    /// One for each input, in order.
    pub data: Vec<Embedding>,
    /// The model by the client's name for it.
    pub model: String,
    /// Tokens counted.
    pub usage: EmbeddingsUsage,
}

/// The vector of one input.
#[expect(clippy::struct_field_names, reason = "OpenAI's name")]
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Embedding {
    /// Always `embedding`.
    pub object: &'static str,
    /// Which input, from 0.
    pub index: usize,
    /// Of length 1.
    pub embedding: Numbers,
}

/// A vector as the client wants it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Numbers {
    /// A list.
    Float(Vec<f32>),
    /// Little-endian 32-bit floats.
    Base64(String),
}

/// OpenAI's count of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct EmbeddingsUsage {
    /// Of all inputs.
    pub prompt_tokens: u32,
    /// The same.
    pub total_tokens: u32,
}

impl EmbeddingsCall {
    /// Reads the JSON body of the endpoint.
    pub fn parse(body: &Value) -> Result<Self, Diagnostic> {
        let fields: EmbeddingsRequest = read(body)?;
        let base64 = match fields.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(invalid("encoding_format", "must be `float` or `base64`")),
        };
        Ok(Self {
            inputs: inputs(&fields.input)?,
            dimensions: dimensions(fields.dimensions)?,
            base64,
            model: fields.model,
        })
    }

    /// The document.
    pub fn answer(self, response: EmbedResponse) -> Result<EmbeddingsAnswer, Diagnostic> {
        let usage = EmbeddingsUsage {
            prompt_tokens: response.prompt_tokens,
            total_tokens: response.prompt_tokens,
        };
        let vectors = shortened(response.vectors, self.dimensions)?;
        let data = vectors.into_iter().enumerate().map(|(index, vector)| {
            let embedding = if self.base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            } else {
                Numbers::Float(vector)
            };
            Embedding {
                object: "embedding",
                index,
                embedding,
            }
        });
        Ok(EmbeddingsAnswer {
            object: "list",
            data: data.collect(),
            model: self.model,
            usage,
        })
    }
}

pub(crate) fn dimensions(value: Option<i64>) -> Result<Option<usize>, Diagnostic> {
    Ok(limit("dimensions", value)?.map(|n| n as usize))
}

/// The inputs in any of the forms that a client may send.
pub(crate) fn inputs(value: &Value) -> Result<Vec<InferInput>, Diagnostic> {
    let form = || {
        invalid(
            "input",
            "must be a text, a list of texts, token ids, or a list of lists of them",
        )
    };
    let inputs = match value {
        Value::String(text) => vec![InferInput::Prompt(text.clone())],
        Value::Array(items) if items.iter().all(Value::is_number) => {
            vec![tokens(value).ok_or_else(form)?]
        }
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Some(InferInput::Prompt(text.clone())),
                item => tokens(item),
            })
            .collect::<Option<_>>()
            .ok_or_else(form)?,
        _ => return Err(form()),
    };
    if inputs.len() > MOST_INPUTS {
        let message = format!("has {} inputs; {MOST_INPUTS} are possible", inputs.len());
        return Err(invalid("input", &message));
    }
    Ok(inputs)
}

fn tokens(value: &Value) -> Option<InferInput> {
    let ids = value.as_array().filter(|ids| !ids.is_empty())?;
    ids.iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<_>>()
        .map(InferInput::Tokens)
}

/// The first numbers of each vector, brought to length 1 again: what models that are trained
/// for it mean by a smaller embedding.
pub(crate) fn shortened(
    mut vectors: Vec<Vec<f32>>,
    dimensions: Option<usize>,
) -> Result<Vec<Vec<f32>>, Diagnostic> {
    let Some(dimensions) = dimensions else {
        return Ok(vectors);
    };
    for vector in &mut vectors {
        if dimensions > vector.len() {
            let message = format!("is {dimensions}; the model gives {}", vector.len());
            return Err(invalid("dimensions", &message));
        }
        vector.truncate(dimensions);
        let square: f64 = vector.iter().map(|n| f64::from(*n).powi(2)).sum();
        if square > 0.0 {
            let length = square.sqrt() as f32;
            for number in vector {
                *number /= length;
            }
        }
    }
    Ok(vectors)
}

#[cfg(test)]
#[path = "embeddings_tests.rs"]
mod tests;
