//! GGUF headers: what the real file says, and that no damaged one panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::path::PathBuf;

use diagnostics::{Code, Diagnostic};
use model_format::{Biases, Gguf, ModelFormat, ModelHeader, RopeScaling, TensorType, inspect};
use proptest::prelude::*;

fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/haiku")
        .join(name)
}

fn q8_file() -> &'static [u8] {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| std::fs::read(model("rbee-haiku-tiny-q8_0.gguf")).unwrap())
}

/// Where the data of the first tensor begins.
fn header_bytes() -> usize {
    let gguf = Gguf::parse(q8_file()).unwrap();
    gguf.tensors().values().map(|t| t.offset).min().unwrap() as usize
}

fn assert_clear(error: &Diagnostic) {
    assert!(
        matches!(
            error.code,
            Code::InvalidModelFile | Code::UnsupportedQuantization
        ),
        "{error:?}"
    );
    assert!(error.hint.is_some(), "{error:?}");
}

/// A minimal file: metadata and tensor infos as given, then `data` bytes at the alignment.
struct Builder {
    version: u32,
    values: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

impl Builder {
    fn new() -> Self {
        Self {
            version: 3,
            values: vec![],
            tensors: vec![],
            data: 0,
        }
    }
    fn string(text: &str) -> Vec<u8> {
        let mut out = (text.len() as u64).to_le_bytes().to_vec();
        out.extend(text.as_bytes());
        out
    }
    fn value(mut self, key: &str, kind: u32, payload: &[u8]) -> Self {
        let mut out = Self::string(key);
        out.extend(kind.to_le_bytes());
        out.extend(payload);
        self.values.push(out);
        self
    }
    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let mut out = Self::string(name);
        out.extend((shape.len() as u32).to_le_bytes());
        for d in shape {
            out.extend(d.to_le_bytes());
        }
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        self.tensors.push(out);
        self
    }
    fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }
    fn build(self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        out.extend(self.values.concat());
        out.extend(self.tensors.concat());
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }
    fn error(self) -> Diagnostic {
        Gguf::parse(&self.build()).unwrap_err()
    }
}

#[test]
fn the_embedded_model_is_described() {
    for (file, quantization, bytes) in [
        ("rbee-haiku-tiny-q8_0.gguf", "Q8_0", 3_072_000..3_080_000),
        ("rbee-haiku-tiny-f16.gguf", "F16", 5_770_000..5_780_000),
    ] {
        let header = inspect(&model(file)).unwrap();
        assert!(bytes.contains(&header.weight_bytes), "{header:?}");
        assert_eq!(
            header,
            ModelHeader {
                format: ModelFormat::Gguf,
                name: Some("rbee-haiku-tiny".into()),
                architecture: "llama".into(),
                layers: 4,
                heads: 8,
                kv_heads: 4,
                head_dim: 32,
                embedding_length: 256,
                feed_forward_length: 512,
                vocab_size: 2048,
                context_length: 512,
                rope_theta: 10_000.0,
                rope_local_theta: None,
                rope_dimensions: 32,
                rope_scaling: RopeScaling::None,
                sliding_window: None,
                causal: true,
                attention_scale: None,
                attention_softcap: None,
                logit_softcap: None,
                experts: None,
                biases: Biases::default(),
                activation: None,
                rms_epsilon: Some(1e-5),
                tied_embeddings: true,
                quantization: quantization.into(),
                parameters: 2_885_888,
                weight_bytes: header.weight_bytes,
            }
        );
    }
}

#[test]
fn tensors_lie_where_the_file_says() {
    let file = q8_file();
    let gguf = Gguf::parse(file).unwrap();
    let (info, data) = gguf.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!(info.shape, [256, 512]);
    assert_eq!(info.kind, TensorType::Q8_0);
    assert_eq!(data.len(), 256 * 512 / 32 * 34);
    let last = gguf.tensors().values().map(|t| t.offset + t.bytes).max();
    assert!(last.unwrap() <= file.len() as u64);
    assert!(
        file.len() as u64 - last.unwrap() < 32,
        "only padding follows"
    );
    let missing = gguf.tensor("blk.9.nope").unwrap_err();
    assert!(missing.message.contains("blk.9.nope"), "{missing}");
}

#[test]
fn metadata_is_typed() {
    let gguf = Gguf::parse(q8_file()).unwrap();
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens.len(), tokens[3]), (2048, "!"));
    assert_eq!(gguf.bool("tokenizer.ggml.add_bos_token"), Ok(Some(false)));
    assert_eq!(gguf.u32("no.such.key"), Ok(None));
    let error = gguf.u32("general.architecture").unwrap_err();
    assert!(error.message.contains("expected an integer"), "{error}");
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let file = q8_file();
    let header = header_bytes();
    // Every cut in the interesting first part and around the end of the header, then steps.
    let cuts = (0..2500)
        .chain((2500..header).step_by(97))
        .chain(header - 40..header + 40);
    for cut in cuts.chain((header..file.len()).step_by(99_991)) {
        let error = Gguf::parse(&file[..cut]).expect_err("a cut file");
        assert_clear(&error);
        assert!(error.message.contains("byte"), "{error}");
    }
    // The file ends with padding behind the last tensor at the most.
    let error = Gguf::parse(&file[..file.len() - 32]).expect_err("a cut file");
    assert_clear(&error);
}

#[test]
fn another_kind_of_file_is_told_by_its_start() {
    for (file, start) in [
        (&b"%PDF-1.7\n\x1b[31m"[..], "`%PDF-1.7\\n\\u{1b}[31m`"),
        (b"GG!", "`GG!`"),
        (&[b'x'; 4096], "`xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`"),
    ] {
        let error = Gguf::parse(file).unwrap_err();
        assert_clear(&error);
        let message = format!("this is not a GGUF file: it begins with {start}");
        assert_eq!(error.message, message);
    }
    // Nothing tells that these were another kind of file.
    for cut in ["", "GGU"] {
        let error = Gguf::parse(cut.as_bytes()).unwrap_err();
        assert!(error.message.starts_with("damaged model file"), "{error}");
    }
}

#[test]
fn a_cut_file_names_its_place() {
    let error = Gguf::parse(&q8_file()[..30]).unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert!(error.message.contains("at byte"), "{error}");
    assert!(error.details.unwrap().contains_key("offset"));
}

#[test]
fn impossible_headers_are_refused() {
    let message = |b: Builder| b.error().message;
    let m = message(Builder {
        version: 1,
        ..Builder::new()
    });
    assert!(m.contains("version 2 or 3, found 1"), "{m}");
    let m = message(Builder {
        version: 3_u32.swap_bytes(),
        ..Builder::new()
    });
    assert!(m.contains("big-endian"), "{m}");
    let m = message(Builder::new().value("k", 13, &[0]));
    assert!(m.contains("value type of 0 to 12, found 13"), "{m}");
    let m = message(Builder::new().value("k", 7, &[2]));
    assert!(m.contains("bool of 0 or 1, found 2"), "{m}");
    let m = message(Builder::new().value("k", 8, &u64::MAX.to_le_bytes()));
    assert!(m.contains("18446744073709551615 bytes"), "{m}");
    let mut array = 4_u32.to_le_bytes().to_vec();
    array.extend((u64::MAX / 4).to_le_bytes());
    let m = message(Builder::new().value("k", 9, &array));
    assert!(m.contains("do not fit"), "{m}");
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes()]
        .concat()
        .repeat(9);
    let m = message(Builder::new().value("k", 9, &nested));
    assert!(m.contains("nested deeper"), "{m}");
    let m = message(Builder::new().value("k", 7, &[1]).value("k", 7, &[1]));
    assert!(m.contains("`k` occurs twice"), "{m}");
    let m = message(Builder::new().value("general.alignment", 4, &3_u32.to_le_bytes()));
    assert!(m.contains("power of two"), "{m}");
}

#[test]
fn impossible_tensors_are_refused() {
    let message = |b: Builder| b.error().message;
    let m = message(
        Builder::new()
            .tensor("t", &[1 << 40, 1 << 40], 0, 0)
            .data(64),
    );
    assert!(m.contains("impossible shape"), "{m}");
    let m = message(Builder::new().tensor("t", &[33], 8, 0).data(64));
    assert!(m.contains("impossible shape [33]"), "{m}");
    let m = message(Builder::new().tensor("t", &[0], 0, 0).data(64));
    assert!(m.contains("impossible shape"), "{m}");
    let m = message(Builder::new().tensor("t", &[1; 5], 0, 0).data(64));
    assert!(m.contains("5 dimensions"), "{m}");
    let m = message(Builder::new().tensor("t", &[8], 0, 4).data(64));
    assert!(m.contains("not a multiple of 32"), "{m}");
    let m = message(Builder::new().tensor("t", &[8], 0, u64::MAX - 31).data(64));
    assert!(m.contains("the file has"), "{m}");
    let m = message(Builder::new().tensor("t", &[8], 0, 64).data(64));
    assert!(m.contains("the file has"), "{m}");
    let m = message(
        Builder::new()
            .tensor("t", &[8], 0, 0)
            .tensor("t", &[8], 0, 0)
            .data(64),
    );
    assert!(m.contains("occurs twice"), "{m}");
    assert!(Gguf::parse(&Builder::new().tensor("t", &[8], 0, 32).data(64).build()).is_ok());
}

#[test]
fn a_type_without_kernels_is_named() {
    for (number, name) in [(20, "IQ4_NL"), (39, "MXFP4"), (77, "unknown (number 77)")] {
        let error = Builder::new()
            .tensor("blk.0.x", &[32], number, 0)
            .data(64)
            .error();
        assert_eq!(error.code, Code::UnsupportedQuantization);
        assert!(error.message.contains(name), "{error}");
        assert!(error.message.contains("blk.0.x"), "{error}");
        assert!(error.hint.unwrap().contains("Q4_K"));
    }
}

#[test]
fn a_header_larger_than_the_first_piece_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.gguf");
    // The key behind the large one is seen only when the whole header was read.
    let big = Builder::string(&"x".repeat(3 << 20));
    let file = Builder::new()
        .value("a", 8, &big)
        .value("general.architecture", 8, &Builder::string("odd"))
        .build();
    std::fs::write(&path, file).unwrap();
    let error = inspect(&path).unwrap_err();
    assert!(
        error.message.contains("odd.attention.head_count"),
        "{error}"
    );
    assert!(error.message.contains("big.gguf"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_header_bytes_never_panic(
        flips in prop::collection::vec((0..header_bytes(), 1..=255_u8), 1..4),
        early in prop::collection::vec((0..900_usize, 1..=255_u8), 0..3),
    ) {
        let mut file = q8_file()[..header_bytes()].to_vec();
        for (at, mask) in flips.into_iter().chain(early) {
            file[at] ^= mask;
        }
        match Gguf::parse_header(&file, q8_file().len() as u64) {
            Ok(gguf) => {
                let _ = ModelHeader::from_gguf(&gguf);
                for key in gguf.metadata().keys() {
                    let _ = (gguf.string(key), gguf.strings(key), gguf.f32s(key), gguf.i64s(key));
                }
            }
            Err(error) => assert_clear(&error),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Gguf::parse(&bytes);
        let head = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        bytes.splice(0..0, head.iter().copied());
        let _ = Gguf::parse(&bytes);
    }
}
