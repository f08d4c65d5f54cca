use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic};
use serde::Deserialize;

use crate::{
    header::{Biases, ModelFormat, ModelHeader, most},
    rope_scaling::{RopeConfig, RopeScaling},
    safetensors::SafetensorsTensor,
    sliding_window::{SlidingWindow, WindowedLayers, window},
};

/// Tokens of a sliding window whose length is not given.
const DEFAULT_WINDOW: u32 = 4096;
/// Layers of Qwen that see everything when their number is not given.
const FULL_LAYERS: u32 = 28;

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
    rope_scaling: Option<RopeConfig>,
    /// Newer files keep theta and scaling together.
    rope_parameters: Option<RopeConfig>,
    partial_rotary_factor: Option<f32>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    #[serde(default = "default_window")]
    sliding_window: Option<u32>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u32>,
    layer_types: Option<Vec<String>>,
}

/// A key that is absent is not one that is null.
#[allow(clippy::unnecessary_wraps)]
fn default_window() -> Option<u32> {
    Some(DEFAULT_WINDOW)
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
    let rotated = rope
        .and_then(|r| r.partial_rotary_factor)
        .or(config.partial_rotary_factor)
        .map_or(head_dim, |part| (head_dim as f32 * part) as u32);
    let trained = config.max_position_embeddings;
    let rope_scaling = rope.map_or(RopeScaling::None, |rope| rope.scaling(trained));
    let attention_bias = config.attention_bias.unwrap_or(false);
    ModelHeader {
        format: ModelFormat::Safetensors,
        name: None,
        sliding_window: config.sliding_window(),
        architecture: config.model_type,
        layers: config.num_hidden_layers,
        heads,
        kv_heads: config.num_key_value_heads.unwrap_or(heads),
        head_dim,
        embedding_length: config.hidden_size,
        feed_forward_length: config.intermediate_size,
        vocab_size: config.vocab_size,
        context_length: rope_scaling.context_length(trained),
        rope_theta: rope_theta.unwrap_or(10_000.0),
        rope_dimensions: rotated,
        rope_scaling,
        biases: Biases {
            query_key_value: attention_bias,
            attention_output: attention_bias,
            feed_forward: config.mlp_bias.unwrap_or(false),
        },
        activation: config.hidden_act,
        rms_epsilon: config.rms_norm_eps,
        tied_embeddings: config.tie_word_embeddings.unwrap_or(false),
        quantization: most(&weights_by_type),
        parameters,
        weight_bytes,
    }
    .checked()
}

impl Config {
    /// The window of attention, with the defaults of each family's own implementation.
    fn sliding_window(&self) -> Option<SlidingWindow> {
        let used = match self.model_type.as_str() {
            "mistral" => true,
            "qwen2" | "qwen3" => self.use_sliding_window.unwrap_or(false),
            _ => false,
        };
        let layers = match (&self.layer_types, self.model_type.as_str()) {
            (Some(types), _) => SlidingWindow::listed(types, self.num_hidden_layers),
            (None, "mistral") => WindowedLayers::From(0),
            (None, _) => WindowedLayers::From(self.max_window_layers.unwrap_or(FULL_LAYERS)),
        };
        window(self.sliding_window.filter(|_| used), layers)
    }
}
