//! Damaged model files are rejected with a proper error, or have a consistent header.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod checks;

use std::{collections::BTreeMap, path::Path};

use checks::{GGUF_WORDS, JSON_WORDS, assert_input_error, read_gguf, read_safetensors};
use fuzzing::Corpus;
use model_format::{header_from_config, inspect, shard_files};
use proptest::prelude::*;

fn corpus(name: &str, words: &[&'static str]) -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory.join(name), words).unwrap()
}

#[test]
fn corpora_are_valid() {
    let gguf = corpus("gguf", &[]);
    let described = gguf.files().iter().filter(|file| read_gguf(file).is_ok());
    assert_eq!(described.count(), 2, "the third has metadata only");
    for file in corpus("safetensors", &[]).files() {
        read_safetensors(file).unwrap();
    }
    for file in corpus("config", &[]).files() {
        header_from_config(file, &BTreeMap::new()).unwrap();
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(4000))]

    #[test]
    fn damaged_gguf_is_rejected_or_consistent(file in corpus("gguf", GGUF_WORDS).damaged()) {
        checks::gguf(&file);
    }

    #[test]
    fn damaged_safetensors_are_rejected_or_consistent(
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        checks::safetensors(&file);
    }

    #[test]
    fn damaged_configs_are_rejected_or_valid(
        config in corpus("config", JSON_WORDS).damaged(),
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        checks::config(&config, &file);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(500))]

    #[test]
    fn damaged_directories_are_rejected_or_valid(
        index in corpus("index", JSON_WORDS).damaged(),
        config in corpus("config", JSON_WORDS).damaged(),
        shard in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        write("model.safetensors.index.json", &index);
        write("config.json", &config);
        write("model-00001-of-00002.safetensors", &shard);
        write("model-00002-of-00002.safetensors", &shard);
        for path in shard_files(directory.path()).unwrap_or_default() {
            prop_assert_eq!(path.parent(), Some(directory.path()));
        }
        if let Err(error) = inspect(directory.path()) {
            assert_input_error(&error);
        }
    }
}
