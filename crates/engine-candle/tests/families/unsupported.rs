//! Unsupported and malformed models are rejected with a specific error.

use diagnostics::{Code, Diagnostic};
use engine_candle::{LoadOptions, load};
use serde_json::{Value, json};

use crate::{gguf_file::GgufFile, tiny_model::TinyModel};

fn error_of(model: &TinyModel) -> Diagnostic {
    let directory = tempfile::tempdir().unwrap();
    model.write_to(directory.path());
    let loaded = load(directory.path(), LoadOptions::default());
    loaded.err().expect("the model must not load")
}

fn error(family: &str, changes: &Value) -> Diagnostic {
    error_of(&TinyModel::new(family, changes))
}

fn gguf_error(file: &GgufFile) -> Diagnostic {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    file.write(&path);
    let loaded = load(&path, LoadOptions::default());
    loaded.err().expect("the model must not load")
}

#[test]
fn rejects_unsupported_variants() {
    let listed = |kind: &str, count: usize| json!({"use_sliding_window": true, "layer_types": vec![kind; count], "sliding_window": 8});
    for (family, changes, expected) in [
        ("gemma3n_text", json!({}), "`gemma3n_text`"),
        ("gemma2", json!({"hidden_activation": "silu"}), "`silu`"),
        (
            "gemma3_text",
            json!({"use_bidirectional_attention": true}),
            "does not support bidirectional attention",
        ),
        ("phi3", json!({"partial_rotary_factor": 1.5}), "24 of 16"),
        (
            "phi3",
            json!({"partial_rotary_factor": 0.2}),
            "rotary embedding of 3 dimensions",
        ),
        ("llama", json!({"hidden_act": "gelu"}), "activation `gelu`"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "8 of 16"),
        (
            "qwen2",
            json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}),
            "`longrope`",
        ),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "linear"}}),
            "`linear`",
        ),
        (
            "qwen3",
            listed("chunked_attention", 3),
            "`chunked_attention`",
        ),
        ("qwen3", listed("full_attention", 2), "`layer_types` of 2"),
    ] {
        let error = error(family, &changes);
        assert_eq!(error.code, Code::UnsupportedModel, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}

/// Files of other families lack keys and tensors, which must not be reported instead.
#[test]
fn rejects_unsupported_families_by_name() {
    let mut file = GgufFile::default();
    file.text("general.architecture", "mamba");
    file.number("mamba.ssm.state_size", 16);
    let error = gguf_error(&file);
    assert_eq!(error.code, Code::UnsupportedModel, "{error}");
    assert!(error.message.contains("`mamba`"), "{error}");
    assert!(error.hint.unwrap().contains("qwen3moe"));

    let mut model = TinyModel::new("llama", &json!({}));
    model.config = json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 3});
    let error = error_of(&model);
    assert_eq!(error.code, Code::UnsupportedModel, "{error}");
    assert!(error.message.contains("`gpt2`"), "{error}");
    assert!(error.hint.unwrap().contains("qwen3_moe"));
}

#[test]
fn rejects_invalid_expert_counts() {
    for (family, changes, expected) in [
        ("mixtral", json!({"num_local_experts": 0}), "experts = 0"),
        (
            "mixtral",
            json!({"num_experts_per_tok": 5}),
            "experts per token = 5, expected 1 to 4",
        ),
        (
            "mixtral",
            json!({"num_experts_per_tok": 0}),
            "experts per token = 0",
        ),
        (
            "qwen3_moe",
            json!({"num_experts_per_tok": 7}),
            "expected 1 to 6",
        ),
        (
            "qwen3_moe",
            json!({"decoder_sparse_step": 0}),
            "interval of layers with experts = 0",
        ),
        (
            "qwen3_moe",
            json!({"moe_intermediate_size": 0}),
            "length of an expert = 0",
        ),
    ] {
        // The weights are those of a valid model.
        let mut model = TinyModel::new(family, &json!({}));
        let keys = changes.as_object().unwrap().clone();
        model.config.as_object_mut().unwrap().extend(keys);
        let error = error_of(&model);
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn rejects_missing_and_unexpected_weights_by_name() {
    for (family, name) in [
        ("qwen2", "model.layers.1.self_attn.k_proj.bias"),
        ("qwen3", "model.layers.2.self_attn.q_norm.weight"),
        ("gemma2", "model.layers.1.post_feedforward_layernorm.weight"),
        (
            "gemma3_text",
            "model.layers.0.pre_feedforward_layernorm.weight",
        ),
        ("phi3", "model.layers.1.self_attn.qkv_proj.weight"),
        ("phi3", "model.layers.2.mlp.gate_up_proj.weight"),
        ("mixtral", "model.layers.1.block_sparse_moe.gate.weight"),
        (
            "mixtral",
            "model.layers.1.block_sparse_moe.experts.3.w2.weight",
        ),
        ("qwen3_moe", "model.layers.2.mlp.experts.5.up_proj.weight"),
    ] {
        let mut model = TinyModel::new(family, &json!({}));
        model.tensors.remove(name).unwrap();
        let error = error_of(&model);
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        assert!(error.message.contains(name), "{error}");
    }
    // Fused matrices are split only if they have the expected shape.
    let mut model = TinyModel::new("phi3", &json!({}));
    model.config["num_key_value_heads"] = json!(4);
    let error = error_of(&model);
    assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    assert!(error.message.contains("qkv_proj.weight"), "{error}");
    assert!(
        error.message.contains("[128, 64], expected [192, 64]"),
        "{error}"
    );
    // A bias that the configuration does not declare.
    let mut model = TinyModel::new("llama", &json!({"attention_bias": true}));
    model.config["attention_bias"] = json!(false);
    let error = error_of(&model);
    assert_eq!(error.code, Code::UnsupportedModel, "{error}");
    assert!(error.message.contains("self_attn.k_proj.bias"), "{error}");
}

#[test]
fn rejects_unsupported_gguf_variants() {
    let model = TinyModel::new("qwen2", &json!({}));
    let mut yarn = GgufFile::of(&model);
    yarn.text("qwen2.rope.scaling.type", "yarn");
    yarn.float("qwen2.rope.scaling.factor", 2.0);
    yarn.float("qwen2.rope.scaling.yarn_log_multiplier", 0.1);
    let mut pattern = GgufFile::of(&model);
    pattern.number("qwen2.attention.sliding_window", 8);
    pattern.number("qwen2.attention.sliding_window_pattern", 4);
    let mut experts = GgufFile::of(&model);
    experts.number("qwen2.expert_count", 4);
    experts.number("qwen2.expert_used_count", 2);
    for (file, expected) in [
        (experts, "a mixture of experts in architecture `qwen2`"),
        (yarn, "yarn with yarn_log_multiplier"),
        (pattern, "qwen2.attention.sliding_window_pattern"),
    ] {
        let error = gguf_error(&file);
        assert_eq!(error.code, Code::UnsupportedModel, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn rejects_stacked_experts_that_do_not_match_the_header() {
    let model = TinyModel::new("qwen3_moe", &json!({}));
    let with = |key: &str, value: usize| {
        let mut config = model.config.clone();
        config[key] = json!(value);
        let tensors = model.tensors.clone();
        GgufFile::of(&TinyModel { config, tensors })
    };
    // The header declares more experts than are stacked.
    let mut file = GgufFile::of(&model);
    file.replace_number("qwen3moe.expert_count", 7);
    let error = gguf_error(&file);
    assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    let name = "blk.0.ffn_gate_exps.weight";
    assert!(error.message.contains(name), "{error}");
    assert!(
        error.message.contains("[6, 32, 64], expected [7, 32, 64]"),
        "{error}"
    );
    for (key, value, expected) in [
        ("num_experts_per_tok", 0, "experts per token = 0"),
        ("num_experts_per_tok", 7, "experts per token = 7"),
    ] {
        let error = gguf_error(&with(key, value));
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
    let mut without = GgufFile::of(&model);
    without.remove_tensor(name);
    let error = gguf_error(&without);
    assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    assert!(
        error.message.contains(&format!("no tensor `{name}`")),
        "{error}"
    );
}
