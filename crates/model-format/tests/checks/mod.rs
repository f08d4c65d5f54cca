//! Properties that hold for every model file, however damaged.

use diagnostics::{Code, Diagnostic};
use model_format::{Gguf, ModelHeader, Safetensors, header_from_config, supported_architectures};

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

/// Asserts that an error blames the input, has a hint and contains no control characters.
pub fn assert_input_error(error: &Diagnostic) {
    let known = [
        Code::InvalidModelFile,
        Code::UnsupportedQuantization,
        Code::ModelNotFound,
        // An invalid file name.
        Code::StateUnusable,
    ];
    assert!(known.contains(&error.code), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    let printable = |c: char| c == '\n' || !c.is_control();
    assert!(error.message.chars().all(printable), "{error:?}");
}

/// Reads a GGUF file like a loader, and asserts that its values are consistent.
pub fn read_gguf(file: &[u8]) -> Result<ModelHeader, Diagnostic> {
    let gguf = Gguf::parse(file)?;
    for (name, info) in gguf.tensors() {
        let (_, data) = gguf.tensor(name).unwrap();
        assert_eq!(data.len() as u64, info.bytes);
        let blocks = info.elements() / info.kind.block_size();
        assert_eq!(info.bytes, blocks * info.kind.block_bytes());
    }
    for key in gguf.metadata().keys() {
        // A value has at most one type.
        let found = [
            gguf.string(key).is_ok(),
            gguf.u32(key).is_ok(),
            gguf.f32(key).is_ok(),
            gguf.bool(key).is_ok(),
            gguf.array(key).is_ok(),
        ];
        assert!(found.into_iter().filter(|found| *found).count() <= 1);
        let lengths = [
            gguf.strings(key).map(|items| items.unwrap().len()),
            gguf.i64s(key).map(|items| items.unwrap().len()),
            gguf.f32s(key).map(|items| items.unwrap().len()),
        ];
        let array = gguf.array(key).ok().flatten();
        for length in lengths.into_iter().flatten() {
            assert_eq!(Some(length), array.map(|array| array.len()));
        }
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

/// A GGUF file is rejected or consistent.
pub fn gguf(file: &[u8]) {
    if let Err(error) = read_gguf(file) {
        assert_input_error(&error);
    }
    // Half of the bytes suffice only if they contain the entire header.
    let half = Gguf::parse_header(&file[..file.len() / 2], file.len() as u64);
    assert!(half.is_err() || Gguf::parse(file).is_ok());
}

/// A safetensors file is rejected or consistent.
pub fn safetensors(file: &[u8]) {
    if let Err(error) = read_safetensors(file) {
        assert_input_error(&error);
    }
}

/// A `config.json` is rejected or valid, combined with the tensors of `file`. Not everything is known
/// of a model that only other engines run.
pub fn config(config: &[u8], file: &[u8]) {
    let tensors = read_safetensors(file).map(|file| file.tensors().clone());
    match header_from_config(config, &tensors.unwrap_or_default()) {
        Ok(header) => {
            let known = supported_architectures(header.format);
            let is_known = known.contains(&header.architecture.as_str());
            assert!(!is_known || header.heads > 0 && header.head_dim > 0);
        }
        Err(error) => assert_input_error(&error),
    }
}
