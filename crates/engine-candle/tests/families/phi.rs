//! Phi-3 and Phi-4: fused matrices, partial rotation, LongRoPE factors.

use serde_json::{Value, json};

use crate::{
    compare::{
        assert_gguf_matches_safetensors, assert_matches_candle, assert_matches_reference, reference,
    },
    reference::{Reference, frequencies},
    tiny_model::TinyModel,
};

/// Returns LongRoPE factors for 8 pairs and a trained context of `trained` tokens.
fn long_rope(trained: usize, kind: &str) -> Value {
    let factors = |by: f64| (0..8).map(|i| 1.0 + by * f64::from(i)).collect::<Vec<_>>();
    json!({
        "original_max_position_embeddings": trained,
        "rope_scaling": {
            "rope_type": kind, "short_factor": factors(0.1), "long_factor": factors(0.5)
        },
    })
}

#[test]
fn fused_and_partially_rotated_models_match_candle() {
    for changes in [
        json!({}),
        json!({"tie_word_embeddings": true}),
        json!({"num_key_value_heads": 4}),
        json!({"partial_rotary_factor": 0.75}),
    ] {
        let model = TinyModel::new("phi3", &changes);
        assert_matches_candle(&model, None);
        assert_matches_reference(&reference(&model, [None; 3]));
        assert_gguf_matches_safetensors(&model, None);
    }
}

#[test]
fn attention_is_limited_to_the_sliding_window() {
    let model = TinyModel::new("phi3", &json!({"sliding_window": 7}));
    assert_matches_reference(&reference(&model, [Some(7); 3]));
    assert_gguf_matches_safetensors(&model, Some(7));
}

#[test]
fn context_length_selects_the_factors() {
    // The context of 128 tokens is four times the trained one, or equal to it.
    for (trained, kind, by) in [
        (32, "longrope", 0.5),
        (32, "su", 0.5),
        (128, "longrope", 0.1),
    ] {
        let model = TinyModel::new("phi3", &long_rope(trained, kind));
        let factor = 128.0 / trained as f64;
        let divisors = (0..8).map(|i| 1.0 + by * f64::from(i));
        assert_matches_reference(&Reference {
            frequencies: frequencies(&model)
                .iter()
                .zip(divisors)
                .map(|(f, d)| f / d)
                .collect(),
            scale: (1.0 + factor.ln() / (trained as f64).ln()).sqrt(),
            ..reference(&model, [None; 3])
        });
        if kind == "longrope" {
            assert_gguf_matches_safetensors(&model, None);
        }
    }
    let mut explicit = long_rope(32, "longrope");
    explicit["rope_scaling"]["attention_factor"] = json!(1.0);
    explicit["partial_rotary_factor"] = json!(0.5);
    for length in ["short_factor", "long_factor"] {
        explicit["rope_scaling"][length] = json!([2.0, 2.0, 2.0, 2.0]);
    }
    let model = TinyModel::new("phi3", &explicit);
    assert_matches_reference(&Reference {
        frequencies: frequencies(&model).iter().map(|f| f / 2.0).collect(),
        ..reference(&model, [None; 3])
    });
}
