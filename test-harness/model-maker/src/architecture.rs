use clap::ValueEnum;

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM.
    Llama,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms on each head of queries and keys.
    Qwen3,
    /// Llama under another name.
    Mistral,
    /// Norms behind attention and feed-forward part, a window in five of six layers.
    Gemma3,
    /// One matrix for queries, keys and values, one for gate and up.
    Phi3,
    /// Llama with experts.
    Mixtral,
    /// Qwen3 with experts.
    #[value(name = "qwen3moe")]
    Qwen3Moe,
}

impl Architecture {
    /// `general.architecture`. GGUF has no family of Mistral's and Mixtral's.
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

    /// The class in `architectures` of a `config.json`.
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

    /// GGUF has the two numbers of a head that turn together as neighbours.
    pub(crate) fn pairs_in_gguf(self) -> bool {
        self.gguf_name() == "llama"
    }

    /// Each head of queries and keys has a norm.
    pub(crate) fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Qwen3Moe | Self::Gemma3)
    }

    /// The feed-forward part is several, of which each token uses some.
    pub(crate) fn has_experts(self) -> bool {
        matches!(self, Self::Mixtral | Self::Qwen3Moe)
    }

    /// The heads together are as wide as the residual stream, in llama.cpp at least.
    pub(crate) fn has_square_queries(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Phi3)
    }
}
