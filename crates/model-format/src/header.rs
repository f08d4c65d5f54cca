use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic, escape};

use crate::{
    experts::Experts, gguf::Gguf, rope_scaling::RopeScaling, sliding_window::SlidingWindow,
};

/// In what a model's weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFormat {
    /// One GGUF file.
    Gguf,
    /// A folder with `config.json` and safetensors files.
    Safetensors,
}

/// Parts that have a bias beside their matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub query_key_value: bool,
    /// The result of attention.
    pub attention_output: bool,
    /// The feed-forward part.
    pub feed_forward: bool,
}

/// What a model is, from its header alone.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelHeader {
    /// In what the weights are stored.
    pub format: ModelFormat,
    /// The model's own name, foreign text.
    pub name: Option<String>,
    /// Family: `llama`, `qwen2`.
    pub architecture: String,
    /// Transformer blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Width inside the feed-forward part.
    pub feed_forward_length: u32,
    /// Token ids.
    pub vocab_size: u32,
    /// Longest sequence that the model was made for, in tokens.
    pub context_length: u32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Base in the layers with a sliding window where it is another one; their positions are
    /// not stretched then.
    pub rope_local_theta: Option<f32>,
    /// Numbers of a head that are rotated.
    pub rope_dimensions: u32,
    /// How positions are stretched.
    pub rope_scaling: RopeScaling,
    /// How far attention looks back, when not over everything.
    pub sliding_window: Option<SlidingWindow>,
    /// A token sees none that come after it.
    pub causal: bool,
    /// What scores of attention are multiplied with, when not 1 / sqrt(`head_dim`).
    pub attention_scale: Option<f32>,
    /// Bound `c` that scores `s` of attention are kept within: `c * tanh(s / c)`.
    pub attention_softcap: Option<f32>,
    /// The same for the logits.
    pub logit_softcap: Option<f32>,
    /// Experts in place of the feed-forward part.
    pub experts: Option<Experts>,
    /// What has a bias. Some families have one whatever their files say.
    pub biases: Biases,
    /// The feed-forward part's activation, when the file names it: `silu`.
    pub activation: Option<String>,
    /// Epsilon of the RMS norm, when the family has one.
    pub rms_epsilon: Option<f32>,
    /// The output matrix is the embedding.
    pub tied_embeddings: bool,
    /// Weight type: `F16`, `Q8_0`, `Q4_K_M`.
    pub quantization: String,
    /// Weights, counted.
    pub parameters: u64,
    /// Bytes of the weights in the file.
    pub weight_bytes: u64,
}

impl ModelHeader {
    /// What a GGUF file says about itself.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, Diagnostic> {
        let architecture = gguf.architecture()?;
        let number = |name: &str| -> Result<Option<u32>, Diagnostic> {
            gguf.u32(&format!("{architecture}.{name}"))
        };
        let required = |name: &str| -> Result<u32, Diagnostic> {
            gguf.required(&format!("{architecture}.{name}"), number(name)?)
        };
        let float = |name: &str| gguf.f32(&format!("{architecture}.{name}"));

        let has = |name: &str| gguf.tensors().contains_key(name);

        let heads = required("attention.head_count")?;
        let embedding_length = required("embedding_length")?;
        let head_dim = match number("attention.key_length")? {
            Some(length) => length,
            None => embedding_length.checked_div(heads).unwrap_or(0),
        };
        let vocab_size = match (
            number("vocab_size")?,
            gguf.tensors().get("token_embd.weight"),
        ) {
            (_, Some(embedding)) => u32::try_from(embedding.shape[0]).unwrap_or(u32::MAX),
            (Some(size), None) => size,
            (None, None) => gguf
                .array("tokenizer.ggml.tokens")?
                .map_or(0, |tokens| tokens.len() as u32),
        };
        let (layers, feed_forward_length) =
            (required("block_count")?, required("feed_forward_length")?);
        let gemma = Gemma::named(architecture);
        let softcap = |name: &str, otherwise: Option<f32>| {
            Ok::<_, Diagnostic>(float(name)?.or(otherwise).filter(|cap| *cap != 0.0))
        };
        let context_length = required("context_length")?;
        let rope_scaling = RopeScaling::from_gguf(gguf, architecture, context_length)?;
        let mut weights_by_type = BTreeMap::<&str, u64>::new();
        let (mut parameters, mut weight_bytes) = (0_u64, 0_u64);
        for tensor in gguf.tensors().values() {
            parameters = parameters.saturating_add(tensor.elements());
            weight_bytes = weight_bytes.saturating_add(tensor.bytes);
            *weights_by_type.entry(tensor.kind.name()).or_default() += tensor.bytes;
        }
        let quantization = match gguf.u32("general.file_type")?.and_then(file_type_name) {
            Some(name) => name.to_owned(),
            None => most(&weights_by_type),
        };
        Self {
            format: ModelFormat::Gguf,
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
            sliding_window: SlidingWindow::from_gguf(gguf, architecture, layers)?,
            causal: gguf
                .bool(&format!("{architecture}.attention.causal"))?
                .unwrap_or(true),
            attention_scale: gemma
                .filter(|gemma| gemma.scales_by_hidden(layers))
                .map(|_| 1.0 / (embedding_length as f32 / heads as f32).sqrt()),
            attention_softcap: softcap(
                "attn_logit_softcapping",
                gemma.and_then(Gemma::attention_softcap),
            )?,
            logit_softcap: softcap(
                "final_logit_softcapping",
                gemma.and_then(Gemma::logit_softcap),
            )?,
            experts: Experts::from_gguf(gguf, architecture, feed_forward_length)?,
            biases: Biases {
                query_key_value: has("blk.0.attn_q.bias"),
                attention_output: has("blk.0.attn_output.bias"),
                feed_forward: has("blk.0.ffn_gate.bias"),
            },
            activation: None,
            rms_epsilon: float("attention.layer_norm_rms_epsilon")?,
            tied_embeddings: !has("output.weight"),
            quantization,
            parameters,
            weight_bytes,
        }
        .checked()
    }

    /// Refuses sizes that no model has, so that later arithmetic on them cannot overflow.
    pub(crate) fn checked(self) -> Result<Self, Diagnostic> {
        let limits = [
            ("layers", self.layers, 1 << 12),
            ("attention heads", self.heads, 1 << 14),
            ("key-value heads", self.kv_heads, 1 << 14),
            ("numbers in a head", self.head_dim, 1 << 14),
            ("embedding length", self.embedding_length, 1 << 20),
            ("feed-forward length", self.feed_forward_length, 1 << 24),
            ("vocabulary size", self.vocab_size, 1 << 24),
            ("context length", self.context_length, 1 << 28),
        ];
        for (what, found, limit) in limits {
            if found == 0 || found > limit {
                return Err(self.faulty(&format!("{what}: {found}, expected 1 to {limit}")));
            }
        }
        let positive = [
            ("scale of attention", self.attention_scale),
            ("soft cap of attention", self.attention_softcap),
            ("soft cap of the logits", self.logit_softcap),
        ];
        for (what, value) in positive {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(self.faulty(&format!("{what}: {value}, expected more than 0")));
            }
        }
        match self.experts.as_ref().and_then(Experts::fault) {
            Some(fault) => Err(self.faulty(&fault)),
            None => Ok(self),
        }
    }

    fn faulty(&self, fault: &str) -> Diagnostic {
        Diagnostic::new(
            Code::InvalidModelFile,
            format!(
                "the header of this {} model says {fault}",
                escape(&self.architecture)
            ),
        )
        .hint("the file is damaged or was made by a faulty converter")
    }
}

/// What GGUF files of Gemma do not say about themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gemma {
    Two,
    Three,
}

impl Gemma {
    fn named(architecture: &str) -> Option<Self> {
        match architecture {
            "gemma2" => Some(Self::Two),
            "gemma3" => Some(Self::Three),
            _ => None,
        }
    }

    /// The largest of each generation, which only its number of layers tells, scales its
    /// scores by the hidden width that a head has a share in, all others by the head's own.
    fn scales_by_hidden(self, layers: u32) -> bool {
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

/// The type that takes the most bytes.
pub(crate) fn most(bytes_by_type: &BTreeMap<&str, u64>) -> String {
    bytes_by_type
        .iter()
        .max_by_key(|(_, bytes)| **bytes)
        .map_or("none", |(name, _)| name)
        .to_owned()
}

/// Name of the mixture of types in `general.file_type`.
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
