use clap::ValueEnum;

/// Model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM.
    Llama,
    /// Biases of queries, keys and values.
    Qwen2,
    /// Norms of query and key heads.
    Qwen3,
    /// Identical to Llama.
    Mistral,
    /// Norms after attention and feed-forward part; a sliding window in five of six layers.
    Gemma3,
    /// One matrix for queries, keys and values, and one for gate and up projection.
    Phi3,
    /// Llama with a mixture of experts.
    Mixtral,
    /// Qwen3 with a mixture of experts.
    #[value(name = "qwen3moe")]
    Qwen3Moe,
}

impl Architecture {
    /// `general.architecture` of a GGUF file, where Mistral and Mixtral are Llama models.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral | Self::Mixtral => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
            Self::Qwen3Moe => "qwen3moe",
        }
    }

    /// `model_type` of a `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Mistral => "mistral",
            Self::Gemma3 => "gemma3_text",
            Self::Phi3 => "phi3",
            Self::Mixtral => "mixtral",
            Self::Qwen3Moe => "qwen3_moe",
        }
    }

    /// Class in `architectures` of a `config.json`.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Mixtral => "MixtralForCausalLM",
            Self::Qwen3Moe => "Qwen3MoeForCausalLM",
        }
    }

    /// Whether GGUF files interleave the two halves of query and key heads, so that dimensions
    /// rotated together are adjacent.
    pub(crate) fn interleaves_heads_in_gguf(self) -> bool {
        self.gguf_name() == "llama"
    }

    /// Whether query and key heads are normalized.
    pub(crate) fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Qwen3Moe | Self::Gemma3)
    }

    /// Whether the feed-forward part is a mixture of experts.
    pub(crate) fn has_experts(self) -> bool {
        matches!(self, Self::Mixtral | Self::Qwen3Moe)
    }

    /// Whether llama.cpp requires the query heads together to be as wide as the hidden size.
    pub(crate) fn has_square_queries(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Phi3)
    }
}
