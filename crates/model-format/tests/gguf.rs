//! GGUF headers: the embedded model, and damaged files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::path::PathBuf;

use diagnostics::{Code, Diagnostic};
use model_format::{
    Biases, Gguf, GgufFile, ModelHeader, RecommendedSampling, RopeScaling, TensorType,
    WeightFormat, inspect, parse_gguf_parts,
};
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

/// Size of the header: the offset of the first tensor's data.
fn header_bytes() -> usize {
    let gguf = Gguf::parse(q8_file()).unwrap();
    gguf.tensors().values().map(|t| t.offset).min().unwrap() as usize
}

fn assert_input_error(error: &Diagnostic) {
    assert!(
        matches!(
            error.code,
            Code::InvalidModelFile | Code::UnsupportedQuantization
        ),
        "{error:?}"
    );
    assert!(error.hint.is_some(), "{error:?}");
}

/// Builder of a minimal file: metadata and tensor infos, then `data` bytes of aligned data.
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
fn a_model_of_another_engine_is_described_as_far_as_it_is_in_the_usual_form() {
    let text = |text: &str| Builder::string(text);
    let file = Builder::new()
        .value("general.architecture", 8, &text("mamba"))
        .value("mamba.block_count", 4, &24_u32.to_le_bytes())
        // An array where other families have a number.
        .value("mamba.attention.head_count", 9, &{
            let mut array = 4_u32.to_le_bytes().to_vec();
            array.extend(1_u64.to_le_bytes());
            array.extend(7_u32.to_le_bytes());
            array
        })
        .tensor("token_embd.weight", &[256, 3], 23, 0)
        .tensor("output_norm.weight", &[8], 0, 416)
        .data(448)
        .build();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.foreign_tensors()["token_embd.weight"].shape, [3, 256]);
    let header = ModelHeader::from_gguf(&gguf).unwrap();
    assert_eq!((header.architecture.as_str(), header.layers), ("mamba", 24));
    assert_eq!((header.heads, header.context_length), (0, 0));
    assert_eq!(header.vocab_size, 3);
    assert_eq!(header.weight_bytes, 3 * 136 + 32);
    assert_eq!(header.parameters, 3 * 256 + 8);
    let types: Vec<&str> = header.tensor_types.iter().map(String::as_str).collect();
    assert_eq!(types, ["F32", "IQ4_XS"]);
}

#[test]
fn inspects_embedded_model() {
    for (file, quantization, bytes) in [
        ("rbee-haiku-tiny-q8_0.gguf", "Q8_0", 3_073_024),
        ("rbee-haiku-tiny-f16.gguf", "F16", 5_776_384),
    ] {
        assert_eq!(
            inspect(&model(file)).unwrap(),
            ModelHeader {
                format: WeightFormat::Gguf,
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
                tensor_types: [quantization, "F32"].map(String::from).into(),
                parameters: 2_885_888,
                weight_bytes: bytes,
                sampling: RecommendedSampling::default(),
            }
        );
    }
}

/// Part of a split model, with one tensor of two rows.
fn part(number: u16, count: u16, tensor: &str) -> Vec<u8> {
    Builder::new()
        .value("split.no", 2, &number.to_le_bytes())
        .value("split.count", 2, &count.to_le_bytes())
        .value("split.tensors.count", 5, &2_i32.to_le_bytes())
        .tensor(tensor, &[8, 2], 0, 0)
        .data(64)
        .build()
}

fn parse_parts(parts: &[Vec<u8>]) -> Result<Vec<(String, usize)>, String> {
    let paths: Vec<PathBuf> = (0..parts.len()).map(|n| format!("p{n}").into()).collect();
    let files = paths.iter().zip(parts).map(|(path, head)| GgufFile {
        path,
        head,
        length: head.len() as u64,
    });
    let gguf = parse_gguf_parts(&files.collect::<Vec<_>>()).map_err(|e| e.message)?;
    let found = gguf.tensors().keys().map(|name| {
        let (info, data) = gguf.tensor(name).unwrap();
        assert_eq!(data.len(), 64);
        ((*name).to_owned(), info.part)
    });
    Ok(found.collect())
}

#[test]
fn parts_are_joined_or_refused() {
    assert_eq!(
        parse_parts(&[part(0, 2, "a"), part(1, 2, "b")]).unwrap(),
        [("a".to_owned(), 0), ("b".to_owned(), 1)]
    );
    let single = Builder::new().tensor("a", &[8], 0, 0).data(32).build();
    for (parts, message) in [
        (
            vec![part(0, 2, "a"), part(1, 3, "b")],
            "p1: the file is part 2 of 3 of a model, expected part 2 of 2",
        ),
        (
            vec![part(1, 2, "a"), part(0, 2, "b")],
            "p0: the file is part 2 of 2 of a model, expected part 1 of 2",
        ),
        (
            vec![part(0, 2, "a")],
            "p0: the file is part 1 of 2 of a model, expected part 1 of 1",
        ),
        (
            vec![part(0, 2, "a"), single],
            "p1: the file is part 1 of 1 of a model, expected part 2 of 2",
        ),
        (
            vec![part(0, 2, "a"), part(1, 2, "a")],
            "p1: tensor `a` is in part 1 and in part 2",
        ),
        (
            vec![part(0, 1, "a")],
            "p0: the parts have 1 tensors together, expected 2",
        ),
    ] {
        assert_eq!(parse_parts(&parts).unwrap_err(), message);
    }
}

#[test]
fn recommended_sampling_is_read() {
    let file = Builder::new()
        .value("general.sampling.temp", 6, &0.7_f32.to_le_bytes())
        .value("general.sampling.top_k", 5, &20_i32.to_le_bytes())
        .value(
            "general.sampling.penalty_last_n",
            5,
            &(-1_i32).to_le_bytes(),
        )
        .value("general.sampling.top_p", 8, &Builder::string("x"))
        .value("general.sampling.mirostat", 5, &2_i32.to_le_bytes())
        .build();
    let found = RecommendedSampling::from_gguf(&Gguf::parse(&file).unwrap());
    assert_eq!(
        found.values,
        [
            ("temperature", f64::from(0.7_f32)),
            ("top_k", 20.0),
            ("penalty_window", -1.0)
        ]
    );
    assert_eq!(
        found.ignored,
        [
            "general.sampling.top_p is not a number but string",
            "the sampler of general.sampling.mirostat is not available"
        ]
    );
}

#[test]
fn locates_tensors() {
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
    assert_eq!(missing.message, "the model has no tensor `blk.9.nope`");
}

#[test]
fn metadata_values_are_typed() {
    let gguf = Gguf::parse(q8_file()).unwrap();
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens.len(), tokens[3]), (2048, "!"));
    assert_eq!(gguf.bool("tokenizer.ggml.add_bos_token"), Ok(Some(false)));
    assert_eq!(gguf.u32("no.such.key"), Ok(None));
    let error = gguf.u32("general.architecture").unwrap_err();
    assert_eq!(
        error.message,
        "`general.architecture` has type string, expected integer"
    );
}

#[test]
fn rejects_file_truncated_at_any_byte() {
    let file = q8_file();
    let header = header_bytes();
    // Every length at the start and around the end of the header, samples in between.
    let cuts = (0..2500)
        .chain((2500..header).step_by(97))
        .chain(header - 40..header + 40);
    for cut in cuts.chain((header..file.len()).step_by(99_991)) {
        let error = Gguf::parse(&file[..cut]).expect_err("a truncated file");
        assert_input_error(&error);
        assert!(error.message.contains("byte"), "{error}");
    }
    // At most the padding after the last tensor can be missing.
    let error = Gguf::parse(&file[..file.len() - 32]).expect_err("a truncated file");
    assert_input_error(&error);
}

#[test]
fn rejects_other_formats_showing_their_start() {
    for (file, start) in [
        (&b"%PDF-1.7\n\x1b[31m"[..], "`%PDF-1.7\\n\\x1b[31m`"),
        (b"\x8f\xff\x00\xc3", "`\\x8f\\xff\\x00\\xc3`"),
        (b"GG!", "`GG!`"),
        (&[b'x'; 4096], "`xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`"),
    ] {
        let error = Gguf::parse(file).unwrap_err();
        assert_input_error(&error);
        let message = format!("not a GGUF file: it starts with {start}");
        assert_eq!(error.message, message);
    }
    // A prefix of the magic number may be a truncated GGUF file.
    for (start, bytes) in [("", 0), ("GGU", 3)] {
        let error = Gguf::parse(start.as_bytes()).unwrap_err();
        assert_eq!(
            error.message,
            format!(
                "damaged model file at byte 0: the magic `GGUF` needs 4 bytes, but {bytes} remain"
            )
        );
    }
}

#[test]
fn truncation_error_has_the_offset() {
    let error = Gguf::parse(&q8_file()[..30]).unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert_eq!(
        error.message,
        "damaged model file at byte 24: 38 tensors do not fit in the remaining 6 bytes"
    );
    assert_eq!(error.details.unwrap()["offset"], 24);
}

#[test]
fn rejects_invalid_headers() {
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes()].concat();
    let huge_array = [
        4_u32.to_le_bytes().as_slice(),
        &(u64::MAX / 4).to_le_bytes(),
    ]
    .concat();
    let new = Builder::new;
    let version = |version| Builder { version, ..new() };
    for (builder, offset, expected) in [
        (version(1), 4, "expected GGUF version 2 or 3, found 1"),
        (
            version(3_u32.swap_bytes()),
            4,
            "the file is big-endian, expected little-endian",
        ),
        (
            new().value("k", 13, &[0]),
            33,
            "expected a value type from 0 to 12, found 13",
        ),
        (
            new().value("k", 7, &[2]),
            37,
            "expected a bool (0 or 1), found 2",
        ),
        (
            new().value("k", 8, &u64::MAX.to_le_bytes()),
            45,
            "a string needs 18446744073709551615 bytes, but 19 remain",
        ),
        (
            new().value("k", 9, &huge_array),
            49,
            "4611686018427387903 array values do not fit in the remaining 15 bytes",
        ),
        (
            new().value("k", 9, &nested.repeat(9)),
            85,
            "arrays are nested deeper than 4 levels",
        ),
        (
            new().value("k", 7, &[1]).value("k", 7, &[1]),
            38,
            "duplicate key `k`",
        ),
        (
            new()
                .value(&"k\n".repeat(999), 7, &[1])
                .value(&"k\n".repeat(999), 7, &[1]),
            2035,
            &format!("duplicate key `{}…`", "k\\n".repeat(40)),
        ),
        (
            new().value("general.alignment", 4, &3_u32.to_le_bytes()),
            0,
            "`general.alignment` is 3, expected a power of two up to 1048576",
        ),
    ] {
        assert_eq!(
            builder.error().message,
            format!("damaged model file at byte {offset}: {expected}")
        );
    }
}

#[test]
fn rejects_invalid_tensors() {
    let tensor = |shape: &[u64], kind, offset| Builder::new().tensor("t", shape, kind, offset);
    for (builder, offset, expected) in [
        (
            tensor(&[1 << 40, 1 << 40], 0, 0),
            33,
            "tensor `t` of type F32 has the invalid shape [1099511627776, 1099511627776]",
        ),
        (
            tensor(&[33], 8, 0),
            33,
            "tensor `t` of type Q8_0 has the invalid shape [33]",
        ),
        (
            tensor(&[0], 0, 0),
            33,
            "tensor `t` of type F32 has the invalid shape [0]",
        ),
        (
            tensor(&[1; 5], 0, 0),
            33,
            "tensor `t` has 5 dimensions, expected 1 to 4",
        ),
        (
            tensor(&[8], 0, 4),
            33,
            "the offset 4 of tensor `t` is not a multiple of 32",
        ),
        (
            tensor(&[8], 0, u64::MAX - 31),
            128,
            "tensor `t` has 32 bytes from byte 64 + 18446744073709551584 on, but the file has 128",
        ),
        (
            tensor(&[8], 0, 64),
            128,
            "tensor `t` has 32 bytes from byte 64 + 64 on, but the file has 128",
        ),
        (
            tensor(&[8], 0, 0).tensor("t", &[8], 0, 0),
            57,
            "duplicate tensor `t`",
        ),
    ] {
        assert_eq!(
            builder.data(64).error().message,
            format!("damaged model file at byte {offset}: {expected}")
        );
    }
    assert!(Gguf::parse(&tensor(&[8], 0, 32).data(64).build()).is_ok());
}

#[test]
fn names_unsupported_tensor_types() {
    for (number, name) in [(20, "IQ4_NL"), (39, "MXFP4"), (77, "unknown")] {
        let file = Builder::new()
            .tensor("blk.0.x", &[32], number, 0)
            .data(64)
            .build();
        let checked = Gguf::parse(&file).and_then(|gguf| gguf.check_types());
        let error = checked.unwrap_err();
        assert_eq!(error.code, Code::UnsupportedQuantization);
        assert_eq!(
            error.message,
            format!("tensor `blk.0.x` has the unsupported type {name} (number {number})")
        );
        assert_eq!(
            error.hint.unwrap(),
            "use a file that has only tensors of these types: F32, F16, BF16, Q4_0, Q4_1, Q5_0, \
             Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K"
        );
    }
}

#[test]
fn inspects_header_larger_than_initial_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.gguf");
    // The architecture follows a value that is larger than the initial read.
    let big = Builder::string(&"x".repeat(3 << 20));
    let file = Builder::new()
        .value("a", 8, &big)
        .value("general.architecture", 8, &Builder::string("llama"))
        .build();
    std::fs::write(&path, file).unwrap();
    let error = inspect(&path).unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "{}: the model file has no key `llama.attention.head_count`",
            path.display()
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_header_bytes_are_rejected_or_harmless(
        flips in prop::collection::vec((0..header_bytes(), 1..=255_u8), 1..4),
        early in prop::collection::vec((0..900_usize, 1..=255_u8), 0..3),
    ) {
        let mut file = q8_file()[..header_bytes()].to_vec();
        for (at, mask) in flips.into_iter().chain(early) {
            file[at] ^= mask;
        }
        match Gguf::parse_header(&file, q8_file().len() as u64) {
            Ok(gguf) => {
                if let Err(error) = ModelHeader::from_gguf(&gguf) {
                    assert_input_error(&error);
                }
                for key in gguf.metadata().keys() {
                    let errors = [
                        gguf.string(key).err(),
                        gguf.strings(key).err(),
                        gguf.f32s(key).err(),
                        gguf.i64s(key).err(),
                    ];
                    errors.iter().flatten().for_each(assert_input_error);
                }
            }
            Err(error) => assert_input_error(&error),
        }
    }

    #[test]
    fn arbitrary_bytes_are_rejected_or_valid(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(error) = Gguf::parse(&bytes) {
            assert_input_error(&error);
        }
        let head = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        bytes.splice(0..0, head.iter().copied());
        if let Err(error) = Gguf::parse(&bytes) {
            assert_input_error(&error);
        }
    }
}
