//! Headers that are read in steps, and the memory that a model needs by its header.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use diagnostics::Code;
use model_format::{Gguf, KvType, MemoryNeeds, ModelHeader, PartName, Prefix, inspect};
use proptest::prelude::*;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/rbee-haiku-tiny-q8_0.gguf")
}

fn file() -> &'static [u8] {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| std::fs::read(path()).unwrap())
}

#[test]
fn the_beginning_of_a_file_suffices_in_few_steps() {
    let (file, mut known, mut steps) = (file(), 16, 0);
    let header = loop {
        match Gguf::parse_prefix(&file[..known], file.len() as u64).unwrap() {
            Prefix::Complete(gguf) => break ModelHeader::from_gguf(&gguf).unwrap(),
            Prefix::Needs(bytes) => known = (bytes as usize).max(2 * known),
        }
        steps += 1;
    };
    assert_eq!(header, inspect(&path()).unwrap());
    assert!(known < file.len() / 2, "{known}");
    assert!(steps < 20, "{steps}");
}

#[test]
fn counts_that_the_file_cannot_have_are_refused_at_once() {
    let mut head = file()[..64].to_vec();
    head[8..16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let error = Gguf::parse_prefix(&head, 1 << 30).unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert!(error.message.contains("1099511627776 tensors"), "{error}");

    // A prefix without any damage needs more bytes, but not more than the file has.
    assert!(matches!(
        Gguf::parse_prefix(b"GGUF", 4096).unwrap(),
        Prefix::Needs(8)
    ));
    assert!(Gguf::parse_prefix(b"GGUF", 4).is_err());
}

#[test]
fn memory_is_that_of_weights_and_cache() {
    // 4 layers, 4 key-value heads of 32 dimensions, 512 tokens.
    let header = inspect(&path()).unwrap();
    let needs = |kv| MemoryNeeds::new(&header, kv);
    assert_eq!(needs(KvType::F32).kv_bytes_per_token, 4 * 2 * 4 * 32 * 4);
    assert_eq!(needs(KvType::F16).kv_bytes_per_token, 4 * 2 * 4 * 32 * 2);
    assert_eq!(needs(KvType::Q8_0).kv_bytes_per_token, 4 * 2 * 4 * 34);

    let needs = needs(KvType::F16);
    let weights = header.weight_bytes;
    for (memory, tokens) in [
        (0, None),
        (weights, None),
        (weights + 15 * 2048, None),
        (weights + 16 * 2048, Some(16)),
        (weights + 47 * 2048, Some(32)),
        (u64::MAX, Some(512)),
    ] {
        assert_eq!(needs.context_in(memory), tokens, "{memory}");
    }
    assert_eq!(needs.bytes(17), weights + 32 * 2048);
}

proptest! {
    #[test]
    fn a_sequence_that_fits_needs_at_most_the_memory(memory in 0..1_u64 << 26) {
        let needs = MemoryNeeds::new(&inspect(&path()).unwrap(), KvType::OF_ENGINE);
        if let Some(tokens) = needs.context_in(memory) {
            prop_assert!(needs.bytes(tokens) <= memory);
            if tokens < needs.context_length {
                prop_assert!(needs.bytes(tokens + 1) > memory);
            }
        }
    }

    #[test]
    fn a_cut_header_needs_more_than_is_known(cut in 0..60_000_usize) {
        let file = file();
        match Gguf::parse_prefix(&file[..cut], file.len() as u64) {
            Ok(Prefix::Needs(bytes)) => {
                prop_assert!(bytes > cut as u64);
                prop_assert!(bytes <= file.len() as u64);
            }
            Ok(Prefix::Complete(_)) => prop_assert!(Gguf::parse_header(&file[..cut], file.len() as u64).is_ok()),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn names_of_parts_lead_to_each_other(stem in "[a-zA-Z.-]{1,10}", count in 1..50_usize, at in 0..50_usize) {
        let part = at % count + 1;
        let name = format!("{stem}-{part:05}-of-{count:05}.gguf");
        let parsed = PartName::parse(&name).unwrap();
        prop_assert_eq!((parsed.stem, parsed.part, parsed.count), (stem.as_str(), part, count));
        prop_assert_eq!(parsed.of_part(part), name);
    }
}
