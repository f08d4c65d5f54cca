/// The role of a weight in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    FinalNorm,
    Output,
    Layer(u32, LayerPart),
}

/// The role of a weight in a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPart {
    AttentionNorm,
    Query,
    QueryNorm,
    Key,
    KeyNorm,
    Value,
    /// Query, key and value, stacked by rows.
    QueryKeyValue,
    AttentionOutput,
    AttentionPostNorm,
    FeedForwardNorm,
    Gate,
    Up,
    /// Gate and up, stacked by rows.
    GateUp,
    Down,
    FeedForwardPostNorm,
    Router,
    /// A matrix of the expert with the given index.
    Expert(u32, ExpertPart),
    /// A matrix of all experts, `[experts, rows, columns]`.
    AllExperts(ExpertPart),
}

/// The role of a matrix in an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpertPart {
    Gate,
    Up,
    Down,
}

impl ExpertPart {
    pub(crate) const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];
}

/// The naming scheme of tensors in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorNames {
    Gguf,
    /// The scheme of most Hugging Face families.
    HuggingFace,
    /// [`TensorNames::HuggingFace`] for families with norms after attention and feed-forward.
    PostNorms,
    /// [`TensorNames::HuggingFace`] with Mixtral's names for experts.
    Mixtral,
}

impl Part {
    /// Returns the name of the weight tensor.
    pub(crate) fn tensor_name(self, names: TensorNames) -> String {
        format!("{}.weight", self.stem(names))
    }

    /// Returns the name of the bias tensor.
    pub(crate) fn bias_name(self, names: TensorNames) -> String {
        format!("{}.bias", self.stem(names))
    }

    fn stem(self, names: TensorNames) -> String {
        let gguf = names == TensorNames::Gguf;
        let name = match self {
            Self::Embedding if gguf => "token_embd",
            Self::FinalNorm if gguf => "output_norm",
            Self::Output if gguf => "output",
            Self::Embedding => "model.embed_tokens",
            Self::FinalNorm => "model.norm",
            Self::Output => "lm_head",
            Self::Layer(layer, part) if gguf => {
                return format!("blk.{layer}.{}", part.in_gguf());
            }
            Self::Layer(layer, part) => {
                return format!("model.layers.{layer}.{}", part.in_safetensors(names));
            }
        };
        name.to_owned()
    }
}

impl LayerPart {
    fn in_gguf(self) -> String {
        let name = match self {
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::QueryNorm => "attn_q_norm",
            Self::Key => "attn_k",
            Self::KeyNorm => "attn_k_norm",
            Self::Value => "attn_v",
            Self::QueryKeyValue => "attn_qkv",
            Self::AttentionOutput => "attn_output",
            Self::AttentionPostNorm => "post_attention_norm",
            Self::FeedForwardNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up | Self::GateUp => "ffn_up",
            Self::Down => "ffn_down",
            Self::FeedForwardPostNorm => "post_ffw_norm",
            Self::Router => "ffn_gate_inp",
            Self::Expert(index, part) => return format!("{}.{index}", part.in_gguf()),
            Self::AllExperts(part) => return format!("{}_exps", part.in_gguf()),
        };
        name.to_owned()
    }

    fn in_safetensors(self, names: TensorNames) -> String {
        let name = match self {
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::QueryNorm => "self_attn.q_norm",
            Self::Key => "self_attn.k_proj",
            Self::KeyNorm => "self_attn.k_norm",
            Self::Value => "self_attn.v_proj",
            Self::QueryKeyValue => "self_attn.qkv_proj",
            Self::AttentionOutput => "self_attn.o_proj",
            Self::FeedForwardNorm if names == TensorNames::PostNorms => "pre_feedforward_layernorm",
            Self::AttentionPostNorm | Self::FeedForwardNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::GateUp => "mlp.gate_up_proj",
            Self::Down => "mlp.down_proj",
            Self::FeedForwardPostNorm => "post_feedforward_layernorm",
            Self::Router if names == TensorNames::Mixtral => "block_sparse_moe.gate",
            Self::Router => "mlp.gate",
            Self::Expert(index, part) if names == TensorNames::Mixtral => {
                return format!("block_sparse_moe.experts.{index}.{}", part.in_mixtral());
            }
            Self::Expert(index, part) => {
                return format!("mlp.experts.{index}.{}", part.in_safetensors());
            }
            Self::AllExperts(part) => return format!("mlp.experts.{}", part.in_safetensors()),
        };
        name.to_owned()
    }
}

impl ExpertPart {
    fn in_gguf(self) -> &'static str {
        match self {
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    fn in_safetensors(self) -> &'static str {
        match self {
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    fn in_mixtral(self) -> &'static str {
        match self {
            Self::Gate => "w1",
            Self::Up => "w3",
            Self::Down => "w2",
        }
    }
}
