//! What holds for whatever bytes a model's files have.

use diagnostics::{Code, Diagnostic};
use model_format::{Gguf, ModelHeader, Safetensors, header_from_config};

pub const GGUF_WORDS: &[&str] = &[
    "GGUF",
    "general.architecture",
    "llama.block_count",
    "\x08\0\0\0",
    "\x09\0\0\0",
    "\x01\0\0\0\0\0\0\0",
];
pub const JSON_WORDS: &[&str] = &[
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

pub fn assert_clear(error: &Diagnostic) {
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
pub fn read_gguf(file: &[u8]) -> Result<ModelHeader, Diagnostic> {
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

pub fn read_safetensors(file: &[u8]) -> Result<Safetensors, Diagnostic> {
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

/// A GGUF file is refused or holds.
pub fn gguf(file: &[u8]) {
    if let Err(error) = read_gguf(file) {
        assert_clear(&error);
    }
    // The first bytes alone say the same or less.
    let _ = Gguf::parse_header(&file[..file.len() / 2], file.len() as u64);
}

/// A safetensors file is refused or holds.
pub fn safetensors(file: &[u8]) {
    if let Err(error) = read_safetensors(file) {
        assert_clear(&error);
    }
}

/// A configuration is refused or holds, beside the tensors of that file.
pub fn config(config: &[u8], file: &[u8]) {
    let tensors = read_safetensors(file).map(|file| file.tensors().clone());
    match header_from_config(config, &tensors.unwrap_or_default()) {
        Ok(header) => assert!(header.heads > 0 && header.head_dim > 0),
        Err(error) => assert_clear(&error),
    }
}
