use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic};
use serde::Deserialize;

use crate::{
    header::{ModelFormat, ModelHeader, RopeScaling, most},
    safetensors::SafetensorsTensor,
};

/// The keys of a Hugging Face `config.json` that a decoder is described by.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    hidden_size: u32,
    intermediate_size: u32,
    vocab_size: u32,
    max_position_embeddings: u32,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_scaling: Option<Rope>,
    /// Newer files keep theta and scaling together.
    rope_parameters: Option<Rope>,
    tie_word_embeddings: Option<bool>,
}

#[derive(Deserialize)]
struct Rope {
    #[serde(rename = "rope_type", alias = "type")]
    kind: Option<String>,
    #[serde(rename = "rope_theta")]
    theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<u32>,
}

/// What a model is, from its `config.json` and the tensors of its safetensors files.
pub fn header_from_config(
    json: &[u8],
    tensors: &BTreeMap<String, SafetensorsTensor>,
) -> Result<ModelHeader, Diagnostic> {
    let config: Config = serde_json::from_slice(json).map_err(|e| {
        Diagnostic::new(
            Code::InvalidModelFile,
            format!("`config.json` does not describe a model as expected: {e}"),
        )
        .hint("use the `config.json` of a Hugging Face text model")
    })?;
    let heads = config.num_attention_heads;
    let head_dim = match config.head_dim {
        Some(width) => width,
        None => config.hidden_size.checked_div(heads).unwrap_or(0),
    };
    let mut weights_by_type = BTreeMap::<&str, u64>::new();
    let (mut parameters, mut weight_bytes) = (0_u64, 0_u64);
    for tensor in tensors.values() {
        parameters = parameters.saturating_add(tensor.bytes / tensor.kind.bytes());
        weight_bytes = weight_bytes.saturating_add(tensor.bytes);
        *weights_by_type.entry(tensor.kind.name()).or_default() += tensor.bytes;
    }
    let rope = config
        .rope_parameters
        .as_ref()
        .or(config.rope_scaling.as_ref());
    let rope_theta = rope.and_then(|r| r.theta).or(config.rope_theta);
    ModelHeader {
        format: ModelFormat::Safetensors,
        name: None,
        architecture: config.model_type,
        layers: config.num_hidden_layers,
        heads,
        kv_heads: config.num_key_value_heads.unwrap_or(heads),
        head_dim,
        embedding_length: config.hidden_size,
        feed_forward_length: config.intermediate_size,
        vocab_size: config.vocab_size,
        context_length: config.max_position_embeddings,
        rope_theta: rope_theta.unwrap_or(10_000.0),
        rope_dimensions: head_dim,
        rope_scaling: rope.map_or(RopeScaling::None, scaling),
        rms_epsilon: config.rms_norm_eps,
        tied_embeddings: config.tie_word_embeddings.unwrap_or(false),
        quantization: most(&weights_by_type),
        parameters,
        weight_bytes,
    }
    .checked()
}

fn scaling(rope: &Rope) -> RopeScaling {
    let kind = rope.kind.as_deref().unwrap_or("default");
    match (kind, rope.factor) {
        ("default", _) => RopeScaling::None,
        ("linear", Some(factor)) => RopeScaling::Linear { factor },
        ("llama3", Some(factor)) => RopeScaling::Llama3 {
            factor,
            low_frequency_factor: rope.low_freq_factor.unwrap_or(1.0),
            high_frequency_factor: rope.high_freq_factor.unwrap_or(4.0),
            original_context_length: rope.original_max_position_embeddings.unwrap_or(8192),
        },
        _ => RopeScaling::Other(kind.to_owned()),
    }
}
