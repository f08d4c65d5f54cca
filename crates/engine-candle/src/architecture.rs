use cpu_kernels::Activation;
use diagnostics::{Diagnostic, excerpt};
use model_format::{Biases, ModelHeader, WeightFormat};

use crate::{errors, tensor_names::TensorNames};

/// Properties of a model family that headers do not specify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// `model_type` in `config.json`.
    pub(crate) name: &'static str,
    /// GGUF format; `None` if GGUF files of the family declare another architecture.
    pub(crate) gguf: Option<GgufFormat>,
    /// Tensor names in safetensors files.
    pub(crate) names: TensorNames,
    pub(crate) biases: BiasRule,
    /// True if each query and key head is normalized before rotation.
    pub(crate) head_norms: bool,
    /// True if the outputs of attention and of the feed-forward network are normalized.
    pub(crate) post_norms: bool,
    /// True if safetensors files store norm weights minus one.
    pub(crate) zero_centered_norms: bool,
    /// True if embeddings are multiplied by the square root of their width.
    pub(crate) scaled_embedding: bool,
    /// True if files fuse query, key and value matrices, and gate and up matrices.
    pub(crate) fused: bool,
    /// True if headers may limit rotation to the first elements of a head.
    pub(crate) partial_rotation: bool,
    pub(crate) activation: Activation,
    pub(crate) experts: ExpertRule,
}

/// Properties of the GGUF files of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GgufFormat {
    /// `general.architecture`.
    pub(crate) name: &'static str,
    /// Row order of query and key matrices.
    pub(crate) layout: RotaryLayout,
}

/// Order of the rows within a head that is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RotaryLayout {
    /// The two elements of a pair are adjacent.
    Interleaved,
    /// The second element of a pair is half a head after the first.
    Halves,
}

/// Which layers have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasRule {
    Never,
    /// As the header specifies.
    Header,
    QueryKeyValue,
}

/// Whether a family may have experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpertRule {
    Never,
    /// As the header specifies.
    Header,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    gguf: Some(GgufFormat {
        name: "llama",
        layout: RotaryLayout::Interleaved,
    }),
    names: TensorNames::HuggingFace,
    biases: BiasRule::Header,
    head_norms: false,
    post_norms: false,
    zero_centered_norms: false,
    scaled_embedding: false,
    fused: false,
    partial_rotation: false,
    activation: Activation::Silu,
    // GGUF files of Mixtral declare the architecture `llama`.
    experts: ExpertRule::Header,
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    gguf: Some(GgufFormat::with_halves("qwen3")),
    head_norms: true,
    experts: ExpertRule::Never,
    ..LLAMA
};

const GEMMA: Architecture = Architecture {
    name: "gemma",
    gguf: Some(GgufFormat::with_halves("gemma")),
    zero_centered_norms: true,
    scaled_embedding: true,
    activation: Activation::GeluTanh,
    experts: ExpertRule::Never,
    ..LLAMA
};

const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    gguf: Some(GgufFormat::with_halves("gemma2")),
    names: TensorNames::PostNorms,
    post_norms: true,
    ..GEMMA
};

const SUPPORTED: &[Architecture] = &[
    LLAMA,
    // GGUF files of Mistral declare the architecture `llama`.
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
        gguf: Some(GgufFormat::with_halves("qwen2")),
        biases: BiasRule::QueryKeyValue,
        experts: ExpertRule::Never,
        ..LLAMA
    },
    QWEN3,
    Architecture {
        name: "qwen3_moe",
        gguf: Some(GgufFormat::with_halves("qwen3moe")),
        experts: ExpertRule::Header,
        ..QWEN3
    },
    GEMMA,
    GEMMA2,
    Architecture {
        name: "gemma3_text",
        gguf: Some(GgufFormat::with_halves("gemma3")),
        head_norms: true,
        ..GEMMA2
    },
    Architecture {
        name: "phi3",
        gguf: Some(GgufFormat::with_halves("phi3")),
        biases: BiasRule::Never,
        fused: true,
        partial_rotation: true,
        experts: ExpertRule::Never,
        ..LLAMA
    },
];

impl GgufFormat {
    const fn with_halves(name: &'static str) -> Self {
        Self {
            name,
            layout: RotaryLayout::Halves,
        }
    }
}

impl Architecture {
    /// Returns the family with the given name in files of the given format.
    ///
    /// Errors: `UNSUPPORTED_MODEL` with the supported names as hint.
    pub(crate) fn named(name: &str, format: WeightFormat) -> Result<Self, Diagnostic> {
        let named = |a: &Architecture| match format {
            WeightFormat::Gguf => a.gguf.map(|files| files.name),
            WeightFormat::Safetensors => Some(a.name),
        };
        let found = SUPPORTED.iter().find(|a| named(a) == Some(name));
        found.copied().ok_or_else(|| {
            let supported: Vec<_> = SUPPORTED.iter().filter_map(named).collect();
            errors::unsupported(format!("architecture `{}`", excerpt(name, 40)))
                .hint(format!("supported architectures: {}", supported.join(", ")))
        })
    }

    /// Rejects models of the family that the engine would compute incorrectly.
    pub(crate) fn check(self, header: &ModelHeader) -> Result<(), Diagnostic> {
        if !header.causal {
            return Err(errors::unsupported("bidirectional attention"));
        }
        if header.experts.is_some() && self.experts == ExpertRule::Never {
            return Err(errors::unsupported(format!(
                "a mixture of experts in architecture `{}`",
                self.name
            )));
        }
        if header.kv_heads == 0 || !header.heads.is_multiple_of(header.kv_heads) {
            return Err(errors::unsupported(format!(
                "{} attention heads with {} key-value heads",
                header.heads, header.kv_heads
            )));
        }
        if header.rope_dimensions == 0 || !header.rope_dimensions.is_multiple_of(2) {
            return Err(errors::unsupported(format!(
                "rotary embedding of {} dimensions",
                header.rope_dimensions
            )));
        }
        let is_partial = header.rope_dimensions < header.head_dim && self.partial_rotation;
        if header.rope_dimensions != header.head_dim && !is_partial {
            return Err(errors::unsupported(format!(
                "rotary embedding of {} of {} dimensions",
                header.rope_dimensions, header.head_dim
            )));
        }
        match header.activation.as_deref() {
            Some(name) if !is_name_of(self.activation, name) => Err(errors::unsupported(format!(
                "the activation `{}`",
                excerpt(name, 40)
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the row order of query and key matrices in files of the given format.
    pub(crate) fn rotary_layout(self, format: WeightFormat) -> RotaryLayout {
        match (format, self.gguf) {
            (WeightFormat::Gguf, Some(gguf)) => gguf.layout,
            _ => RotaryLayout::Halves,
        }
    }

    /// Returns the tensor names in files of the given format.
    pub(crate) fn tensor_names(self, format: WeightFormat) -> TensorNames {
        match format {
            WeightFormat::Gguf => TensorNames::Gguf,
            WeightFormat::Safetensors => self.names,
        }
    }

    /// Returns which layers have a bias in a model with the given header value.
    pub(crate) fn biases(self, header: Biases) -> Biases {
        match self.biases {
            BiasRule::Never => Biases::default(),
            BiasRule::Header => header,
            BiasRule::QueryKeyValue => Biases {
                query_key_value: true,
                ..Biases::default()
            },
        }
    }

    /// Returns the value to add to norm weights from files of the given format.
    pub(crate) fn norm_offset(self, format: WeightFormat) -> f32 {
        if self.zero_centered_norms && format == WeightFormat::Safetensors {
            1.0
        } else {
            0.0
        }
    }
}

/// Returns true if configurations use `name` for the activation.
fn is_name_of(activation: Activation, name: &str) -> bool {
    match activation {
        Activation::Silu => ["silu", "swish"].contains(&name),
        Activation::GeluTanh => ["gelu_pytorch_tanh", "gelu_new"].contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use model_format::supported_architectures;

    use super::*;

    #[test]
    fn every_supported_architecture_is_known_before_a_download() {
        let gguf: Vec<_> = SUPPORTED
            .iter()
            .filter_map(|a| Some(a.gguf?.name))
            .collect();
        assert_eq!(supported_architectures(WeightFormat::Gguf), gguf);
        let safetensors: Vec<_> = SUPPORTED.iter().map(|a| a.name).collect();
        assert_eq!(
            supported_architectures(WeightFormat::Safetensors),
            safetensors
        );
    }
}
