//! The logits of every family and variant.

use std::path::Path;

use engine_candle::{CandleEngine, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use serde_json::{Value, json};

use crate::{
    candle_models,
    gguf_file::GgufFile,
    plain::{Plain, frequencies, yarn},
    tiny_model::{Numbers, TinyModel, VOCABULARY},
};

const PROMPT: usize = 40;
const TOKENS: usize = 46;
const TOLERANCE: f64 = 1e-4;

fn tokens() -> Vec<u32> {
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
fn engine(model: &TinyModel) -> CandleEngine {
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
fn all_ways(engine: &mut CandleEngine) -> Vec<Vec<f32>> {
    let single = run(engine, &[1; TOKENS]);
    let decode = [1; TOKENS - PROMPT];
    let whole = run(engine, &[[PROMPT].as_slice(), &decode].concat());
    let chunks = run(engine, &[[1, 15, 3, 16, 5].as_slice(), &decode].concat());
    for (tokens, logits) in whole.into_iter().chain(chunks) {
        assert!(single[tokens - 1].1 == logits, "after {tokens} tokens");
    }
    single.into_iter().map(|(_, logits)| logits).collect()
}

fn difference<T: Copy + Into<f64>>(a: &[f32], b: &[T]) -> f64 {
    assert_eq!((a.len(), b.len()), (VOCABULARY, VOCABULARY));
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |most, (a, b)| {
        let difference = (f64::from(*a) - (*b).into()).abs();
        assert!(difference.is_finite());
        most.max(difference)
    })
}

fn assert_candles(model: &TinyModel, window: Option<usize>) {
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

fn assert_plain(plain: &Plain<'_>) {
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
fn plain(model: &TinyModel, windows: [Option<usize>; 3]) -> Plain<'_> {
    Plain {
        model,
        windows: windows.to_vec(),
        frequencies: frequencies(model),
        scale: 1.0,
    }
}

fn families() -> impl Iterator<Item = TinyModel> {
    ["llama", "mistral", "qwen2", "qwen3"]
        .into_iter()
        .flat_map(|family| {
            [false, true].map(|tied| TinyModel::new(family, &json!({"tie_word_embeddings": tied})))
        })
}

fn scaling(kind: &str, more: &Value) -> Value {
    let mut rope = json!({
        "rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 32,
    });
    let more = more.as_object().unwrap().clone();
    rope.as_object_mut().unwrap().extend(more);
    json!({"rope_scaling": rope})
}

#[test]
fn every_family_is_candles() {
    for model in families() {
        assert_candles(&model, None);
        assert_plain(&plain(&model, [None; 3]));
    }
}

#[test]
fn the_width_of_a_head_is_free() {
    assert_candles(&TinyModel::new("mistral", &json!({"head_dim": 24})), None);
}

#[test]
fn biases_are_added_where_the_configuration_says() {
    assert_candles(
        &TinyModel::new("qwen3", &json!({"attention_bias": true})),
        None,
    );
    for changes in [
        json!({"attention_bias": true}),
        json!({"mlp_bias": true}),
        json!({"attention_bias": true, "mlp_bias": true}),
    ] {
        assert_plain(&plain(&TinyModel::new("llama", &changes), [None; 3]));
    }
}

#[test]
fn attention_looks_back_only_so_far() {
    let mistral = TinyModel::new("mistral", &json!({"sliding_window": 7}));
    assert_candles(&mistral, Some(7));
    assert_plain(&plain(&mistral, [Some(7); 3]));

    let window = |layers| json!({"use_sliding_window": true, "max_window_layers": layers});
    let everywhere = TinyModel::new("qwen2", &window(0));
    assert_candles(&everywhere, Some(8));
    let from_second = TinyModel::new("qwen2", &window(1));
    assert_plain(&plain(&from_second, [None, Some(8), Some(8)]));
    let nowhere = TinyModel::new("qwen2", &window(3));
    assert_candles(&nowhere, None);

    let mut changes = window(0);
    changes["sliding_window"] = json!(20);
    changes["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let listed = TinyModel::new("qwen3", &changes);
    assert_plain(&plain(&listed, [Some(20), None, Some(20)]));
    // Llama's own implementation knows no window, whatever the file says.
    assert_candles(
        &TinyModel::new("llama", &json!({"sliding_window": 7})),
        None,
    );
}

#[test]
fn positions_are_stretched() {
    let factors = json!({"low_freq_factor": 1.0, "high_freq_factor": 4.0});
    assert_candles(&TinyModel::new("llama", &scaling("llama3", &factors)), None);

    let linear = TinyModel::new("mistral", &scaling("linear", &json!({})));
    assert_plain(&Plain {
        frequencies: frequencies(&linear).iter().map(|f| f / 4.0).collect(),
        ..plain(&linear, [None; 3])
    });
    let default_factor = 0.1 * 4_f64.ln() + 1.0;
    for (more, scale) in [
        (json!({}), default_factor),
        (json!({"attention_factor": 0.8}), 0.8),
        (
            json!({"mscale": 0.5, "mscale_all_dim": 2.0}),
            (0.05 * 4_f64.ln() + 1.0) / (0.2 * 4_f64.ln() + 1.0),
        ),
    ] {
        for family in ["llama", "qwen2", "qwen3"] {
            let model = TinyModel::new(family, &scaling("yarn", &more));
            assert_plain(&Plain {
                frequencies: yarn(&frequencies(&model), 10_000.0, 4.0, 32.0),
                scale,
                ..plain(&model, [None; 3])
            });
        }
    }
}

/// The model as GGUF gives what it gives as safetensors.
fn assert_same_as_gguf(model: &TinyModel, window: Option<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    GgufFile::of(model)
        .with_scaling_and_window(model, window)
        .write(&path);
    let gguf = all_ways(&mut open(&path));
    let safetensors = all_ways(&mut engine(model));
    for (gguf, safetensors) in gguf.iter().zip(&safetensors) {
        let difference = difference(gguf, safetensors);
        assert!(difference < TOLERANCE, "{}: {difference:e}", model.config);
    }
}

#[test]
fn gguf_and_safetensors_are_the_same_model() {
    for model in families() {
        assert_same_as_gguf(&model, None);
    }
    let biased = json!({"attention_bias": true, "mlp_bias": true});
    assert_same_as_gguf(&TinyModel::new("llama", &biased), None);
    let biased = json!({"attention_bias": true});
    assert_same_as_gguf(&TinyModel::new("qwen3", &biased), None);
    let window = json!({"sliding_window": 7});
    assert_same_as_gguf(&TinyModel::new("mistral", &window), Some(7));
    for kind in ["linear", "yarn"] {
        for family in ["llama", "qwen3"] {
            assert_same_as_gguf(&TinyModel::new(family, &scaling(kind, &json!({}))), None);
        }
    }
}
