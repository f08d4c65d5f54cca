//! What would be computed wrongly is refused by name.

use diagnostics::{Code, Diagnostic};
use engine_candle::{LoadOptions, load};
use serde_json::{Value, json};

use crate::{gguf_file::GgufFile, tiny_model::TinyModel};

fn error_of(model: &TinyModel) -> Diagnostic {
    let folder = tempfile::tempdir().unwrap();
    model.write_folder(folder.path());
    let loaded = load(folder.path(), LoadOptions::default());
    loaded.err().expect("a model that is not supported")
}

fn error(family: &str, changes: &Value) -> Diagnostic {
    error_of(&TinyModel::new(family, changes))
}

fn gguf_error(file: &GgufFile) -> Diagnostic {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    file.write(&path);
    let loaded = load(&path, LoadOptions::default());
    loaded.err().expect("a model that is not supported")
}

#[test]
fn variants_without_an_implementation_are_named() {
    let listed = |kind: &str, count: usize| json!({"use_sliding_window": true, "layer_types": vec![kind; count], "sliding_window": 8});
    for (family, changes, expected) in [
        ("gemma3_text", json!({}), "`gemma3_text`"),
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

#[test]
fn weights_that_the_family_needs_are_missed_by_name() {
    for (family, name) in [
        ("qwen2", "model.layers.1.self_attn.k_proj.bias"),
        ("qwen3", "model.layers.2.self_attn.q_norm.weight"),
    ] {
        let mut model = TinyModel::new(family, &json!({}));
        model.tensors.remove(name).unwrap();
        let error = error_of(&model);
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        assert!(error.message.contains(name), "{error}");
    }
    // A bias that the configuration knows nothing of.
    let mut model = TinyModel::new("llama", &json!({"attention_bias": true}));
    model.config["attention_bias"] = json!(false);
    let error = error_of(&model);
    assert_eq!(error.code, Code::UnsupportedModel, "{error}");
    assert!(error.message.contains("self_attn.k_proj.bias"), "{error}");
}

#[test]
fn gguf_variants_without_an_implementation_are_named() {
    let model = TinyModel::new("qwen2", &json!({}));
    let mut yarn = GgufFile::of(&model);
    yarn.text("qwen2.rope.scaling.type", "yarn");
    yarn.float("qwen2.rope.scaling.factor", 2.0);
    yarn.float("qwen2.rope.scaling.yarn_log_multiplier", 0.1);
    let mut pattern = GgufFile::of(&model);
    pattern.number("qwen2.attention.sliding_window", 8);
    pattern.number("qwen2.attention.sliding_window_pattern", 4);
    for (file, expected) in [
        (yarn, "yarn with yarn_log_multiplier"),
        (pattern, "qwen2.attention.sliding_window_pattern"),
    ] {
        let error = gguf_error(&file);
        assert_eq!(error.code, Code::UnsupportedModel, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}
