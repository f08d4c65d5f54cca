use diagnostics::{Code, Diagnostic, excerpt};
use model_format::{Biases, ModelFormat};

/// What tells one family of models from another, beyond what a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Its `model_type` in `config.json`, and `general.architecture` in GGUF.
    pub(crate) name: &'static str,
    /// How GGUF files have the rows of queries and keys; none where GGUF has no such family.
    pub(crate) gguf_rows: Option<RotaryRows>,
    /// What has a bias.
    pub(crate) biases: BiasRule,
    /// Each head of queries and keys is normalised before it is rotated.
    pub(crate) head_norms: bool,
}

/// Order of the rows of a head that is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RotaryRows {
    /// The two numbers that turn together are neighbours.
    Pairs,
    /// The second of each pair is half a head behind the first.
    Halves,
}

/// Who says what has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasRule {
    /// The family has none.
    Never,
    /// The header.
    Header,
    /// The family: queries, keys and values have one.
    QueryKeyValue,
}

const SUPPORTED: &[Architecture] = &[
    Architecture {
        name: "llama",
        gguf_rows: Some(RotaryRows::Pairs),
        biases: BiasRule::Header,
        head_norms: false,
    },
    // GGUF files of this family say that they are Llama.
    Architecture {
        name: "mistral",
        gguf_rows: None,
        biases: BiasRule::Never,
        head_norms: false,
    },
    Architecture {
        name: "qwen2",
        gguf_rows: Some(RotaryRows::Halves),
        biases: BiasRule::QueryKeyValue,
        head_norms: false,
    },
    Architecture {
        name: "qwen3",
        gguf_rows: Some(RotaryRows::Halves),
        biases: BiasRule::Header,
        head_norms: true,
    },
];

impl Architecture {
    /// The family of that name in files of that format, or an `UNSUPPORTED_MODEL` that says
    /// what is supported.
    pub(crate) fn named(name: &str, format: ModelFormat) -> Result<Self, Diagnostic> {
        let known = |a: &&Self| format == ModelFormat::Safetensors || a.gguf_rows.is_some();
        let mut found = SUPPORTED.iter().filter(known);
        found.find(|a| a.name == name).copied().ok_or_else(|| {
            unsupported(format!("architecture `{}`", excerpt(name, 40))).hint(format!(
                "supported architectures: {}",
                SUPPORTED
                    .iter()
                    .filter(known)
                    .map(|a| a.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })
    }

    /// How files of that format have the rows of queries and keys.
    pub(crate) fn rows(self, format: ModelFormat) -> RotaryRows {
        match format {
            ModelFormat::Gguf => self.gguf_rows.unwrap_or(RotaryRows::Halves),
            ModelFormat::Safetensors => RotaryRows::Halves,
        }
    }

    /// What has a bias in a model whose header says `stated`.
    pub(crate) fn biases(self, stated: Biases) -> Biases {
        match self.biases {
            BiasRule::Never => Biases::default(),
            BiasRule::Header => stated,
            BiasRule::QueryKeyValue => Biases {
                query_key_value: true,
                ..Biases::default()
            },
        }
    }
}

/// A model that this engine would compute wrongly.
pub(crate) fn unsupported(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a plain text model of the Llama, Mistral, Qwen2 or Qwen3 family")
}

/// A weight by its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    FinalNorm,
    Output,
    Layer(u32, LayerPart),
}

/// A weight of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPart {
    AttentionNorm,
    Query,
    QueryNorm,
    Key,
    KeyNorm,
    Value,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
}

impl Part {
    /// The name of its tensor in a file.
    pub(crate) fn tensor_name(self, format: ModelFormat) -> String {
        format!("{}.weight", self.stem(format))
    }

    /// The name of the bias beside it.
    pub(crate) fn bias_name(self, format: ModelFormat) -> String {
        format!("{}.bias", self.stem(format))
    }

    fn stem(self, format: ModelFormat) -> String {
        let name = match (self, format) {
            (Self::Embedding, ModelFormat::Gguf) => "token_embd",
            (Self::FinalNorm, ModelFormat::Gguf) => "output_norm",
            (Self::Output, ModelFormat::Gguf) => "output",
            (Self::Embedding, ModelFormat::Safetensors) => "model.embed_tokens",
            (Self::FinalNorm, ModelFormat::Safetensors) => "model.norm",
            (Self::Output, ModelFormat::Safetensors) => "lm_head",
            (Self::Layer(layer, part), ModelFormat::Gguf) => {
                return format!("blk.{layer}.{}", part.gguf_name());
            }
            (Self::Layer(layer, part), ModelFormat::Safetensors) => {
                return format!("model.layers.{layer}.{}", part.safetensors_name());
            }
        };
        name.to_owned()
    }
}

impl LayerPart {
    fn gguf_name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::QueryNorm => "attn_q_norm",
            Self::Key => "attn_k",
            Self::KeyNorm => "attn_k_norm",
            Self::Value => "attn_v",
            Self::AttentionOutput => "attn_output",
            Self::FeedForwardNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::QueryNorm => "self_attn.q_norm",
            Self::Key => "self_attn.k_proj",
            Self::KeyNorm => "self_attn.k_norm",
            Self::Value => "self_attn.v_proj",
            Self::AttentionOutput => "self_attn.o_proj",
            Self::FeedForwardNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}
