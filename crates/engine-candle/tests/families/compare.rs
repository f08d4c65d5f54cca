//! Runs tiny models and compares their logits.

use std::path::Path;

use engine_candle::{CandleEngine, ComputeDevice, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};

use crate::{
    candle_models,
    gguf_file::GgufFile,
    reference::{Reference, frequencies},
    tiny_model::{PseudoRandom, TinyModel, VOCAB_SIZE},
};

pub const PROMPT: usize = 40;
pub const TOKENS: usize = 46;
pub const TOLERANCE: f64 = 1e-4;

pub fn tokens() -> Vec<u32> {
    let mut random = PseudoRandom(7);
    let token = |_| ((random.next() + 0.5) * VOCAB_SIZE as f32) as u32;
    (0..TOKENS).map(token).collect()
}

fn open_on(device: ComputeDevice, path: &Path) -> CandleEngine {
    let options = LoadOptions {
        device,
        threads: Some(1),
        ..LoadOptions::default()
    };
    load(path, options).unwrap().engine
}

/// Loads the model from a directory with safetensors.
pub fn engine(model: &TinyModel) -> CandleEngine {
    engine_on(ComputeDevice::Cpu, model)
}

fn engine_on(device: ComputeDevice, model: &TinyModel) -> CandleEngine {
    let directory = tempfile::tempdir().unwrap();
    model.write_to(directory.path());
    open_on(device, directory.path())
}

/// Returns the number of tokens processed and the logits after each chunk.
fn run(engine: &mut CandleEngine, sizes: &[usize]) -> Vec<(usize, Vec<f32>)> {
    let (tokens, mut position) = (tokens(), 0);
    let mut out = Vec::new();
    for size in sizes {
        let batch = Batch {
            chunks: vec![Chunk {
                sequence: SequenceId(0),
                tokens: tokens[position..position + size].to_vec(),
                position: position as u32,
                blocks: [5, 2, 9].map(BlockId).to_vec(),
                wants_logits: true,
            }],
        };
        position += size;
        out.push((position, engine.step(&batch).unwrap().values));
    }
    out
}

/// Returns the logits after every token. Runs the prompt whole, in chunks and token by token, and
/// asserts that the logits are bit-identical.
pub fn all_logits(engine: &mut CandleEngine) -> Vec<Vec<f32>> {
    let single = run(engine, &[1; TOKENS]);
    let decode = [1; TOKENS - PROMPT];
    let whole = run(engine, &[[PROMPT].as_slice(), &decode].concat());
    let chunks = run(engine, &[[1, 15, 3, 16, 5].as_slice(), &decode].concat());
    for (tokens, logits) in whole.into_iter().chain(chunks) {
        assert!(single[tokens - 1].1 == logits, "after {tokens} tokens");
    }
    single.into_iter().map(|(_, logits)| logits).collect()
}

/// Returns the number of tokens and the logits after the prompt and after every further token.
pub fn prompt_logits(engine: &mut CandleEngine) -> Vec<(usize, Vec<f32>)> {
    let decode = [1; TOKENS - PROMPT];
    run(engine, &[[PROMPT].as_slice(), &decode].concat())
}

/// Asserts that what runs on GPUs computes the same logits, with the prompt in one step and in
/// chunks.
fn assert_tensors_match(tensors: &mut CandleEngine, expected: &[Vec<f32>], model: &TinyModel) {
    let decode = [1; TOKENS - PROMPT];
    for prompt in [[PROMPT].as_slice(), &[1, 15, 3, 16, 5]] {
        for (tokens, logits) in run(tensors, &[prompt, &decode].concat()) {
            let difference = difference(&logits, &expected[tokens - 1]);
            assert!(
                difference < TOLERANCE,
                "tensors: {} after {tokens} tokens: {difference:e}",
                model.config
            );
        }
    }
}

pub fn difference<T: Copy + Into<f64>>(a: &[f32], b: &[T]) -> f64 {
    assert_eq!((a.len(), b.len()), (VOCAB_SIZE, VOCAB_SIZE));
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |largest, (a, b)| {
        let difference = (f64::from(*a) - (*b).into()).abs();
        assert!(difference.is_finite());
        largest.max(difference)
    })
}

pub fn assert_matches_candle(model: &TinyModel, window: Option<usize>) {
    let ours = all_logits(&mut engine(model));
    let mut tensors = engine_on(ComputeDevice::CpuTensors, model);
    assert_tensors_match(&mut tensors, &ours, model);
    let tokens = tokens();
    for count in [1, 2, 9, 17, 33, PROMPT, PROMPT + 1, TOKENS] {
        let expected = candle_models::logits(model, window, &tokens[..count]);
        let difference = difference(&ours[count - 1], &expected);
        assert!(
            difference < TOLERANCE,
            "{} after {count} tokens: {difference:e}",
            model.config
        );
    }
}

pub fn assert_matches_reference(reference: &Reference<'_>) {
    let ours = all_logits(&mut engine(reference.model));
    let mut tensors = engine_on(ComputeDevice::CpuTensors, reference.model);
    assert_tensors_match(&mut tensors, &ours, reference.model);
    for (count, (ours, expected)) in (1..).zip(ours.iter().zip(reference.logits(&tokens()))) {
        let difference = difference(ours, &expected);
        assert!(
            difference < TOLERANCE,
            "{} after {count} tokens: {difference:e}",
            reference.model.config
        );
    }
}

/// Returns the reference of a model without RoPE scaling and with the given windows.
pub fn reference(model: &TinyModel, windows: [Option<usize>; 3]) -> Reference<'_> {
    Reference {
        model,
        windows: windows.to_vec(),
        frequencies: frequencies(model),
        local_frequencies: None,
        scale: 1.0,
    }
}

/// Loads the model from a GGUF file.
pub fn gguf_engine(file: &GgufFile) -> CandleEngine {
    gguf_engine_on(ComputeDevice::Cpu, file)
}

/// Like [`gguf_engine`], on a device.
pub fn gguf_engine_on(device: ComputeDevice, file: &GgufFile) -> CandleEngine {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    file.write(&path);
    open_on(device, &path)
}

/// Asserts that a model produces the same logits from a GGUF file and from safetensors.
pub fn assert_gguf_matches_safetensors(model: &TinyModel, window: Option<usize>) {
    let file = GgufFile::of(model).with_scaling_and_window(model, window);
    let gguf = all_logits(&mut gguf_engine(&file));
    let mut tensors = gguf_engine_on(ComputeDevice::CpuTensors, &file);
    assert_tensors_match(&mut tensors, &gguf, model);
    let safetensors = all_logits(&mut engine(model));
    for (gguf, safetensors) in gguf.iter().zip(&safetensors) {
        let difference = difference(gguf, safetensors);
        assert!(difference < TOLERANCE, "{}: {difference:e}", model.config);
    }
}
