//! The logits of every family and variant.

use serde_json::{Value, json};

use crate::{
    compare::{
        assert_gguf_matches_safetensors, assert_matches_candle, assert_matches_reference, reference,
    },
    reference::{Reference, frequencies, yarn},
    tiny_model::TinyModel,
};

fn families() -> impl Iterator<Item = TinyModel> {
    ["llama", "mistral", "qwen2", "qwen3"]
        .into_iter()
        .flat_map(|family| {
            [false, true].map(|tied| TinyModel::new(family, &json!({"tie_word_embeddings": tied})))
        })
}

fn scaling(kind: &str, more: &Value) -> Value {
    let mut rope = json!({
        "rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 32,
    });
    let more = more.as_object().unwrap().clone();
    rope.as_object_mut().unwrap().extend(more);
    json!({"rope_scaling": rope})
}

#[test]
fn every_family_matches_candle() {
    for model in families() {
        assert_matches_candle(&model, None);
        assert_matches_reference(&reference(&model, [None; 3]));
    }
}

#[test]
fn head_width_is_independent_of_hidden_size() {
    assert_matches_candle(&TinyModel::new("mistral", &json!({"head_dim": 24})), None);
}

#[test]
fn biases_are_added_as_configured() {
    assert_matches_candle(
        &TinyModel::new("qwen3", &json!({"attention_bias": true})),
        None,
    );
    for changes in [
        json!({"attention_bias": true}),
        json!({"mlp_bias": true}),
        json!({"attention_bias": true, "mlp_bias": true}),
    ] {
        assert_matches_reference(&reference(&TinyModel::new("llama", &changes), [None; 3]));
    }
}

#[test]
fn attention_is_limited_to_the_sliding_window() {
    let mistral = TinyModel::new("mistral", &json!({"sliding_window": 7}));
    assert_matches_candle(&mistral, Some(7));
    assert_matches_reference(&reference(&mistral, [Some(7); 3]));

    let window = |layers| json!({"use_sliding_window": true, "max_window_layers": layers});
    let everywhere = TinyModel::new("qwen2", &window(0));
    assert_matches_candle(&everywhere, Some(8));
    let from_second = TinyModel::new("qwen2", &window(1));
    assert_matches_reference(&reference(&from_second, [None, Some(8), Some(8)]));
    let nowhere = TinyModel::new("qwen2", &window(3));
    assert_matches_candle(&nowhere, None);

    let mut changes = window(0);
    changes["sliding_window"] = json!(20);
    changes["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let listed = TinyModel::new("qwen3", &changes);
    assert_matches_reference(&reference(&listed, [Some(20), None, Some(20)]));
    // Llama ignores `sliding_window`, as its original implementation does.
    assert_matches_candle(
        &TinyModel::new("llama", &json!({"sliding_window": 7})),
        None,
    );
}

#[test]
fn rope_scaling_is_applied() {
    let factors = json!({"low_freq_factor": 1.0, "high_freq_factor": 4.0});
    assert_matches_candle(&TinyModel::new("llama", &scaling("llama3", &factors)), None);

    let linear = TinyModel::new("mistral", &scaling("linear", &json!({})));
    assert_matches_reference(&Reference {
        frequencies: frequencies(&linear).iter().map(|f| f / 4.0).collect(),
        ..reference(&linear, [None; 3])
    });
    let default_factor = 0.1 * 4_f64.ln() + 1.0;
    for (more, scale) in [
        (json!({}), default_factor),
        (json!({"attention_factor": 0.8}), 0.8),
        (
            json!({"mscale": 0.5, "mscale_all_dim": 2.0}),
            (0.05 * 4_f64.ln() + 1.0) / (0.2 * 4_f64.ln() + 1.0),
        ),
    ] {
        for family in ["llama", "qwen2", "qwen3"] {
            let model = TinyModel::new(family, &scaling("yarn", &more));
            assert_matches_reference(&Reference {
                frequencies: yarn(&frequencies(&model), 10_000.0, 4.0, 32.0),
                scale,
                ..reference(&model, [None; 3])
            });
        }
    }
}

#[test]
fn gguf_matches_safetensors() {
    for model in families() {
        assert_gguf_matches_safetensors(&model, None);
    }
    let biased = json!({"attention_bias": true, "mlp_bias": true});
    assert_gguf_matches_safetensors(&TinyModel::new("llama", &biased), None);
    let biased = json!({"attention_bias": true});
    assert_gguf_matches_safetensors(&TinyModel::new("qwen3", &biased), None);
    let window = json!({"sliding_window": 7});
    assert_gguf_matches_safetensors(&TinyModel::new("mistral", &window), Some(7));
    for kind in ["linear", "yarn"] {
        for family in ["llama", "qwen3"] {
            assert_gguf_matches_safetensors(
                &TinyModel::new(family, &scaling(kind, &json!({}))),
                None,
            );
        }
    }
}
