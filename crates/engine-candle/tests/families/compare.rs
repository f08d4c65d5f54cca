//! Runs a tiny model in every way and compares its logits.

use std::path::Path;

use engine_candle::{CandleEngine, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};

use crate::{
    candle_models,
    gguf_file::GgufFile,
    plain::{Plain, frequencies},
    tiny_model::{Numbers, TinyModel, VOCABULARY},
};

pub const PROMPT: usize = 40;
pub const TOKENS: usize = 46;
pub const TOLERANCE: f64 = 1e-4;

pub fn tokens() -> Vec<u32> {
    let mut numbers = Numbers(7);
    let token = |_| ((numbers.next() + 0.5) * VOCABULARY as f32) as u32;
    (0..TOKENS).map(token).collect()
}

pub fn open(path: &Path) -> CandleEngine {
    let options = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    load(path, options).unwrap().engine
}

/// Loads the model from a folder with safetensors.
pub fn engine(model: &TinyModel) -> CandleEngine {
    let folder = tempfile::tempdir().unwrap();
    model.write_folder(folder.path());
    open(folder.path())
}

/// The logits after each chunk, with the number of tokens until there.
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

/// Runs the tokens whole, in chunks and one by one; the ways agree bit for bit. Returns
/// the logits after every token.
pub fn all_ways(engine: &mut CandleEngine) -> Vec<Vec<f32>> {
    let single = run(engine, &[1; TOKENS]);
    let decode = [1; TOKENS - PROMPT];
    let whole = run(engine, &[[PROMPT].as_slice(), &decode].concat());
    let chunks = run(engine, &[[1, 15, 3, 16, 5].as_slice(), &decode].concat());
    for (tokens, logits) in whole.into_iter().chain(chunks) {
        assert!(single[tokens - 1].1 == logits, "after {tokens} tokens");
    }
    single.into_iter().map(|(_, logits)| logits).collect()
}

pub fn difference<T: Copy + Into<f64>>(a: &[f32], b: &[T]) -> f64 {
    assert_eq!((a.len(), b.len()), (VOCABULARY, VOCABULARY));
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |most, (a, b)| {
        let difference = (f64::from(*a) - (*b).into()).abs();
        assert!(difference.is_finite());
        most.max(difference)
    })
}

pub fn assert_candles(model: &TinyModel, window: Option<usize>) {
    let ours = all_ways(&mut engine(model));
    let tokens = tokens();
    for count in [1, 2, 9, 17, 33, PROMPT, PROMPT + 1, TOKENS] {
        let theirs = candle_models::logits(model, window, &tokens[..count]);
        let difference = difference(&ours[count - 1], &theirs);
        assert!(
            difference < TOLERANCE,
            "{} after {count} tokens: {difference:e}",
            model.config
        );
    }
}

pub fn assert_plain(plain: &Plain<'_>) {
    let ours = all_ways(&mut engine(plain.model));
    for (count, (ours, plain_logits)) in (1..).zip(ours.iter().zip(plain.logits(&tokens()))) {
        let difference = difference(ours, &plain_logits);
        assert!(
            difference < TOLERANCE,
            "{} after {count} tokens: {difference:e}",
            plain.model.config
        );
    }
}

/// The plain reference of a model without scaling, with these windows.
pub fn plain(model: &TinyModel, windows: [Option<usize>; 3]) -> Plain<'_> {
    Plain {
        model,
        windows: windows.to_vec(),
        frequencies: frequencies(model),
        local_frequencies: None,
        scale: 1.0,
    }
}

/// Loads the model from a GGUF file.
pub fn gguf_engine(file: &GgufFile) -> CandleEngine {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    file.write(&path);
    open(&path)
}

/// The model as GGUF gives what it gives as safetensors.
pub fn assert_same_as_gguf(model: &TinyModel, window: Option<usize>) {
    let file = GgufFile::of(model).with_scaling_and_window(model, window);
    let gguf = all_ways(&mut gguf_engine(&file));
    let safetensors = all_ways(&mut engine(model));
    for (gguf, safetensors) in gguf.iter().zip(&safetensors) {
        let difference = difference(gguf, safetensors);
        assert!(difference < TOLERANCE, "{}: {difference:e}", model.config);
    }
}
