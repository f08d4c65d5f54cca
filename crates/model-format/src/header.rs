use std::collections::{BTreeMap, BTreeSet};

use diagnostics::Diagnostic;

use crate::{
    architectures::{WeightFormat, supported_architectures},
    errors,
    experts::Experts,
    gguf::Gguf,
    recommended::RecommendedSampling,
    rope_scaling::RopeScaling,
    sliding_window::SlidingWindow,
};

/// Projections that have a bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub query_key_value: bool,
    /// Output projection of attention.
    pub attention_output: bool,
    /// Projections of the feed-forward part.
    pub feed_forward: bool,
}

/// Architecture and sizes of a model, read from its header. Of an architecture that the built-in
/// engine does not support, numbers that the header does not have in the usual form are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelHeader {
    /// File format of the weights.
    pub format: WeightFormat,
    /// Name declared by the file; untrusted text.
    pub name: Option<String>,
    /// Model family: `llama`, `qwen2`.
    pub architecture: String,
    /// Number of transformer blocks.
    pub layers: u32,
    /// Number of query heads.
    pub heads: u32,
    /// Number of key-value heads.
    pub kv_heads: u32,
    /// Dimensions of a head.
    pub head_dim: u32,
    /// Hidden size: dimensions of the residual stream.
    pub embedding_length: u32,
    /// Intermediate size of the feed-forward part.
    pub feed_forward_length: u32,
    /// Number of token ids.
    pub vocab_size: u32,
    /// Maximum sequence length in tokens.
    pub context_length: u32,
    /// Base of the rotary frequencies (RoPE theta).
    pub rope_theta: f32,
    /// Base of the rotary frequencies in layers with a sliding window, if different; positions
    /// in these layers are not scaled.
    pub rope_local_theta: Option<f32>,
    /// Dimensions of a head that are rotated.
    pub rope_dimensions: u32,
    /// Scaling of rotary positions.
    pub rope_scaling: RopeScaling,
    /// Sliding-window attention, if any.
    pub sliding_window: Option<SlidingWindow>,
    /// Whether attention is causal.
    pub causal: bool,
    /// Scale of attention scores, if not 1 / sqrt(`head_dim`).
    pub attention_scale: Option<f32>,
    /// Soft cap `c` of attention scores `s`: `c * tanh(s / c)`.
    pub attention_softcap: Option<f32>,
    /// Soft cap of the logits.
    pub logit_softcap: Option<f32>,
    /// Mixture of experts in place of a dense feed-forward part.
    pub experts: Option<Experts>,
    /// Projections with a bias. Some families have biases that their files do not declare.
    pub biases: Biases,
    /// Activation of the feed-forward part, if the file declares it: `silu`.
    pub activation: Option<String>,
    /// Epsilon of the RMS norm, if declared.
    pub rms_epsilon: Option<f32>,
    /// Whether the embedding is also the output matrix.
    pub tied_embeddings: bool,
    /// Quantization: `F16`, `Q8_0`, `Q4_K_M`.
    pub quantization: String,
    /// Names of the types of the tensors.
    pub tensor_types: BTreeSet<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the weights in bytes.
    pub weight_bytes: u64,
    /// Sampling parameters that the model recommends.
    pub sampling: RecommendedSampling,
}

impl ModelHeader {
    /// Reads the header of a GGUF file.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, Diagnostic> {
        let architecture = gguf.architecture()?;
        let is_known = supported_architectures(WeightFormat::Gguf).contains(&architecture);
        let number = |name: &str| or_none(gguf.u32(&format!("{architecture}.{name}")), is_known);
        let required = |name: &str| -> Result<u32, Diagnostic> {
            match number(name)? {
                None if !is_known => Ok(0),
                value => gguf.required(&format!("{architecture}.{name}"), value),
            }
        };
        let float = |name: &str| or_none(gguf.f32(&format!("{architecture}.{name}")), is_known);

        let has = |name: &str| gguf.shape(name).is_some();

        let heads = required("attention.head_count")?;
        let embedding_length = required("embedding_length")?;
        let head_dim = match number("attention.key_length")? {
            Some(length) => length,
            None => embedding_length.checked_div(heads).unwrap_or(0),
        };
        let vocab_size = match (number("vocab_size")?, gguf.shape("token_embd.weight")) {
            (_, Some(shape)) => u32::try_from(shape[0]).unwrap_or(u32::MAX),
            (Some(size), None) => size,
            (None, None) => gguf
                .array("tokenizer.ggml.tokens")?
                .map_or(0, |tokens| tokens.len() as u32),
        };
        let (layers, feed_forward_length) =
            (required("block_count")?, required("feed_forward_length")?);
        let gemma = Gemma::from_architecture(architecture);
        let softcap = |name: &str, default: Option<f32>| {
            Ok::<_, Diagnostic>(float(name)?.or(default).filter(|cap| *cap != 0.0))
        };
        let context_length = required("context_length")?;
        let rope_scaling = if is_known {
            RopeScaling::from_gguf(gguf, architecture, context_length)?
        } else {
            RopeScaling::None
        };
        let mut weights_by_type = BTreeMap::<&str, u64>::new();
        let (mut parameters, mut weight_bytes) = (0_u64, 0_u64);
        for (shape, kind, bytes) in gguf.sizes() {
            let elements = shape.iter().product::<u64>();
            parameters = parameters.saturating_add(elements);
            weight_bytes = weight_bytes.saturating_add(bytes);
            *weights_by_type.entry(kind).or_default() += bytes;
        }
        let quantization = match gguf.u32("general.file_type")?.and_then(file_type_name) {
            Some(name) => name.to_owned(),
            None => dominant_type(&weights_by_type),
        };
        Self {
            format: WeightFormat::Gguf,
            name: gguf.string("general.name")?.map(str::to_owned),
            architecture: architecture.to_owned(),
            layers,
            heads,
            kv_heads: number("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            embedding_length,
            feed_forward_length,
            vocab_size,
            context_length: rope_scaling.context_length(context_length),
            rope_theta: float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_local_theta: match gemma {
                Some(Gemma::Three) => Some(float("rope.freq_base_swa")?.unwrap_or(10_000.0)),
                _ => None,
            },
            rope_dimensions: number("rope.dimension_count")?.unwrap_or(head_dim),
            rope_scaling,
            sliding_window: if is_known {
                SlidingWindow::from_gguf(gguf, architecture, layers)?
            } else {
                None
            },
            causal: or_none(
                gguf.bool(&format!("{architecture}.attention.causal")),
                is_known,
            )?
            .unwrap_or(true),
            attention_scale: gemma
                .filter(|gemma| gemma.scales_by_hidden_size(layers))
                .map(|_| 1.0 / (embedding_length as f32 / heads as f32).sqrt()),
            attention_softcap: softcap(
                "attn_logit_softcapping",
                gemma.and_then(Gemma::attention_softcap),
            )?,
            logit_softcap: softcap(
                "final_logit_softcapping",
                gemma.and_then(Gemma::logit_softcap),
            )?,
            experts: if is_known {
                Experts::from_gguf(gguf, architecture, feed_forward_length)?
            } else {
                None
            },
            biases: Biases {
                query_key_value: has("blk.0.attn_q.bias"),
                attention_output: has("blk.0.attn_output.bias"),
                feed_forward: has("blk.0.ffn_gate.bias"),
            },
            activation: None,
            rms_epsilon: float("attention.layer_norm_rms_epsilon")?,
            tied_embeddings: !has("output.weight"),
            quantization,
            tensor_types: weights_by_type.into_keys().map(str::to_owned).collect(),
            parameters,
            weight_bytes,
            sampling: RecommendedSampling::from_gguf(gguf),
        }
        .checked()
    }

    /// Rejects implausible sizes, so that arithmetic on sizes cannot overflow.
    pub(crate) fn checked(self) -> Result<Self, Diagnostic> {
        let limits = [
            ("layers", self.layers, 1 << 12),
            ("attention heads", self.heads, 1 << 14),
            ("key-value heads", self.kv_heads, 1 << 14),
            ("head dimensions", self.head_dim, 1 << 14),
            ("embedding length", self.embedding_length, 1 << 20),
            ("feed-forward length", self.feed_forward_length, 1 << 24),
            ("vocabulary size", self.vocab_size, 1 << 24),
            ("context length", self.context_length, 1 << 28),
        ];
        let is_known = supported_architectures(self.format).contains(&self.architecture.as_str());
        let check = |(field, value, limit): (&str, u32, u32)| {
            if (u32::from(is_known)..=limit).contains(&value) {
                return Ok(());
            }
            let expected = format!("1 to {limit}");
            Err(errors::invalid_header(
                &self.architecture,
                field,
                value,
                expected,
            ))
        };
        limits.into_iter().try_for_each(check)?;
        let positive = [
            ("attention scale", self.attention_scale),
            ("attention soft cap", self.attention_softcap),
            ("logit soft cap", self.logit_softcap),
        ];
        for (field, value) in positive {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(errors::invalid_header(
                    &self.architecture,
                    field,
                    value,
                    "a positive number",
                ));
            }
        }
        let expert_limits = self.experts.iter().flat_map(Experts::limits);
        expert_limits.into_iter().try_for_each(check)?;
        Ok(self)
    }
}

/// The value of a key. Of an architecture that is not known, the key may have another form.
fn or_none<T>(
    value: Result<Option<T>, Diagnostic>,
    is_known: bool,
) -> Result<Option<T>, Diagnostic> {
    match value {
        Err(_) if !is_known => Ok(None),
        value => value,
    }
}

/// Properties of Gemma models that their GGUF files omit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gemma {
    Two,
    Three,
}

impl Gemma {
    fn from_architecture(architecture: &str) -> Option<Self> {
        match architecture {
            "gemma2" => Some(Self::Two),
            "gemma3" => Some(Self::Three),
            _ => None,
        }
    }

    /// Whether attention scores are scaled by the hidden size per head instead of by the head
    /// dimensions. This holds for the largest model of each generation, which only its number of
    /// layers identifies.
    fn scales_by_hidden_size(self, layers: u32) -> bool {
        match self {
            Self::Two => layers == 46,
            Self::Three => layers == 62,
        }
    }

    fn attention_softcap(self) -> Option<f32> {
        (self == Self::Two).then_some(50.0)
    }

    fn logit_softcap(self) -> Option<f32> {
        (self == Self::Two).then_some(30.0)
    }
}

/// Returns the name of the type that takes the most bytes.
pub(crate) fn dominant_type(bytes_by_type: &BTreeMap<&str, u64>) -> String {
    bytes_by_type
        .iter()
        .max_by_key(|(_, bytes)| **bytes)
        .map_or("none", |(name, _)| name)
        .to_owned()
}

/// Returns the name of a quantization in `general.file_type`.
fn file_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        21 => "Q2_K_S",
        32 => "BF16",
        _ => return None,
    })
}
