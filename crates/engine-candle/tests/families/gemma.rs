//! Gemma: post-norms, soft caps, two rotations, alternating sliding windows.

use serde_json::{Value, json};

use crate::{
    compare::{
        assert_gguf_matches_safetensors, assert_matches_candle, assert_matches_reference,
        gguf_engine, reference,
    },
    gguf_file::GgufFile,
    reference::{Reference, frequencies, frequencies_of},
    tiny_model::TinyModel,
};

/// Returns the reference of a Gemma 3 model with a sliding window in the first and third layer.
fn gemma3(model: &TinyModel, window: usize) -> Reference<'_> {
    let local = model.config["rope_local_base_freq"].as_f64().unwrap();
    Reference {
        local_frequencies: Some(frequencies_of(local, model.head_dim() / 2)),
        ..reference(model, [Some(window), None, Some(window)])
    }
}

/// Candle's Gemma 3 accepts prompts of several tokens only with a single key-value head.
fn with_one_key_head(mut changes: Value) -> TinyModel {
    changes["num_key_value_heads"] = json!(1);
    TinyModel::new("gemma3_text", &changes)
}

#[test]
fn every_generation_matches_candle() {
    let gemma = TinyModel::new("gemma", &json!({}));
    assert_matches_candle(&gemma, None);
    assert_matches_reference(&reference(&gemma, [None; 3]));
    // The window is longer than the sequence, because candle's Gemma 2 has it in every layer.
    let gemma2 = TinyModel::new("gemma2", &json!({}));
    assert_matches_candle(&gemma2, None);
    assert_matches_reference(&reference(&gemma2, [Some(128), None, Some(128)]));
    let gemma3_text = TinyModel::new("gemma3_text", &json!({}));
    assert_matches_reference(&gemma3(&gemma3_text, 128));
    assert_matches_candle(&with_one_key_head(json!({})), Some(128));
}

#[test]
fn sliding_windows_alternate_between_layers() {
    let window = json!({"sliding_window": 7});
    let gemma2 = TinyModel::new("gemma2", &window);
    assert_matches_reference(&reference(&gemma2, [Some(7), None, Some(7)]));
    assert_matches_reference(&gemma3(&TinyModel::new("gemma3_text", &window), 7));
    let one = with_one_key_head(window);
    assert_matches_candle(&one, Some(7));
    assert_matches_reference(&gemma3(&one, 7));
    let listed = json!({
        "sliding_window": 7,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"]
    });
    assert_matches_reference(&Reference {
        windows: vec![None, Some(7), None],
        ..gemma3(&TinyModel::new("gemma3_text", &listed), 7)
    });
}

#[test]
fn scores_are_scaled_and_capped_as_configured() {
    for changes in [
        json!({"query_pre_attn_scalar": 50}),
        json!({"attn_logit_softcapping": null}),
        json!({"final_logit_softcapping": null}),
    ] {
        let model = TinyModel::new("gemma2", &changes);
        assert_matches_reference(&reference(&model, [Some(128), None, Some(128)]));
        assert_matches_candle_unless_scaled(&model, &changes);
    }
    let caps = json!({"attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0});
    assert_matches_candle(&with_one_key_head(caps), Some(128));
}

/// Candle ignores `query_pre_attn_scalar` and scales by the head width.
fn assert_matches_candle_unless_scaled(model: &TinyModel, changes: &Value) {
    if changes["query_pre_attn_scalar"].is_null() {
        assert_matches_candle(model, None);
    }
}

#[test]
fn rope_scaling_applies_only_to_layers_without_window() {
    let linear = json!({
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 9
    });
    let model = TinyModel::new("gemma3_text", &linear);
    let scaled: Vec<f64> = frequencies(&model).iter().map(|f| f / 8.0).collect();
    assert_matches_reference(&Reference {
        frequencies: scaled.clone(),
        ..gemma3(&model, 9)
    });
    assert_gguf_patterns_match_safetensors(&model);

    // The same model with the keys of newer files.
    let mut newer = TinyModel::new("gemma3_text", &json!({"sliding_window": 9}));
    let keys = newer.config.as_object_mut().unwrap();
    keys.remove("rope_theta");
    keys.remove("rope_local_base_freq");
    keys.insert(
        "rope_parameters".into(),
        json!({
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}
        }),
    );
    assert_matches_reference(&Reference {
        model: &newer,
        frequencies: scaled,
        ..gemma3(&model, 9)
    });
}

/// Without a pattern, GGUF files of Gemma 3 have the window in five of six layers.
fn assert_gguf_patterns_match_safetensors(model: &TinyModel) {
    use crate::compare::{TOLERANCE, all_logits, difference, engine};
    let safetensors = all_logits(&mut engine(model));
    let file = || GgufFile::of(model).with_scaling_and_window(model, Some(9));
    let mut flags = file();
    flags.flags(
        "gemma3.attention.sliding_window_pattern",
        &[true, false, true],
    );
    let mut every = file();
    every.number("gemma3.attention.sliding_window_pattern", 2);
    for file in [flags, every] {
        let gguf = all_logits(&mut gguf_engine(&file));
        for (gguf, safetensors) in gguf.iter().zip(&safetensors) {
            assert!(difference(gguf, safetensors) < TOLERANCE);
        }
    }
}

#[test]
fn gguf_matches_safetensors() {
    assert_gguf_matches_safetensors(&TinyModel::new("gemma", &json!({})), None);
    let gemma2 = TinyModel::new("gemma2", &json!({"sliding_window": 7}));
    assert_gguf_matches_safetensors(&gemma2, Some(7));
    let seven = json!({
        "sliding_window": 7, "sliding_window_pattern": 6, "num_hidden_layers": 7
    });
    let mut long = TinyModel::new("gemma3_text", &seven);
    long.config["rope_theta"] = json!(1e6);
    assert_gguf_matches_safetensors(&long, Some(7));
}

/// Multimodal models have the tensors of the text model under a prefix.
#[test]
fn text_part_of_multimodal_models_is_loaded() {
    use crate::compare::{all_logits, engine};
    let text = TinyModel::new("gemma3_text", &json!({}));
    let expected = all_logits(&mut engine(&text));
    for prefix in ["language_model.model.", "model.language_model."] {
        let mut multimodal = TinyModel::new("gemma3_text", &json!({}));
        multimodal.config = json!({"model_type": "gemma3", "text_config": text.config});
        multimodal.tensors = text
            .tensors
            .iter()
            .map(|(name, values)| (name.replacen("model.", prefix, 1), values.clone()))
            .collect();
        for other in ["vision_tower.a.weight", "model.multi_modal_projector.b"] {
            let norm = text.tensors["model.norm.weight"].clone();
            multimodal.tensors.insert(other.into(), norm);
        }
        assert!(all_logits(&mut engine(&multimodal)) == expected, "{prefix}");
    }
}
