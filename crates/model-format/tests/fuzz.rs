//! Whatever bytes a model's files have: an error that is clear, or a header that holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::{collections::BTreeMap, path::Path};

use diagnostics::{Code, Diagnostic};
use fuzzing::Corpus;
use model_format::{Gguf, ModelHeader, Safetensors, header_from_config, inspect, shard_files};
use proptest::prelude::*;

fn corpus(name: &str, words: &[&'static str]) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder.join(name), words).unwrap()
}

const GGUF_WORDS: &[&str] = &[
    "GGUF",
    "general.architecture",
    "llama.block_count",
    "\x08\0\0\0",
    "\x09\0\0\0",
    "\x01\0\0\0\0\0\0\0",
];
const JSON_WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e999",
    "4294967296",
    "18446744073709551615",
    "{}",
    "[]",
    "[[[[",
    "\"\"",
    "\"\\u0000\"",
    ",",
    "\"..\"",
    "\"a/b\"",
    "\"head_dim\":0,",
    "true",
    "1.5",
];

fn assert_clear(error: &Diagnostic) {
    let known = [
        Code::InvalidModelFile,
        Code::UnsupportedQuantization,
        Code::ModelNotFound,
        // A name that no file system takes.
        Code::StateUnusable,
    ];
    assert!(known.contains(&error.code), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    let printable = |c: char| c == '\n' || !c.is_control();
    assert!(error.message.chars().all(printable), "{error:?}");
}

/// Everything that a loader asks of a GGUF file.
fn read_gguf(file: &[u8]) -> Result<ModelHeader, Diagnostic> {
    let gguf = Gguf::parse(file)?;
    for (name, info) in gguf.tensors() {
        let (_, data) = gguf.tensor(name).unwrap();
        assert_eq!(data.len() as u64, info.bytes);
        let blocks = info.elements() / info.kind.block_size();
        assert_eq!(info.bytes, blocks * info.kind.block_bytes());
    }
    for key in gguf.metadata().keys() {
        // Every value is of one kind at the most.
        let found = [
            gguf.string(key).is_ok(),
            gguf.u32(key).is_ok(),
            gguf.f32(key).is_ok(),
            gguf.bool(key).is_ok(),
            gguf.array(key).is_ok(),
        ];
        assert!(found.into_iter().filter(|found| *found).count() <= 1);
        let _ = (gguf.strings(key), gguf.i64s(key), gguf.f32s(key));
    }
    ModelHeader::from_gguf(&gguf)
}

fn read_safetensors(file: &[u8]) -> Result<Safetensors, Diagnostic> {
    let length = file.len() as u64;
    let header = Safetensors::parse_header(file, length)?;
    for tensor in header.tensors().values() {
        assert!(tensor.offset + tensor.bytes <= length);
        assert_eq!(
            tensor.bytes,
            tensor.shape.iter().product::<u64>() * tensor.kind.bytes()
        );
    }
    Ok(header)
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
        if let Err(error) = read_gguf(&file) {
            assert_clear(&error);
        }
        // The first bytes alone say the same or less.
        let _ = Gguf::parse_header(&file[..file.len() / 2], file.len() as u64);
    }

    #[test]
    fn damaged_safetensors_are_refused_or_hold(
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        if let Err(error) = read_safetensors(&file) {
            assert_clear(&error);
        }
    }

    #[test]
    fn a_damaged_configuration_is_refused_or_holds(
        config in corpus("config", JSON_WORDS).damaged(),
        file in corpus("safetensors", JSON_WORDS).damaged(),
    ) {
        let tensors = read_safetensors(&file).map(|file| file.tensors().clone());
        match header_from_config(&config, &tensors.unwrap_or_default()) {
            Ok(header) => prop_assert!(header.heads > 0 && header.head_dim > 0),
            Err(error) => assert_clear(&error),
        }
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
