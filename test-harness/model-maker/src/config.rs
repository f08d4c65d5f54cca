use serde_json::{Map, Value, json};

use crate::{
    architecture::Architecture,
    recipe::Recipe,
    tokenizer::{BEGIN, END},
    weights::{LLAMA3_CONTEXT, LLAMA3_HIGH, LLAMA3_LOW},
};

impl Recipe {
    pub(crate) fn config_json(&self) -> Value {
        let sizes = &self.sizes;
        let mut config = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": sizes.vocabulary,
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.inner,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "head_dim": sizes.head_dim,
            "max_position_embeddings": sizes.context,
            "rms_norm_eps": widen(sizes.epsilon),
            "rope_theta": sizes.rope_theta,
            "rope_scaling": self.rope_scaling(),
            "hidden_act": "silu",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "tie_word_embeddings": sizes.tied,
            "bos_token_id": BEGIN,
            "eos_token_id": END,
            "torch_dtype": match self.quantization.name() {
                "F16" => "float16",
                "BF16" => "bfloat16",
                _ => "float32",
            },
        });
        if let (Some(config), Value::Object(family)) = (config.as_object_mut(), self.family_keys())
        {
            config.extend(family);
        }
        config
    }

    fn rope_scaling(&self) -> Value {
        self.sizes.llama3_factor.map_or(Value::Null, |factor| {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": LLAMA3_LOW,
                "high_freq_factor": LLAMA3_HIGH, "original_max_position_embeddings": LLAMA3_CONTEXT,
            })
        })
    }

    /// Keys of the family.
    fn family_keys(&self) -> Value {
        let (sizes, experts) = (&self.sizes, self.sizes.experts);
        match self.architecture {
            Architecture::Llama => json!({"mlp_bias": false, "pretraining_tp": 1}),
            Architecture::Mistral => json!({"sliding_window": null}),
            Architecture::Qwen2 | Architecture::Qwen3 => json!({
                "use_sliding_window": false, "sliding_window": null,
                "max_window_layers": sizes.layers,
            }),
            Architecture::Gemma3 => {
                let kinds: Vec<&str> = (1..=sizes.layers)
                    .map(|layer| match layer % 6 {
                        0 => "full_attention",
                        _ => "sliding_attention",
                    })
                    .collect();
                json!({
                    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
                    "query_pre_attn_scalar": sizes.head_dim, "rope_local_base_freq": 10_000.0,
                    "sliding_window": sizes.window, "sliding_window_pattern": 6,
                    "layer_types": kinds,
                    "attn_logit_softcapping": null, "final_logit_softcapping": null,
                })
            }
            Architecture::Phi3 => json!({
                "sliding_window": null, "partial_rotary_factor": 1.0,
                "original_max_position_embeddings": sizes.context,
            }),
            Architecture::Mixtral => json!({
                "sliding_window": null, "num_local_experts": experts.count,
                "num_experts_per_tok": experts.used, "intermediate_size": experts.inner,
            }),
            Architecture::Qwen3Moe => {
                let mut config = Map::new();
                for (key, number) in [
                    ("num_experts", experts.count),
                    ("num_experts_per_tok", experts.used),
                    ("moe_intermediate_size", experts.inner),
                    ("decoder_sparse_step", 1),
                    ("max_window_layers", sizes.layers),
                ] {
                    config.insert(key.into(), number.into());
                }
                config.insert("norm_topk_prob".into(), true.into());
                config.insert("mlp_only_layers".into(), json!([]));
                config.insert("use_sliding_window".into(), false.into());
                config.insert("sliding_window".into(), Value::Null);
                config.into()
            }
        }
    }
}

/// Converts a 32-bit float to the 64-bit float with the same decimal form: 1e-5 instead of
/// 0.000009999999747.
fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
