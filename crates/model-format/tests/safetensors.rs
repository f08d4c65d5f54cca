//! Safetensors headers and model directories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{collections::BTreeMap, path::PathBuf};

use diagnostics::{Code, Diagnostic};
use model_format::{
    ElementType, RopeScaling, Safetensors, WeightFormat, WindowedLayers, header_from_config,
    inspect, shard_files,
};
use proptest::prelude::*;

fn haiku() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku")
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

fn parse(header: &str, data: usize) -> Result<Safetensors, Diagnostic> {
    let file = file(header, data);
    Safetensors::parse_header(&file, file.len() as u64)
}

#[test]
fn inspects_embedded_model() {
    let header = inspect(&haiku()).unwrap();
    assert_eq!(header.format, WeightFormat::Safetensors);
    assert_eq!(header.architecture, "llama");
    assert_eq!(header.quantization, "F16");
    assert_eq!(header.parameters, 2_885_888);
    assert_eq!(header.weight_bytes, 2 * 2_885_888);
    assert_eq!((header.layers, header.heads, header.kv_heads), (4, 8, 4));
    assert!(header.tied_embeddings);
}

#[test]
fn tensor_offsets_include_the_header() {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}"#;
    let parsed = parse(header, 10).unwrap();
    let a = &parsed.tensors()["a"];
    assert_eq!(a.offset, 8 + header.len() as u64);
    assert_eq!(
        (a.shape.as_slice(), a.kind, a.bytes),
        ([2, 1].as_slice(), ElementType::F32, 8)
    );
    assert_eq!(parsed.tensors()["b"].bytes, 2);
}

#[test]
fn rejects_invalid_headers() {
    for (header, expected) in [
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            "tensor `a` of shape [2] and type F32 does not fill the bytes 0 to 4",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            "tensor `a` of shape [2] and type F32 does not fill the bytes 8 to 0",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            "tensor `a` ends at byte 63 + 16, but the file has 71",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            "tensor `a` of shape [4294967296, 4294967296] and type F32 does not fill the bytes 0 to 8",
        ),
        (
            r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}}"#,
            "tensors `a` and `b` overlap",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            "invalid description of tensor `a`: invalid value: integer `-1`, expected u64",
        ),
        (
            r#"{"a":3}"#,
            "invalid description of tensor `a`: invalid type: integer `3`, expected struct RawTensor",
        ),
        (
            "not json",
            "cannot parse the header: expected ident at line 1 column 2",
        ),
    ] {
        let error = parse(header, 8).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        let (place, message) = error.message.split_once(": ").unwrap();
        assert!(place.starts_with("damaged model file at byte "), "{error}");
        assert_eq!(message, expected);
    }
    let foreign = parse(
        r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#,
        8,
    );
    let error = foreign.unwrap().check_types().unwrap_err();
    assert_eq!(error.code, Code::UnsupportedQuantization);
    assert_eq!(error.message, "tensor `a` has the unsupported type F8_E4M3");
    let unknown = r#"{"a":{"dtype":"F3","shape":[8],"data_offsets":[0,3]}}"#;
    let error = parse(unknown, 3).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedQuantization);
    for bytes in [vec![], vec![1, 2, 3], u64::MAX.to_le_bytes().to_vec()] {
        let error = Safetensors::parse_header(&bytes, bytes.len() as u64).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    }
}

#[test]
fn finds_shards_only_within_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("model.safetensors.index.json");
    let error = shard_files(directory.path()).unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);

    std::fs::write(
        &index,
        r#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"}}"#,
    )
    .unwrap();
    let found = shard_files(directory.path()).unwrap();
    assert_eq!(
        found,
        ["1.safetensors", "2.safetensors"].map(|n| directory.path().join(n))
    );

    for name in ["../x.safetensors", "/etc/passwd", "..", "", "a/b"] {
        std::fs::write(&index, format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#)).unwrap();
        let error = shard_files(directory.path()).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{name}");
    }
}

#[test]
fn names_missing_files() {
    let directory = tempfile::tempdir().unwrap();
    let error = inspect(directory.path()).unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);
    let missing = |name: &str| format!("{} does not exist", directory.path().join(name).display());
    assert_eq!(error.message, missing("config.json"));
    let error = inspect(&directory.path().join("x.gguf")).unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);
    assert_eq!(error.message, missing("x.gguf"));
}

#[test]
fn reads_rope_scaling_in_both_spellings() {
    let config = |rope: &str| {
        format!(
            r#"{{"model_type":"llama","num_hidden_layers":1,"num_attention_heads":2,"hidden_size":8,
            "intermediate_size":8,"vocab_size":9,"max_position_embeddings":10,{rope}}}"#
        )
    };
    let llama3 = r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192"#;
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context_length: 8192,
    };
    for rope in [
        format!(r#""rope_theta":5e5,"rope_scaling":{{{llama3}}}"#),
        format!(r#""rope_parameters":{{{llama3},"rope_theta":5e5}}"#),
    ] {
        let header = header_from_config(config(&rope).as_bytes(), &BTreeMap::new()).unwrap();
        assert_eq!(header.rope_theta, 5e5);
        assert_eq!(header.rope_scaling, expected);
        assert_eq!(header.head_dim, 4);
    }
    let yarn = config(r#""rope_scaling":{"type":"yarn","factor":2.0,"attention_factor":1.5}"#);
    let header = header_from_config(yarn.as_bytes(), &BTreeMap::new()).unwrap();
    let expected = RopeScaling::Yarn {
        factor: 2.0,
        original_context_length: 10,
        beta_fast: 32.0,
        beta_slow: 1.0,
        whole_bounds: true,
        attention_factor: 1.5,
    };
    assert_eq!(header.rope_scaling, expected);
    // Such files often declare the training context.
    assert_eq!(header.context_length, 20);
    let other = config(r#""rope_scaling":{"type":"dynamic","factor":2.0}"#);
    let header = header_from_config(other.as_bytes(), &BTreeMap::new()).unwrap();
    assert_eq!(header.rope_scaling, RopeScaling::Other("dynamic".into()));
}

#[test]
fn sliding_windows_depend_on_the_family() {
    let window = |family: &str, keys: &str| {
        let json = format!(
            r#"{{"model_type":"{family}","num_hidden_layers":2,"num_attention_heads":2,"hidden_size":8,
            "intermediate_size":8,"vocab_size":9,"max_position_embeddings":10{keys}}}"#
        );
        let header = header_from_config(json.as_bytes(), &BTreeMap::new()).unwrap();
        header.sliding_window.map(|w| (w.tokens, w.layers))
    };
    let everywhere = WindowedLayers::From(0);
    assert_eq!(window("llama", r#","sliding_window":5"#), None);
    assert_eq!(window("mistral", r#","sliding_window":null"#), None);
    // The default of the family.
    assert_eq!(window("mistral", ""), Some((4096, everywhere.clone())));
    assert_eq!(
        window("mistral", r#","sliding_window":5"#),
        Some((5, everywhere))
    );
    assert_eq!(window("qwen2", r#","sliding_window":5"#), None);
    let used = r#","sliding_window":5,"use_sliding_window":true"#;
    let keys = format!(r#"{used},"max_window_layers":1"#);
    assert_eq!(window("qwen3", &keys), Some((5, WindowedLayers::From(1))));
    let keys = format!(r#"{used},"layer_types":["full_attention","sliding_attention"]"#);
    let listed = WindowedLayers::Listed(vec![false, true]);
    assert_eq!(window("qwen3", &keys), Some((5, listed)));
}

proptest! {
    #[test]
    fn damaged_headers_are_rejected_or_valid(
        flips in prop::collection::vec((0..4000_usize, 1..=255_u8), 1..4),
        cut in 0..4100_usize,
    ) {
        let file = std::fs::read(haiku().join("model.safetensors")).unwrap();
        let length = Safetensors::header_length(&file, file.len() as u64).unwrap() as usize;
        let mut head = file[..length].to_vec();
        for (at, mask) in flips {
            head[at % length] ^= mask;
        }
        if let Err(error) = Safetensors::parse_header(&head, file.len() as u64) {
            let codes = [Code::InvalidModelFile, Code::UnsupportedQuantization];
            prop_assert!(codes.contains(&error.code) && error.hint.is_some(), "{error:?}");
        }
        let cut = cut % length;
        prop_assert!(Safetensors::parse_header(&file[..cut], cut as u64).is_err());
    }
}
