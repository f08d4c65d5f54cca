use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    architectures::{WeightFormat, supported_architectures},
    errors,
    experts::Experts,
    family::text_config,
    header::{Biases, ModelHeader, dominant_type},
    recommended::RecommendedSampling,
    rope_scaling::{RopeConfig, RopeScaling},
    safetensors::SafetensorsTensor,
    sliding_window::{SlidingWindow, WindowedLayers},
};

/// Keys of a Hugging Face `config.json` that describe a decoder.
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
    rope_local_base_freq: Option<f32>,
    rope_scaling: Option<RopeConfig>,
    /// Combines theta and scaling in newer files.
    rope_parameters: Option<RopeConfig>,
    original_max_position_embeddings: Option<u32>,
    partial_rotary_factor: Option<f32>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_bidirectional_attention: Option<bool>,
    query_pre_attn_scalar: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    sliding_window: Option<u32>,
    sliding_window_pattern: Option<u32>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u32>,
    layer_types: Option<Vec<String>>,
    num_local_experts: Option<u32>,
    num_experts_per_tok: Option<u32>,
    moe_intermediate_size: Option<u32>,
    norm_topk_prob: Option<bool>,
    decoder_sparse_step: Option<u32>,
    mlp_only_layers: Option<Vec<u32>>,
}

/// Returns the `model_type` of a `config.json`, without requiring the other keys, which differ
/// between families. `None` if it has none or is not JSON.
pub fn family_of_config(json: &[u8]) -> Option<String> {
    let document = text_config(serde_json::from_slice(json).ok()?);
    document.get("model_type")?.as_str().map(str::to_owned)
}

fn parse(json: &[u8]) -> serde_json::Result<Config> {
    let mut document: Map<String, Value> = serde_json::from_slice(json)?;
    // Of two spellings only one may remain, since the family's default is under it.
    if let Some(count) = document.remove("num_experts") {
        document.insert("num_local_experts".to_owned(), count);
    }
    let mut document = text_config(document);
    let family = document.get("model_type").and_then(Value::as_str);
    let known = supported_architectures(WeightFormat::Safetensors);
    if family.is_some_and(|family| !known.contains(&family)) {
        document = usual_numbers(document);
    }
    serde_json::from_value(document.into())
}

/// What other families have in the usual form; numbers that they do not have are 0.
fn usual_numbers(mut document: Map<String, Value>) -> Map<String, Value> {
    let numbers = [
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ];
    let number = |name: &str| {
        let value = document.get(name).and_then(Value::as_u64);
        value.and_then(|value| u32::try_from(value).ok())
    };
    let optional = ["num_key_value_heads", "head_dim"];
    let optional = optional
        .into_iter()
        .filter_map(|name| Some((name, number(name)?)));
    let numbers = numbers.into_iter();
    let mut usual: Map<String, Value> = numbers
        .map(|name| (name, number(name).unwrap_or(0)))
        .chain(optional)
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    usual.extend(document.remove_entry("model_type"));
    usual
}

/// Describes a model by its `config.json`, its `generation_config.json` if it has one, and the
/// tensors of its safetensors files.
pub fn describe_safetensors(
    config: &[u8],
    generation_config: Option<&[u8]>,
    tensors: &BTreeMap<String, SafetensorsTensor>,
) -> Result<ModelHeader, Diagnostic> {
    let mut header = header_from_config(config, tensors)?;
    header.sampling = generation_config
        .map(RecommendedSampling::from_config)
        .unwrap_or_default();
    Ok(header)
}

/// Describes a model by its `config.json` and the tensors of its safetensors files.
pub fn header_from_config(
    json: &[u8],
    tensors: &BTreeMap<String, SafetensorsTensor>,
) -> Result<ModelHeader, Diagnostic> {
    let config = parse(json).map_err(|e| errors::config_json(&e))?;
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
    let ropes = config.rope_parameters.as_ref();
    let rope = ropes
        .or(config.rope_scaling.as_ref())
        .map(RopeConfig::of_full_layers);
    let local_theta = ropes.and_then(RopeConfig::theta_of_windowed_layers);
    let rope_theta = rope.and_then(|r| r.theta).or(config.rope_theta);
    let rotated = rope
        .and_then(|r| r.partial_rotary_factor)
        .or(config.partial_rotary_factor)
        .map_or(head_dim, |part| (head_dim as f32 * part) as u32);
    let declared = config.max_position_embeddings;
    let trained = config.original_max_position_embeddings;
    let rope_scaling = rope.map_or(RopeScaling::None, |rope| rope.scaling(declared, trained));
    let attention_bias = config.attention_bias.unwrap_or(false);
    ModelHeader {
        format: WeightFormat::Safetensors,
        name: None,
        sliding_window: config.sliding_window(),
        experts: config.experts(),
        activation: config.activation(),
        architecture: config.model_type,
        layers: config.num_hidden_layers,
        heads,
        kv_heads: config.num_key_value_heads.unwrap_or(heads),
        head_dim,
        embedding_length: config.hidden_size,
        feed_forward_length: config.intermediate_size,
        vocab_size: config.vocab_size,
        context_length: rope_scaling.context_length(declared),
        rope_theta: rope_theta.unwrap_or(10_000.0),
        rope_local_theta: local_theta.or(config.rope_local_base_freq),
        rope_dimensions: rotated,
        rope_scaling,
        causal: !config.use_bidirectional_attention.unwrap_or(false),
        attention_scale: config.query_pre_attn_scalar.map(|s| 1.0 / s.sqrt()),
        attention_softcap: config.attn_logit_softcapping,
        logit_softcap: config.final_logit_softcapping,
        biases: Biases {
            query_key_value: attention_bias,
            attention_output: attention_bias,
            feed_forward: config.mlp_bias.unwrap_or(false),
        },
        rms_epsilon: config.rms_norm_eps,
        tied_embeddings: config.tie_word_embeddings.unwrap_or(false),
        quantization: dominant_type(&weights_by_type),
        tensor_types: weights_by_type.into_keys().map(str::to_owned).collect(),
        parameters,
        weight_bytes,
        sampling: RecommendedSampling::default(),
    }
    .checked()
}

impl Config {
    fn sliding_window(&self) -> Option<SlidingWindow> {
        let (used, layers) = match self.model_type.as_str() {
            "mistral" | "mixtral" | "phi3" => (true, WindowedLayers::From(0)),
            "qwen2" | "qwen3" | "qwen3_moe" => (
                self.use_sliding_window.unwrap_or(false),
                WindowedLayers::From(self.max_window_layers.unwrap_or(0)),
            ),
            "gemma2" | "gemma3_text" => (
                true,
                WindowedLayers::AllButEvery(self.sliding_window_pattern.unwrap_or(0)),
            ),
            _ => (false, WindowedLayers::From(0)),
        };
        let layers = match &self.layer_types {
            Some(types) => SlidingWindow::layers_of_types(types, self.num_hidden_layers),
            None => layers,
        };
        SlidingWindow::new(self.sliding_window.filter(|_| used), layers)
    }

    /// `hidden_act` is wrong in old Gemma files.
    fn activation(&self) -> Option<String> {
        match self.model_type.as_str() {
            "gemma" | "gemma2" | "gemma3_text" => self.hidden_activation.clone(),
            _ => self.hidden_act.clone(),
        }
    }

    fn experts(&self) -> Option<Experts> {
        let expert_length = match self.model_type.as_str() {
            "mixtral" => None,
            "qwen3_moe" => self.moe_intermediate_size,
            _ => return None,
        };
        Some(Experts {
            count: self.num_local_experts.unwrap_or(0),
            used: self.num_experts_per_tok.unwrap_or(0),
            feed_forward_length: expert_length.unwrap_or(self.intermediate_size),
            normalized: self.norm_topk_prob.unwrap_or(false),
            every: self.decoder_sparse_step.unwrap_or(1),
            dense_layers: self.mlp_only_layers.clone().unwrap_or_default(),
        })
    }
}
