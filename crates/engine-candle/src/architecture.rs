use diagnostics::{Code, Diagnostic, excerpt};
use model_format::ModelFormat;

/// What tells one family of models from another, beyond sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Its name in GGUF (`general.architecture`) and in `config.json` (`model_type`).
    pub(crate) name: &'static str,
    /// GGUF files have the rows of query and key in pairs, for rotation of neighbours.
    pub(crate) gguf_rotary_pairs: bool,
}

const SUPPORTED: &[Architecture] = &[Architecture {
    name: "llama",
    gguf_rotary_pairs: true,
}];

impl Architecture {
    /// The family of that name, or an `UNSUPPORTED_MODEL` that says what is supported.
    pub(crate) fn named(name: &str) -> Result<Self, Diagnostic> {
        SUPPORTED
            .iter()
            .find(|a| a.name == name)
            .copied()
            .ok_or_else(|| {
                let names: Vec<_> = SUPPORTED.iter().map(|a| a.name).collect();
                unsupported(format!("architecture `{}`", excerpt(name, 40)))
                    .hint(format!("supported architectures: {}", names.join(", ")))
            })
    }
}

/// A model that this engine would compute wrongly.
pub(crate) fn unsupported(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a plain Llama model (Llama 1 to 3, SmolLM, TinyLlama)")
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
    Key,
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
        match (self, format) {
            (Self::Embedding, ModelFormat::Gguf) => "token_embd.weight".to_owned(),
            (Self::FinalNorm, ModelFormat::Gguf) => "output_norm.weight".to_owned(),
            (Self::Output, ModelFormat::Gguf) => "output.weight".to_owned(),
            (Self::Embedding, ModelFormat::Safetensors) => "model.embed_tokens.weight".to_owned(),
            (Self::FinalNorm, ModelFormat::Safetensors) => "model.norm.weight".to_owned(),
            (Self::Output, ModelFormat::Safetensors) => "lm_head.weight".to_owned(),
            (Self::Layer(layer, part), ModelFormat::Gguf) => {
                let name = match part {
                    LayerPart::AttentionNorm => "attn_norm",
                    LayerPart::Query => "attn_q",
                    LayerPart::Key => "attn_k",
                    LayerPart::Value => "attn_v",
                    LayerPart::AttentionOutput => "attn_output",
                    LayerPart::FeedForwardNorm => "ffn_norm",
                    LayerPart::Gate => "ffn_gate",
                    LayerPart::Up => "ffn_up",
                    LayerPart::Down => "ffn_down",
                };
                format!("blk.{layer}.{name}.weight")
            }
            (Self::Layer(layer, part), ModelFormat::Safetensors) => {
                let name = match part {
                    LayerPart::AttentionNorm => "input_layernorm",
                    LayerPart::Query => "self_attn.q_proj",
                    LayerPart::Key => "self_attn.k_proj",
                    LayerPart::Value => "self_attn.v_proj",
                    LayerPart::AttentionOutput => "self_attn.o_proj",
                    LayerPart::FeedForwardNorm => "post_attention_layernorm",
                    LayerPart::Gate => "mlp.gate_proj",
                    LayerPart::Up => "mlp.up_proj",
                    LayerPart::Down => "mlp.down_proj",
                };
                format!("model.layers.{layer}.{name}.weight")
            }
        }
    }
}
