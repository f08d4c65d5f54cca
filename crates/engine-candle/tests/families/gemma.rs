//! Gemma: norms behind each part, soft caps, two rotations, windows in turn.

use serde_json::{Value, json};

use crate::{
    compare::{assert_candles, assert_plain, assert_same_as_gguf, gguf_engine, plain},
    gguf_file::GgufFile,
    plain::{Plain, frequencies, frequencies_of},
    tiny_model::TinyModel,
};

/// The plain reference of a Gemma 3 with this window in its first and third layer.
fn gemma3(model: &TinyModel, window: usize) -> Plain<'_> {
    let local = model.config["rope_local_base_freq"].as_f64().unwrap();
    Plain {
        local_frequencies: Some(frequencies_of(local, model.head_dim() / 2)),
        ..plain(model, [Some(window), None, Some(window)])
    }
}

/// Candle's Gemma 3 takes prompts of several tokens only where keys have one head.
fn with_one_key_head(mut changes: Value) -> TinyModel {
    changes["num_key_value_heads"] = json!(1);
    TinyModel::new("gemma3_text", &changes)
}

#[test]
fn every_generation_is_candles() {
    let gemma = TinyModel::new("gemma", &json!({}));
    assert_candles(&gemma, None);
    assert_plain(&plain(&gemma, [None; 3]));
    // A window longer than the sequence: candle's Gemma 2 has it in every layer.
    let gemma2 = TinyModel::new("gemma2", &json!({}));
    assert_candles(&gemma2, None);
    assert_plain(&plain(&gemma2, [Some(128), None, Some(128)]));
    let gemma3_text = TinyModel::new("gemma3_text", &json!({}));
    assert_plain(&gemma3(&gemma3_text, 128));
    assert_candles(&with_one_key_head(json!({})), Some(128));
}

#[test]
fn windows_take_turns() {
    let window = json!({"sliding_window": 7});
    let gemma2 = TinyModel::new("gemma2", &window);
    assert_plain(&plain(&gemma2, [Some(7), None, Some(7)]));
    assert_plain(&gemma3(&TinyModel::new("gemma3_text", &window), 7));
    let one = with_one_key_head(window);
    assert_candles(&one, Some(7));
    assert_plain(&gemma3(&one, 7));
    let listed = json!({
        "sliding_window": 7,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"]
    });
    assert_plain(&Plain {
        windows: vec![None, Some(7), None],
        ..gemma3(&TinyModel::new("gemma3_text", &listed), 7)
    });
}

#[test]
fn scores_are_scaled_and_capped_as_the_configuration_says() {
    for changes in [
        json!({"query_pre_attn_scalar": 50}),
        json!({"attn_logit_softcapping": null}),
        json!({"final_logit_softcapping": null}),
    ] {
        let model = TinyModel::new("gemma2", &changes);
        assert_plain(&plain(&model, [Some(128), None, Some(128)]));
        assert_candles_unless_scaled(&model, &changes);
    }
    let caps = json!({"attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0});
    assert_candles(&with_one_key_head(caps), Some(128));
}

/// Candle scales by the width of a head whatever the configuration says.
fn assert_candles_unless_scaled(model: &TinyModel, changes: &Value) {
    if changes["query_pre_attn_scalar"].is_null() {
        assert_candles(model, None);
    }
}

/// Only layers that see everything are stretched.
#[test]
fn local_positions_are_not_stretched() {
    let linear = json!({
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 9
    });
    let model = TinyModel::new("gemma3_text", &linear);
    let stretched: Vec<f64> = frequencies(&model).iter().map(|f| f / 8.0).collect();
    assert_plain(&Plain {
        frequencies: stretched.clone(),
        ..gemma3(&model, 9)
    });
    assert_same_as_gguf_with_pattern(&model);

    // The same in the words of newer files.
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
    assert_plain(&Plain {
        model: &newer,
        frequencies: stretched,
        ..gemma3(&model, 9)
    });
}

/// GGUF files of Gemma 3 have the window in five of six layers unless they say otherwise.
fn assert_same_as_gguf_with_pattern(model: &TinyModel) {
    use crate::compare::{TOLERANCE, all_ways, difference, engine};
    let safetensors = all_ways(&mut engine(model));
    let file = || GgufFile::of(model).with_scaling_and_window(model, Some(9));
    let mut flags = file();
    flags.flags(
        "gemma3.attention.sliding_window_pattern",
        &[true, false, true],
    );
    let mut every = file();
    every.number("gemma3.attention.sliding_window_pattern", 2);
    for file in [flags, every] {
        let gguf = all_ways(&mut gguf_engine(&file));
        for (gguf, safetensors) in gguf.iter().zip(&safetensors) {
            assert!(difference(gguf, safetensors) < TOLERANCE);
        }
    }
}

#[test]
fn gguf_and_safetensors_are_the_same_model() {
    assert_same_as_gguf(&TinyModel::new("gemma", &json!({})), None);
    let gemma2 = TinyModel::new("gemma2", &json!({"sliding_window": 7}));
    assert_same_as_gguf(&gemma2, Some(7));
    let seven = json!({
        "sliding_window": 7, "sliding_window_pattern": 6, "num_hidden_layers": 7
    });
    let mut long = TinyModel::new("gemma3_text", &seven);
    long.config["rope_theta"] = json!(1e6);
    assert_same_as_gguf(&long, Some(7));
}

/// A model that also sees has the tensors of text under names of their own.
#[test]
fn the_text_of_a_model_of_images_is_served() {
    use crate::compare::{all_ways, engine};
    let text = TinyModel::new("gemma3_text", &json!({}));
    let alone = all_ways(&mut engine(&text));
    for prefix in ["language_model.model.", "model.language_model."] {
        let mut outer = TinyModel::new("gemma3_text", &json!({}));
        outer.config = json!({"model_type": "gemma3", "text_config": text.config});
        outer.tensors = text
            .tensors
            .iter()
            .map(|(name, values)| (name.replacen("model.", prefix, 1), values.clone()))
            .collect();
        for other in ["vision_tower.a.weight", "model.multi_modal_projector.b"] {
            let norm = text.tensors["model.norm.weight"].clone();
            outer.tensors.insert(other.into(), norm);
        }
        assert!(all_ways(&mut engine(&outer)) == alone, "{prefix}");
    }
}
