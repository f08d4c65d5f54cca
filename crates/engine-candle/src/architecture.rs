use diagnostics::{Code, Diagnostic, excerpt};
use model_format::{Biases, ModelHeader, WeightFormat};

use crate::tensor_names::TensorNames;

/// What tells one family of models from another, beyond what a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Its `model_type` in `config.json`.
    pub(crate) name: &'static str,
    /// Its files in GGUF; none where such files say that they are of another family.
    pub(crate) gguf: Option<GgufFiles>,
    /// The names of its tensors in safetensors files.
    pub(crate) names: TensorNames,
    /// What has a bias.
    pub(crate) biases: BiasRule,
    /// Each head of queries and keys is normalised before it is rotated.
    pub(crate) head_norms: bool,
    /// What comes out of attention and out of the feed-forward part is normalised as well.
    pub(crate) post_norms: bool,
    /// Safetensors files hold what the weights of norms exceed one by.
    pub(crate) norms_above_one: bool,
    /// Embeddings are multiplied with the square root of their width.
    pub(crate) scaled_embedding: bool,
    /// Queries, keys and values are one matrix in files, gate and up another.
    pub(crate) fused: bool,
    /// Headers may say that only the first numbers of a head are rotated.
    pub(crate) partly_rotated: bool,
    pub(crate) activation: Activation,
    /// Where there may be experts.
    pub(crate) experts: ExpertRule,
}

/// GGUF files of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GgufFiles {
    /// Their `general.architecture`.
    pub(crate) name: &'static str,
    /// How they have the rows of queries and keys.
    pub(crate) rows: RotaryRows,
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

/// What the gate of a feed-forward part goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// The Gaussian error linear unit in its approximation by a hyperbolic tangent.
    GeluTanh,
}

/// Whether a family has experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpertRule {
    Never,
    /// Where the header says so.
    Header,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    gguf: Some(GgufFiles {
        name: "llama",
        rows: RotaryRows::Pairs,
    }),
    names: TensorNames::HuggingFace,
    biases: BiasRule::Header,
    head_norms: false,
    post_norms: false,
    norms_above_one: false,
    scaled_embedding: false,
    fused: false,
    partly_rotated: false,
    activation: Activation::Silu,
    // GGUF files of Mixtral say that they are Llama.
    experts: ExpertRule::Header,
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    gguf: Some(GgufFiles::in_halves("qwen3")),
    head_norms: true,
    experts: ExpertRule::Never,
    ..LLAMA
};

const GEMMA: Architecture = Architecture {
    name: "gemma",
    gguf: Some(GgufFiles::in_halves("gemma")),
    norms_above_one: true,
    scaled_embedding: true,
    activation: Activation::GeluTanh,
    experts: ExpertRule::Never,
    ..LLAMA
};

const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    gguf: Some(GgufFiles::in_halves("gemma2")),
    names: TensorNames::PostNorms,
    post_norms: true,
    ..GEMMA
};

const SUPPORTED: &[Architecture] = &[
    LLAMA,
    // GGUF files of this family say that they are Llama.
    Architecture {
        name: "mistral",
        gguf: None,
        biases: BiasRule::Never,
        experts: ExpertRule::Never,
        ..LLAMA
    },
    Architecture {
        name: "mixtral",
        gguf: None,
        names: TensorNames::Mixtral,
        biases: BiasRule::Never,
        ..LLAMA
    },
    Architecture {
        name: "qwen2",
        gguf: Some(GgufFiles::in_halves("qwen2")),
        biases: BiasRule::QueryKeyValue,
        experts: ExpertRule::Never,
        ..LLAMA
    },
    QWEN3,
    Architecture {
        name: "qwen3_moe",
        gguf: Some(GgufFiles::in_halves("qwen3moe")),
        experts: ExpertRule::Header,
        ..QWEN3
    },
    GEMMA,
    GEMMA2,
    Architecture {
        name: "gemma3_text",
        gguf: Some(GgufFiles::in_halves("gemma3")),
        head_norms: true,
        ..GEMMA2
    },
    Architecture {
        name: "phi3",
        gguf: Some(GgufFiles::in_halves("phi3")),
        biases: BiasRule::Never,
        fused: true,
        partly_rotated: true,
        experts: ExpertRule::Never,
        ..LLAMA
    },
];

impl GgufFiles {
    const fn in_halves(name: &'static str) -> Self {
        Self {
            name,
            rows: RotaryRows::Halves,
        }
    }
}

impl Architecture {
    /// The family of that name in files of that format, or an `UNSUPPORTED_MODEL` that says
    /// what is supported.
    pub(crate) fn named(name: &str, format: WeightFormat) -> Result<Self, Diagnostic> {
        let named = |a: &Architecture| match format {
            WeightFormat::Gguf => a.gguf.map(|files| files.name),
            WeightFormat::Safetensors => Some(a.name),
        };
        let found = SUPPORTED.iter().find(|a| named(a) == Some(name));
        found.copied().ok_or_else(|| {
            let supported: Vec<_> = SUPPORTED.iter().filter_map(named).collect();
            unsupported(format!("architecture `{}`", excerpt(name, 40)))
                .hint(format!("supported architectures: {}", supported.join(", ")))
        })
    }

    /// Refuses a model of the family that the engine would compute wrongly.
    pub(crate) fn check(self, header: &ModelHeader) -> Result<(), Diagnostic> {
        if !header.causal {
            return Err(unsupported("attention to tokens that come later"));
        }
        if header.experts.is_some() && self.experts == ExpertRule::Never {
            return Err(unsupported(format!(
                "mixtures of experts of the architecture `{}`",
                self.name
            )));
        }
        if header.kv_heads == 0 || !header.heads.is_multiple_of(header.kv_heads) {
            return Err(unsupported(format!(
                "{} attention heads over {} key-value heads",
                header.heads, header.kv_heads
            )));
        }
        if header.rope_dimensions == 0 || !header.rope_dimensions.is_multiple_of(2) {
            return Err(unsupported(format!(
                "rotation of {} numbers of a head",
                header.rope_dimensions
            )));
        }
        let partly = header.rope_dimensions < header.head_dim && self.partly_rotated;
        if header.rope_dimensions != header.head_dim && !partly {
            return Err(unsupported(format!(
                "rotation of {} of {} numbers of a head",
                header.rope_dimensions, header.head_dim
            )));
        }
        match header.activation.as_deref() {
            Some(name) if !self.activation.is_named(name) => Err(unsupported(format!(
                "the activation `{}`",
                excerpt(name, 40)
            ))),
            _ => Ok(()),
        }
    }

    /// How files of that format have the rows of queries and keys.
    pub(crate) fn rows(self, format: WeightFormat) -> RotaryRows {
        match (format, self.gguf) {
            (WeightFormat::Gguf, Some(files)) => files.rows,
            _ => RotaryRows::Halves,
        }
    }

    /// The names of the tensors in files of that format.
    pub(crate) fn tensor_names(self, format: WeightFormat) -> TensorNames {
        match format {
            WeightFormat::Gguf => TensorNames::Gguf,
            WeightFormat::Safetensors => self.names,
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

    /// What is added to the weights of norms in files of that format.
    pub(crate) fn norm_offset(self, format: WeightFormat) -> f32 {
        if self.norms_above_one && format == WeightFormat::Safetensors {
            1.0
        } else {
            0.0
        }
    }
}

impl Activation {
    /// Whether a configuration means this one by that name.
    pub(crate) fn is_named(self, name: &str) -> bool {
        match self {
            Self::Silu => ["silu", "swish"].contains(&name),
            Self::GeluTanh => ["gelu_pytorch_tanh", "gelu_new"].contains(&name),
        }
    }
}

/// A model that this engine would compute wrongly.
pub(crate) fn unsupported(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a plain text model of the Llama, Mistral, Mixtral, Qwen, Gemma or Phi family")
}
