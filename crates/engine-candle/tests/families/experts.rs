//! Mixtures of experts.

use serde_json::json;

use crate::{
    compare::{
        all_ways, assert_candles, assert_plain, assert_same_as_gguf, difference, engine,
        gguf_engine, plain,
    },
    gguf_file::{ExpertLayout, GgufFile},
    tiny_model::TinyModel,
};

#[test]
fn both_families_are_candles() {
    for (family, changes) in [
        ("mixtral", json!({})),
        (
            "mixtral",
            json!({"num_local_experts": 7, "num_experts_per_tok": 1}),
        ),
        ("mixtral", json!({"num_experts_per_tok": 4})),
        ("qwen3_moe", json!({})),
        ("qwen3_moe", json!({"norm_topk_prob": false})),
        ("qwen3_moe", json!({"decoder_sparse_step": 2})),
    ] {
        let model = TinyModel::new(family, &changes);
        assert_candles(&model, None);
        assert_plain(&plain(&model, [None; 3]));
    }
}

#[test]
fn some_layers_may_be_dense() {
    let model = TinyModel::new("qwen3_moe", &json!({"mlp_only_layers": [0, 2]}));
    assert_plain(&plain(&model, [None; 3]));
}

#[test]
fn mixtral_may_have_a_window() {
    let model = TinyModel::new("mixtral", &json!({"sliding_window": 7}));
    assert_candles(&model, Some(7));
    assert_plain(&plain(&model, [Some(7); 3]));
    assert_same_as_gguf(&model, Some(7));
}

#[test]
fn gguf_and_safetensors_are_the_same_model() {
    for family in ["mixtral", "qwen3_moe"] {
        assert_same_as_gguf(&TinyModel::new(family, &json!({})), None);
    }
}

#[test]
fn quantized_experts_are_cut_out_of_their_stack() {
    for family in ["mixtral", "qwen3_moe"] {
        let model = TinyModel::new(family, &json!({}));
        let quantized = |layout| {
            let file = GgufFile::with_experts(&model, layout, true);
            all_ways(&mut gguf_engine(&file))
        };
        let stacked = quantized(ExpertLayout::Stacked);
        assert!(stacked == quantized(ExpertLayout::OneByOne), "{family}");
        // Another expert would be picked where two score about the same, so most is asked.
        let exact = all_ways(&mut engine(&model));
        let near = stacked.iter().zip(&exact);
        let near = near.filter(|(a, b)| difference(a, b) < 0.1).count();
        println!("{family}: {near} of {} are near", exact.len());
        assert!(near * 10 >= exact.len() * 9, "{family}: {near}");
    }
}
