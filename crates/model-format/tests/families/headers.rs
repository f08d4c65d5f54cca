//! Headers of each family.

use diagnostics::Code;
use model_format::{
    Experts, LongRopeFactors, ModelHeader, RopeScaling, WindowedLayers, text_tensor_name,
};
use serde_json::json;

use crate::samples::{File, config, parsed};

fn windowed(header: &ModelHeader) -> Vec<bool> {
    let window = header.sliding_window.as_ref().unwrap();
    (0..7).map(|layer| window.is_in(layer).unwrap()).collect()
}

const FIVE_OF_SIX: [bool; 7] = [true, true, true, true, true, false, true];
const EVERY_OTHER: [bool; 7] = [true, false, true, false, true, false, true];

#[test]
fn gemma_gguf_defaults() {
    let two = File::of("gemma2").header().unwrap();
    assert_eq!(
        (two.attention_softcap, two.logit_softcap),
        (Some(50.0), Some(30.0))
    );
    assert_eq!(two.sliding_window.as_ref().unwrap().tokens, 4096);
    assert_eq!(windowed(&two), EVERY_OTHER);
    assert_eq!(two.attention_scale, None);
    assert_eq!(two.rope_local_theta, None);
    let without = File::of("gemma2").float("attn_logit_softcapping", 0.0);
    assert_eq!(without.header().unwrap().attention_softcap, None);

    let three = File::of("gemma3").number("attention.sliding_window", 512);
    let header = three.header().unwrap();
    assert_eq!(
        (header.attention_softcap, header.logit_softcap),
        (None, None)
    );
    assert_eq!(windowed(&header), FIVE_OF_SIX);
    assert_eq!(header.rope_local_theta, Some(10_000.0));
    let other = File::of("gemma3").float("rope.freq_base_swa", 5e3);
    assert_eq!(other.header().unwrap().rope_local_theta, Some(5e3));

    // The largest models, identified by their number of layers.
    for (family, layers) in [("gemma2", 46), ("gemma3", 62)] {
        let header = File::of(family).number("block_count", layers).header();
        assert_eq!(header.unwrap().attention_scale, Some(1.0 / 12_f32.sqrt()));
    }
}

#[test]
fn gemma_gguf_sliding_window_patterns() {
    let with = |value: fn(File) -> File| {
        let file = File::of("gemma3").number("attention.sliding_window", 512);
        let header = value(file).header().unwrap();
        header.sliding_window.unwrap().layers
    };
    let key = "attention.sliding_window_pattern";
    assert_eq!(
        with(|f| f.number("attention.sliding_window_pattern", 2)),
        WindowedLayers::AllButEvery(2)
    );
    assert_eq!(
        with(|f| f.flags("attention.sliding_window_pattern", &[1, 0, 0, 1])),
        WindowedLayers::Listed(vec![true, false, false, true])
    );
    // A list of the wrong length, and a value of the wrong type.
    let other = WindowedLayers::Other(format!("gemma3.{key}"));
    assert_eq!(
        with(|f| f.flags("attention.sliding_window_pattern", &[1, 0, 0])),
        other
    );
    assert_eq!(
        with(|f| f.float("attention.sliding_window_pattern", 2.0)),
        other
    );
}

#[test]
fn gemma_config_defaults() {
    let two = parsed(&config("gemma2", &json!({}))).unwrap();
    assert!(two.tied_embeddings);
    assert_eq!((two.head_dim, two.kv_heads), (256, 4));
    assert_eq!(two.attention_scale, Some(1.0 / 16.0));
    assert_eq!(two.attention_softcap, Some(50.0));
    assert_eq!(windowed(&two), EVERY_OTHER);
    let uncapped = config("gemma2", &json!({"final_logit_softcapping": null}));
    assert_eq!(parsed(&uncapped).unwrap().logit_softcap, None);

    let three = parsed(&config("gemma3_text", &json!({}))).unwrap();
    assert_eq!(windowed(&three), FIVE_OF_SIX);
    assert_eq!(three.rope_theta, 1e6);
    assert_eq!(three.rope_local_theta, Some(1e4));
    // `hidden_act` is wrong in old files.
    let old = config("gemma", &json!({"hidden_act": "gelu"}));
    assert_eq!(parsed(&old).unwrap().activation, None);

    // The text model of a multimodal model is nested and omits most keys.
    let multimodal = json!({
        "model_type": "gemma3", "vision_config": {},
        "text_config": {
            "num_hidden_layers": 34, "hidden_size": 2560, "intermediate_size": 10240,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        }
    });
    let header = parsed(&multimodal).unwrap();
    assert_eq!(header.architecture, "gemma3_text");
    assert_eq!((header.heads, header.vocab_size), (8, 262_208));
    assert_eq!(header.rope_scaling, RopeScaling::Linear { factor: 8.0 });
}

#[test]
fn gemma3_config_has_separate_rope_for_windowed_layers() {
    let config = config(
        "gemma3_text",
        &json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 7e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}
        }}),
    );
    let header = parsed(&config).unwrap();
    assert_eq!(header.rope_theta, 7e5);
    assert_eq!(header.rope_scaling, RopeScaling::Linear { factor: 4.0 });
    assert_eq!(header.rope_local_theta, Some(5e3));
}

#[test]
fn phi3_config_long_rope() {
    let rope = |kind: &str| {
        json!({
            "original_max_position_embeddings": 250, "partial_rotary_factor": 0.5,
            "rope_scaling": {"type": kind, "short_factor": [1.0], "long_factor": [2.0]}
        })
    };
    for kind in ["longrope", "su", "yarn"] {
        let header = parsed(&config("phi3", &rope(kind))).unwrap();
        assert_eq!(header.rope_dimensions, 6);
        assert_eq!(header.context_length, 1000);
        let RopeScaling::LongRope {
            original_context_length,
            attention_factor,
            factors,
        } = header.rope_scaling
        else {
            panic!("{:?}", header.rope_scaling);
        };
        assert_eq!(original_context_length, 250);
        let expected = (1.0 + 4_f32.ln() / 250_f32.ln()).sqrt();
        assert!((attention_factor - expected).abs() < 1e-6);
        let (short, long) = (vec![1.0], vec![2.0]);
        assert_eq!(factors, Some(LongRopeFactors { short, long }));
    }
    let without = json!({"rope_scaling": {"type": "longrope", "factor": 4.0}});
    let header = parsed(&config("phi3", &without)).unwrap();
    assert_eq!(header.rope_scaling, RopeScaling::Other("longrope".into()));
}

#[test]
fn reads_experts() {
    let file = File::of("llama")
        .number("expert_count", 8)
        .number("expert_used_count", 2);
    let mixtral = Experts {
        count: 8,
        used: 2,
        feed_forward_length: 64,
        normalized: true,
        every: 1,
        dense_layers: vec![],
    };
    assert_eq!(file.header().unwrap().experts.as_ref(), Some(&mixtral));
    assert_eq!(File::of("llama").header().unwrap().experts, None);
    let none = File::of("llama").number("expert_count", 0).header();
    assert_eq!(none.unwrap().experts, None);
    // Defaults of the family.
    let of_config = parsed(&config("mixtral", &json!({}))).unwrap();
    assert_eq!(of_config.experts, Some(mixtral.clone()));
    assert_eq!(of_config.rope_theta, 1e6);

    let qwen = json!({
        "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 32,
        "decoder_sparse_step": 2, "mlp_only_layers": [3]
    });
    let experts = parsed(&config("qwen3_moe", &qwen))
        .unwrap()
        .experts
        .unwrap();
    assert_eq!((experts.count, experts.used), (16, 4));
    assert_eq!(experts.feed_forward_length, 32);
    assert!(!experts.normalized);
    let layers: Vec<u32> = (0..7).filter(|layer| experts.are_in(*layer)).collect();
    assert_eq!(layers, [1, 5]);

    let file = File::of("qwen3moe").number("expert_used_count", 2);
    let error = file.header().unwrap_err();
    assert_eq!(
        error.message,
        "the model file has no key `qwen3moe.expert_count`"
    );
    for (count, used, expected) in [
        (8, 0, "experts per token = 0, expected 1 to 8"),
        (8, 9, "experts per token = 9, expected 1 to 8"),
        (5000, 2, "experts = 5000, expected 1 to 4096"),
    ] {
        let file = File::of("qwen3moe")
            .number("expert_count", count)
            .number("expert_used_count", used);
        let error = file.header().unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
        let expected = format!("invalid header of the qwen3moe model: {expected}");
        assert_eq!(error.message, expected);
    }
}

#[test]
fn rejects_scales_and_soft_caps_that_are_not_positive() {
    for (key, value, expected) in [
        ("query_pre_attn_scalar", json!(0), "attention scale = inf"),
        ("query_pre_attn_scalar", json!(-4), "attention scale = NaN"),
        (
            "attn_logit_softcapping",
            json!(-50),
            "attention soft cap = -50",
        ),
        (
            "final_logit_softcapping",
            json!(1e60),
            "logit soft cap = inf",
        ),
    ] {
        let error = parsed(&config("gemma2", &json!({key: value}))).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert_eq!(
            error.message,
            format!("invalid header of the gemma2 model: {expected}, expected a positive number")
        );
    }
}

#[test]
fn text_tensor_names_of_multimodal_models() {
    for (name, expected) in [
        ("model.norm.weight", Some("model.norm.weight")),
        ("lm_head.weight", Some("lm_head.weight")),
        ("language_model.lm_head.weight", Some("lm_head.weight")),
        (
            "language_model.model.norm.weight",
            Some("model.norm.weight"),
        ),
        (
            "model.language_model.norm.weight",
            Some("model.norm.weight"),
        ),
        ("vision_tower.x", None),
        ("model.vision_tower.x", None),
        ("multi_modal_projector.x", None),
        ("model.multi_modal_projector.x", None),
        ("", Some("")),
    ] {
        assert_eq!(text_tensor_name(name).as_deref(), expected, "{name}");
    }
}
