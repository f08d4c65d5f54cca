//! Models of every family with a damaged value are rejected or computed, without a panic.

use diagnostics::Code;
use engine_candle::{LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use serde_json::{Value, json};

use crate::{
    gguf_file::GgufFile,
    tiny_model::{FAMILIES, PseudoRandom, TinyModel},
};

/// Loads the model at `path`. Returns true if it loads and computes some tokens.
fn load_and_run(path: &std::path::Path, what: &str) -> bool {
    let options = LoadOptions {
        threads: Some(1),
        kv_cache_bytes: Some(1 << 20),
        ..LoadOptions::default()
    };
    match load(path, options) {
        Ok(mut loaded) => {
            let description = loaded.engine.describe();
            let vocabulary = description.vocab_size as usize;
            let count = description.context_length.min(5);
            let batch = Batch {
                chunks: vec![Chunk {
                    sequence: SequenceId(0),
                    tokens: (0..count).collect(),
                    position: 0,
                    blocks: vec![BlockId(0)],
                    wants_logits: true,
                }],
            };
            let computed = loaded.engine.step(&batch);
            assert_eq!(computed.unwrap().values.len(), vocabulary, "{what}");
            true
        }
        Err(error) => {
            assert_ne!(error.code, Code::Internal, "{what}: {error}");
            assert!(error.hint.is_some(), "{what}: {error}");
            false
        }
    }
}

/// Returns a value that is near `old` or far from it.
fn damaged(random: &mut PseudoRandom, old: &Value) -> Value {
    let pick = ((random.next() + 0.5) * 9.0) as usize;
    match (pick, old.as_f64()) {
        (0, _) => json!(0),
        (1, _) => json!(1),
        (2, _) => json!(3),
        (3, _) => json!(-1),
        (4, _) => json!(u32::MAX),
        (5, Some(old)) => json!(old * 2.0),
        (6, Some(old)) => json!((old + 1.0) as u64),
        (7, _) => json!(0.3),
        _ => Value::Null,
    }
}

#[test]
fn damaged_configurations_do_not_panic() {
    let mut random = PseudoRandom(99);
    let (mut loaded, mut rejected) = (0, 0);
    for family in FAMILIES {
        let model = TinyModel::new(family, &json!({}));
        let directory = tempfile::tempdir().unwrap();
        model.write_to(directory.path());
        for key in model.config.as_object().unwrap().keys() {
            for _ in 0..3 {
                let mut config = model.config.clone();
                config[key] = damaged(&mut random, &model.config[key]);
                let what = format!("{family}, {key}: {}", config[key]);
                std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
                if load_and_run(directory.path(), &what) {
                    loaded += 1;
                } else {
                    rejected += 1;
                }
            }
        }
    }
    println!("{loaded} loaded, {rejected} rejected");
    assert!(loaded > 100 && rejected > 100);
}

#[test]
fn damaged_gguf_values_do_not_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    for family in FAMILIES {
        let model = TinyModel::new(family, &json!({}));
        for key in GgufFile::of(&model).number_keys() {
            for number in [0, 3, u32::MAX as usize] {
                let mut file = GgufFile::of(&model);
                file.replace_number(&key, number);
                file.write(&path);
                load_and_run(&path, &format!("{key}: {number}"));
            }
        }
    }
}

#[test]
fn rejects_wrong_tensor_shapes_by_name() {
    for family in FAMILIES {
        let model = TinyModel::new(family, &json!({}));
        for name in model.tensors.keys() {
            let mut tensors = model.tensors.clone();
            let values = tensors.get_mut(name).unwrap();
            // One row or element less.
            let row = values.numbers.len() / values.shape[0];
            values.shape[0] -= 1;
            values.numbers.truncate(row * values.shape[0]);
            let config = model.config.clone();
            let directory = tempfile::tempdir().unwrap();
            TinyModel { config, tensors }.write_to(directory.path());
            let error = load(directory.path(), LoadOptions::default())
                .err()
                .unwrap();
            assert_eq!(error.code, Code::InvalidModelFile, "{error}");
            assert!(error.message.contains(name), "{error}");
        }
    }
}

#[test]
fn rejects_vocabulary_larger_than_the_embedding() {
    let mut model = TinyModel::new("gemma3_text", &json!({}));
    model.config["vocab_size"] = json!(90);
    let embedding = model.tensors.get_mut("model.embed_tokens.weight").unwrap();
    embedding.shape[0] = 90;
    embedding.numbers.truncate(90 * 64);
    let directory = tempfile::tempdir().unwrap();
    model.write_to(directory.path());
    let gguf = directory.path().join("tiny.gguf");
    GgufFile::of(&model).write(&gguf);
    for path in [directory.path(), &gguf] {
        let error = load(path, LoadOptions::default()).err().unwrap();
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
        assert!(
            error.message.contains("96 tokens, but the model has 90"),
            "{error}"
        );
    }
    let mut without = GgufFile::of(&model);
    without.remove_value("tokenizer.ggml.model");
    without.write(&gguf);
    let error = load(&gguf, LoadOptions::default()).err().unwrap();
    assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    assert!(error.message.contains("tokenizer.ggml.model"), "{error}");
}
