//! Damaged headers of each family are rejected or usable.

use diagnostics::{Code, Diagnostic};
use model_format::{ModelHeader, WindowedLayers, supported_architectures};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{File, config, parsed, string};

const FAMILIES: [&str; 11] = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gemma3",
];

/// Replacement values for keys of a `config.json`.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-4..300_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1e300)),
        "[a-z_0]{0,12}".prop_map(Value::from),
        prop::collection::vec(-1.0..9.0_f64, 0..5).prop_map(Value::from),
        prop::collection::vec("sliding_attention|full_attention|x", 0..5).prop_map(Value::from),
        Just(json!({"rope_type": "yarn", "factor": 0.0, "beta_fast": 0.0})),
        Just(json!({"rope_type": "llama3", "factor": -1.0})),
        Just(json!({"rope_type": "longrope", "short_factor": [], "long_factor": [0.0]})),
        Just(json!({"full_attention": {"full_attention": {}}, "sliding_attention": null})),
    ]
}

const KEYS: &[&str] = &[
    "model_type",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_local_base_freq",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "tie_word_embeddings",
    "hidden_act",
    "hidden_activation",
    "attention_bias",
    "use_bidirectional_attention",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "sliding_window",
    "sliding_window_pattern",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "num_local_experts",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
    "text_config",
];

/// Asserts that the sizes of an accepted header are in bounds and every layer is defined.
fn assert_usable(header: &ModelHeader) {
    // Another engine's model may lack them.
    let known = supported_architectures(header.format);
    let is_known = known.contains(&header.architecture.as_str());
    assert!(!is_known || header.layers > 0 && header.heads > 0 && header.head_dim > 0);
    for layer in [0, 1, 5, u32::MAX] {
        if let Some(window) = &header.sliding_window {
            assert!(window.tokens > 0);
            let unknown = matches!(window.layers, WindowedLayers::Other(_));
            assert_eq!(window.is_in(layer).is_err(), unknown);
        }
        if let Some(experts) = &header.experts {
            assert!(experts.used > 0 && experts.used <= experts.count);
            assert!(!experts.are_in(layer) || !experts.dense_layers.contains(&layer));
        }
    }
}

fn assert_input_error(error: &Diagnostic) {
    assert_eq!(error.code, Code::InvalidModelFile, "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_configs_are_rejected_or_usable(
        family in prop::sample::select(&FAMILIES),
        changes in prop::collection::vec((prop::sample::select(KEYS), any_value()), 1..5),
    ) {
        let mut config = config(family, &json!({}));
        for (key, value) in changes {
            config[key] = value;
        }
        match parsed(&config) {
            Ok(header) => assert_usable(&header),
            Err(error) => assert_input_error(&error),
        }
    }

    #[test]
    fn damaged_metadata_is_rejected_or_usable(
        family in prop::sample::select(&[
            "llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
        ]),
        changes in prop::collection::vec((
            prop::sample::select(&[
                "block_count", "attention.head_count", "attention.head_count_kv",
                "attention.key_length", "embedding_length", "feed_forward_length", "vocab_size",
                "context_length", "attention.sliding_window",
                "attention.sliding_window_pattern", "attention.causal", "expert_count",
                "expert_used_count", "expert_feed_forward_length", "expert_weights_norm",
                "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count",
                "rope.scaling.type", "rope.scaling.factor", "attn_logit_softcapping",
                "final_logit_softcapping",
            ]),
            prop_oneof![
                any::<u32>().prop_map(|n| (4, n.to_le_bytes().to_vec())),
                (0..9_u32).prop_map(|n| (4, n.to_le_bytes().to_vec())),
                any::<i64>().prop_map(|n| (11, n.to_le_bytes().to_vec())),
                any::<f32>().prop_map(|f| (6, f.to_le_bytes().to_vec())),
                any::<bool>().prop_map(|b| (7, vec![u8::from(b)])),
                "yarn|linear|none|longrope|x".prop_map(|t| (8, string(&t))),
                prop::collection::vec(0..2_u8, 0..6).prop_map(|flags| {
                    let count = (flags.len() as u64).to_le_bytes();
                    (9, [7_u32.to_le_bytes().as_slice(), &count, &flags].concat())
                }),
            ],
        ), 1..5),
    ) {
        let changed = changes.into_iter().fold(File::of(family), |file, (key, (kind, payload))| {
            file.own(key, kind, &payload)
        });
        match changed.header() {
            Ok(header) => assert_usable(&header),
            Err(error) => assert_input_error(&error),
        }
    }
}
