//! Whatever bytes a model's files have: an error that is clear, or a header that holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod checks;

use std::{collections::BTreeMap, path::Path};

use checks::{GGUF_WORDS, JSON_WORDS, assert_clear, read_gguf, read_safetensors};
use fuzzing::Corpus;
use model_format::{header_from_config, inspect, shard_files};
use proptest::prelude::*;

fn corpus(name: &str, words: &[&'static str]) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder.join(name), words).unwrap()
}

#[test]
fn the_corpora_are_valid() {
    let gguf = corpus("gguf", &[]);
    let described = gguf.files().iter().filter(|file| read_gguf(file).is_ok());
    assert_eq!(described.count(), 2, "one has values only");
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
    fn damaged_gguf_is_refused_or_holds(file in corpus("gguf", GGUF_WORDS).damaged()) {
        checks::gguf(&file);
    }

    #[test]
    fn damaged_safetensors_are_refused_or_hold(
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        checks::safetensors(&file);
    }

    #[test]
    fn a_damaged_configuration_is_refused_or_holds(
        config in corpus("config", JSON_WORDS).damaged(),
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        checks::config(&config, &file);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(500))]

    /// As they lie on a disk.
    #[test]
    fn damaged_folders_are_refused_or_hold(
        index in corpus("index", JSON_WORDS).damaged(),
        config in corpus("config", JSON_WORDS).damaged(),
        shard in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("model.safetensors.index.json", &index);
        write("config.json", &config);
        write("model-00001-of-00002.safetensors", &shard);
        write("model-00002-of-00002.safetensors", &shard);
        for path in shard_files(folder.path()).unwrap_or_default() {
            prop_assert_eq!(path.parent(), Some(folder.path()));
        }
        if let Err(error) = inspect(folder.path()) {
            assert_clear(&error);
        }
    }
}
