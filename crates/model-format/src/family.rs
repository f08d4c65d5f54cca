use serde_json::{Map, Value, json};

/// Default values of keys that a `config.json` of this `model_type` may omit, as in the family's
/// reference implementation.
fn defaults(model_type: &str) -> Map<String, Value> {
    let keys = match model_type {
        "mistral" => json!({"sliding_window": 4096}),
        "mixtral" => json!({
            "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2,
            "norm_topk_prob": true
        }),
        "qwen2" | "qwen3" => json!({"sliding_window": 4096, "max_window_layers": 28}),
        "qwen3_moe" => json!({
            "sliding_window": 4096, "max_window_layers": 28, "num_local_experts": 128,
            "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": false,
            "decoder_sparse_step": 1
        }),
        "gemma" => json!({
            "tie_word_embeddings": true, "head_dim": 256, "num_key_value_heads": 16,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 8192
        }),
        "gemma2" => json!({
            "tie_word_embeddings": true, "head_dim": 256, "num_key_value_heads": 4,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 8192, "sliding_window": 4096,
            "sliding_window_pattern": 2, "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50, "final_logit_softcapping": 30
        }),
        "gemma3_text" => json!({
            "tie_word_embeddings": true, "vocab_size": 262_208, "head_dim": 256,
            "num_attention_heads": 8, "num_key_value_heads": 4, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 131_072, "rope_theta": 1e6,
            "rope_local_base_freq": 10_000, "sliding_window": 4096,
            "sliding_window_pattern": 6, "query_pre_attn_scalar": 256
        }),
        _ => Value::Null,
    };
    match keys {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

/// Returns the part of a `config.json` that describes the text model, which for a multimodal
/// model is nested, completed with the defaults of its family.
pub(crate) fn text_config(mut document: Map<String, Value>) -> Map<String, Value> {
    if document.get("model_type").is_some_and(|t| t == "gemma3")
        && let Some(Value::Object(inner)) = document.remove("text_config")
    {
        document = inner;
        document
            .entry("model_type")
            .or_insert_with(|| "gemma3_text".into());
    }
    let family = document.get("model_type").and_then(Value::as_str);
    let mut config = defaults(family.unwrap_or_default());
    config.extend(document);
    config
}

/// Maps the tensor name of a multimodal model to that of a text-only model; `None` for tensors of
/// the vision part.
pub fn text_tensor_name(name: &str) -> Option<String> {
    let (outer, inner) = name.split_once('.').unwrap_or((name, ""));
    match (outer, inner.split_once('.')) {
        ("vision_tower" | "multi_modal_projector", _)
        | ("model", Some(("vision_tower" | "multi_modal_projector", _))) => None,
        ("language_model", _) => Some(inner.to_owned()),
        ("model", Some(("language_model", rest))) => Some(format!("model.{rest}")),
        _ => Some(name.to_owned()),
    }
}
