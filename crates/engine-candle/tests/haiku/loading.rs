//! Loading of damaged, incomplete and unsupported models.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use crate::common::{f16_file, golden, haiku, q8_file};
use diagnostics::{Code, Diagnostic};
use engine_candle::{LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, Pooling, SequenceId};
use model_format::{Gguf, Safetensors};
use tempfile::TempDir;

fn error(path: &Path) -> Diagnostic {
    let error = load(path, LoadOptions::default())
        .err()
        .expect("the model must not load");
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(error.message.contains(&*name), "without file name: {error}");
    assert!(error.hint.is_some(), "{error}");
    error
}

/// Returns the error of loading the Q8_0 file with some bytes replaced.
fn error_with(from: &[u8], to: &[u8]) -> Diagnostic {
    assert_eq!(from.len(), to.len());
    let mut file = std::fs::read(q8_file()).unwrap();
    let at = file.windows(from.len()).position(|w| w == from).unwrap();
    file[at..at + to.len()].copy_from_slice(to);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("changed.gguf");
    std::fs::write(&path, file).unwrap();
    error(&path)
}

#[test]
fn rejects_truncated_files() {
    let file = std::fs::read(q8_file()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.gguf");
    let cuts = (0..40)
        .chain((40..file.len()).step_by(61_003))
        .chain([file.len() - 33]);
    for cut in cuts {
        std::fs::write(&path, &file[..cut]).unwrap();
        assert_eq!(error(&path).code, Code::InvalidModelFile, "cut at {cut}");
    }
}

#[test]
fn flipped_header_bytes_never_panic() {
    let file = std::fs::read(q8_file()).unwrap();
    let data = Gguf::parse(&file)
        .unwrap()
        .tensors()
        .values()
        .map(|t| t.offset)
        .min()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flipped.gguf");
    // Metadata and tensor infos; the vocabulary between them is covered by tests of the tokenizer.
    for at in (0..900)
        .step_by(7)
        .chain((data as usize - 2200..data as usize).step_by(13))
    {
        let mut flipped = file.clone();
        flipped[at] ^= 0x41;
        std::fs::write(&path, flipped).unwrap();
        // A flip may also hit an irrelevant value, such as the model's name.
        if let Err(error) = load(&path, LoadOptions::default()) {
            assert_ne!(error.code, Code::Internal, "{at}: {error}");
        }
    }
}

#[test]
fn the_loader_agrees_with_what_the_engine_declares() {
    let declared = engine_choice::builtin().unwrap();
    let renamed = error_with(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba");
    assert_eq!(renamed.code, Code::UnsupportedModel, "{renamed}");
    assert!(!declared.architectures.includes("mamba"));

    let mut file = std::fs::read(q8_file()).unwrap();
    let name = b"blk.0.attn_q.weight";
    let at = file.windows(name.len()).position(|w| w == name).unwrap();
    // After the name: the number of dimensions, two dimensions, the type.
    let kind = at + name.len() + 4 + 2 * 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other_type.gguf");
    let (mut known, mut refused) = (0, 0);
    for number in 0..64_u32 {
        file[kind..kind + 4].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, &file).unwrap();
        let error = load(&path, LoadOptions::default()).err();
        let is_refused = error.is_some_and(|e| e.code == Code::UnsupportedQuantization);
        // Numbers without a name are refused before anything is declared.
        let Ok(header) = model_format::inspect(&path) else {
            assert!(is_refused, "type {number}");
            continue;
        };
        let mut types = header.tensor_types.iter();
        let is_declared = types.all(|name| declared.tensor_types.includes(name));
        assert_eq!(
            is_refused, !is_declared,
            "type {number}: {:?}",
            header.tensor_types
        );
        known += u32::from(is_declared);
        refused += u32::from(is_refused);
    }
    assert_eq!((known, refused), (13, 19));
}

#[test]
fn errors_name_the_defect() {
    // The keys still have the prefix `llama`.
    let renamed = error_with(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma");
    assert_eq!(renamed.code, Code::InvalidModelFile, "{renamed}");

    let missing = error_with(b"blk.2.ffn_up.weight", b"blk.2.ffn_xx.weight");
    assert_eq!(missing.code, Code::InvalidModelFile);
    assert!(
        missing.message.contains("no tensor `blk.2.ffn_up.weight`"),
        "{missing}"
    );

    let heads = [
        b"llama.attention.head_count_kv".as_slice(),
        &4_u32.to_le_bytes(),
    ];
    let shape = error_with(
        &[heads[0], heads[1], &4_u32.to_le_bytes()].concat(),
        &[heads[0], heads[1], &2_u32.to_le_bytes()].concat(),
    );
    assert_eq!(shape.code, Code::InvalidModelFile);
    assert!(shape.message.contains("blk.0.attn_k.weight"), "{shape}");
    assert!(
        shape.message.contains("[128, 256], expected [64, 256]"),
        "{shape}"
    );
}

/// Returns a copy of the embedded model directory.
fn copied_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        std::fs::copy(haiku().join(name), directory.path().join(name)).unwrap();
    }
    directory
}

/// Returns the error of loading a copy of the embedded model directory after `change`.
fn error_after(change: impl FnOnce(&Path)) -> Diagnostic {
    let directory = copied_directory();
    assert!(load(directory.path(), LoadOptions::default()).is_ok());
    change(directory.path());
    error(directory.path())
}

#[test]
fn pooling_follows_the_files_of_the_directory() {
    let directory = copied_directory();
    let pooling = || {
        let loaded = load(directory.path(), LoadOptions::default()).unwrap();
        loaded.engine.pooling()
    };
    assert_eq!(pooling(), Some(Pooling::Last));
    let pooling_directory = directory.path().join("1_Pooling");
    std::fs::create_dir(&pooling_directory).unwrap();
    let config = r#"{"pooling_mode_mean_tokens": true}"#;
    std::fs::write(pooling_directory.join("config.json"), config).unwrap();
    assert_eq!(pooling(), Some(Pooling::Mean));
}

#[test]
fn rejects_unsupported_architecture_by_name() {
    let error = error_after(|directory| {
        let path = directory.join("config.json");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, config.replace("\"llama\"", "\"mamba\"")).unwrap();
    });
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.message.contains("mamba"), "{error}");
    assert!(error.hint.unwrap().contains("llama"));
}

#[test]
fn rejects_incomplete_directories() {
    for (name, code) in [
        ("config.json", Code::ModelNotFound),
        ("tokenizer.json", Code::ModelNotFound),
        ("model.safetensors", Code::ModelNotFound),
    ] {
        let error = error_after(|directory| std::fs::remove_file(directory.join(name)).unwrap());
        assert_eq!(error.code, code);
        assert!(error.message.contains(name), "{error}");
    }
    let error = error_after(|directory| {
        let path = directory.join("model.safetensors");
        let file = std::fs::read(&path).unwrap();
        std::fs::write(path, &file[..file.len() / 2]).unwrap();
    });
    assert_eq!(error.code, Code::InvalidModelFile);
}

/// Writes the embedded weights as two files with an index, plus an `extra` tensor.
fn write_shards(directory: &Path, extra: Option<&str>) {
    let file = std::fs::read(haiku().join("model.safetensors")).unwrap();
    let all = Safetensors::parse_header(&file, file.len() as u64).unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..2 {
        let name = format!("model-0000{shard}-of-00002.safetensors");
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        let tensors = all
            .tensors()
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 2 == shard);
        let mut add = |tensor: &str, shape: &[u64], bytes: &[u8]| {
            let end = data.len() + bytes.len();
            let info = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [data.len(), end]});
            header.insert(tensor.to_owned(), info);
            map.insert(tensor.to_owned(), name.clone().into());
            data.extend_from_slice(bytes);
        };
        for (_, (tensor, info)) in tensors {
            let range = info.offset as usize..(info.offset + info.bytes) as usize;
            add(tensor, &info.shape, &file[range]);
        }
        if let (0, Some(extra)) = (shard, extra) {
            add(extra, &[2], &[0; 4]);
        }
        let json = serde_json::to_vec(&header).unwrap();
        let length = (json.len() as u64).to_le_bytes();
        std::fs::write(
            directory.join(&name),
            [&length, json.as_slice(), &data].concat(),
        )
        .unwrap();
    }
    let index = serde_json::json!({"weight_map": map}).to_string();
    std::fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
    std::fs::remove_file(directory.join("model.safetensors")).unwrap();
}

fn first_logits(path: &Path) -> Vec<f32> {
    let mut engine = load(path, LoadOptions::default()).unwrap().engine;
    let batch = Batch {
        chunks: vec![Chunk {
            sequence: SequenceId(0),
            tokens: golden()[0].prompt_ids.clone(),
            position: 0,
            blocks: (0..4).map(BlockId).collect(),
            wants_logits: true,
        }],
    };
    engine.step(&batch).unwrap().values
}

#[test]
fn sharded_models_produce_the_same_logits() {
    let directory = copied_directory();
    write_shards(directory.path(), None);
    assert_eq!(first_logits(directory.path()), first_logits(&haiku()));
    // The GGUF file stores query and key rows in another order; the sums are the same.
    assert_eq!(first_logits(&f16_file()), first_logits(&haiku()));
}

#[test]
fn rejects_unused_weights() {
    let bias = "model.layers.0.self_attn.q_proj.bias";
    let error = error_after(|directory| write_shards(directory, Some(bias)));
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.message.contains(bias), "{error}");
}

#[test]
fn progress_runs_from_zero_to_the_total() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&seen);
    let options = LoadOptions {
        progress: Some(Box::new(move |done, total| {
            writer.lock().unwrap().push((done, total));
        })),
        ..LoadOptions::default()
    };
    let loaded = load(&q8_file(), options).unwrap();
    let seen = seen.lock().unwrap();
    let total = loaded.engine.describe().weight_bytes;
    assert_eq!(seen.first(), Some(&(0, total)));
    assert_eq!(seen.last(), Some(&(total, total)));
    assert!(seen.is_sorted());
}

#[test]
fn rejects_context_longer_than_the_model_supports() {
    let options = LoadOptions {
        context_length: Some(513),
        ..LoadOptions::default()
    };
    let error = load(&q8_file(), options).err().unwrap();
    assert_eq!(error.code, Code::ConfigInvalid);
    assert!(
        error.message.contains("513") && error.message.contains("512"),
        "{error}"
    );
}
