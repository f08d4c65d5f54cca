//! Mixtures of experts.

use engine_candle::ComputeDevice;
use serde_json::json;

use crate::{
    compare::{
        all_logits, assert_gguf_matches_safetensors, assert_matches_candle,
        assert_matches_reference, difference, engine, gguf_engine, gguf_engine_on, prompt_logits,
        reference,
    },
    gguf_file::{ExpertLayout, GgufFile},
    tiny_model::TinyModel,
};

#[test]
fn both_families_match_candle() {
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
        assert_matches_candle(&model, None);
        assert_matches_reference(&reference(&model, [None; 3]));
    }
}

#[test]
fn supports_dense_layers() {
    let model = TinyModel::new("qwen3_moe", &json!({"mlp_only_layers": [0, 2]}));
    assert_matches_reference(&reference(&model, [None; 3]));
}

#[test]
fn mixtral_supports_a_sliding_window() {
    let model = TinyModel::new("mixtral", &json!({"sliding_window": 7}));
    assert_matches_candle(&model, Some(7));
    assert_matches_reference(&reference(&model, [Some(7); 3]));
    assert_gguf_matches_safetensors(&model, Some(7));
}

#[test]
fn gguf_matches_safetensors() {
    for family in ["mixtral", "qwen3_moe"] {
        assert_gguf_matches_safetensors(&TinyModel::new(family, &json!({})), None);
    }
}

#[test]
fn stacked_and_separate_quantized_experts_produce_the_same_logits() {
    for family in ["mixtral", "qwen3_moe"] {
        let model = TinyModel::new(family, &json!({}));
        let quantized = |layout| {
            let file = GgufFile::with_experts(&model, layout, true);
            all_logits(&mut gguf_engine(&file))
        };
        let stacked = quantized(ExpertLayout::Stacked);
        assert!(stacked == quantized(ExpertLayout::Separate), "{family}");
        // If two experts score about the same, another one may be selected, so not all logits
        // are near.
        let exact = all_logits(&mut engine(&model));
        let near = stacked.iter().zip(&exact);
        let near = near.filter(|(a, b)| difference(a, b) < 0.1).count();
        println!("{family}: {near} of {} are near", exact.len());
        assert!(near * 10 >= exact.len() * 9, "{family}: {near}");
    }
}

#[test]
fn quantized_experts_on_tensors_are_near_those_of_the_cpu() {
    for family in ["mixtral", "qwen3_moe"] {
        let model = TinyModel::new(family, &json!({}));
        for layout in [ExpertLayout::Stacked, ExpertLayout::Separate] {
            let file = GgufFile::with_experts(&model, layout, true);
            let cpu = all_logits(&mut gguf_engine(&file));
            let tensors = prompt_logits(&mut gguf_engine_on(ComputeDevice::CpuTensors, &file));
            // Both round activations to 8 bits, by other rules.
            let near = tensors
                .iter()
                .filter(|(tokens, logits)| difference(logits, &cpu[*tokens - 1]) < 0.1);
            let near = near.count();
            assert!(near * 10 >= tensors.len() * 9, "{family}: {near}");
        }
    }
}
