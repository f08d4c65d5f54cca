//! Phi-3 and Phi-4: fused matrices, heads of which a part is rotated, factors for long
//! contexts.

use serde_json::{Value, json};

use crate::{
    compare::{assert_candles, assert_plain, assert_same_as_gguf, plain},
    plain::{Plain, frequencies},
    tiny_model::TinyModel,
};

/// Factors of a model with 8 pairs, trained with `trained` tokens.
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
fn fused_and_partly_rotated_models_are_candles() {
    for changes in [
        json!({}),
        json!({"tie_word_embeddings": true}),
        json!({"num_key_value_heads": 4}),
        json!({"partial_rotary_factor": 0.75}),
    ] {
        let model = TinyModel::new("phi3", &changes);
        assert_candles(&model, None);
        assert_plain(&plain(&model, [None; 3]));
        assert_same_as_gguf(&model, None);
    }
}

#[test]
fn attention_looks_back_only_so_far() {
    let model = TinyModel::new("phi3", &json!({"sliding_window": 7}));
    assert_plain(&plain(&model, [Some(7); 3]));
    assert_same_as_gguf(&model, Some(7));
}

#[test]
fn factors_are_those_of_the_context() {
    // A context of 128 tokens, four times the trained one, or the trained one.
    for (trained, kind, by) in [
        (32, "longrope", 0.5),
        (32, "su", 0.5),
        (128, "longrope", 0.1),
    ] {
        let model = TinyModel::new("phi3", &long_rope(trained, kind));
        let factor = 128.0 / trained as f64;
        let divisors = (0..8).map(|i| 1.0 + by * f64::from(i));
        assert_plain(&Plain {
            frequencies: frequencies(&model)
                .iter()
                .zip(divisors)
                .map(|(f, d)| f / d)
                .collect(),
            scale: (1.0 + factor.ln() / (trained as f64).ln()).sqrt(),
            ..plain(&model, [None; 3])
        });
        if kind == "longrope" {
            assert_same_as_gguf(&model, None);
        }
    }
    let mut given = long_rope(32, "longrope");
    given["rope_scaling"]["attention_factor"] = json!(1.0);
    given["partial_rotary_factor"] = json!(0.5);
    for length in ["short_factor", "long_factor"] {
        given["rope_scaling"][length] = json!([2.0, 2.0, 2.0, 2.0]);
    }
    let model = TinyModel::new("phi3", &given);
    assert_plain(&Plain {
        frequencies: frequencies(&model).iter().map(|f| f / 2.0).collect(),
        ..plain(&model, [None; 3])
    });
}
