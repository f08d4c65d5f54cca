use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use engine_candle::{CandleEngine, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};

use crate::machine;

const PROMPT_TOKENS: u32 = 256;
const DECODED_TOKENS: u32 = 64;

/// Tokens per second of one row.
struct Row {
    prefill: f64,
    decode: f64,
}

/// Measures prefill and decode of the embedded model in each of its forms, alone and with
/// several sequences at once; ratios are to F16 alone.
pub fn run(count: u32) -> Result<()> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku");
    let forms: [(&str, PathBuf); 3] = [
        ("F16 GGUF", models.join("rbee-haiku-tiny-f16.gguf")),
        ("Q8_0 GGUF", models.join("rbee-haiku-tiny-q8_0.gguf")),
        ("F16 safetensors", models),
    ];
    println!(
        "engine: {}; the embedded model (2.9 M parameters), {PROMPT_TOKENS} tokens of prompt, {DECODED_TOKENS} decoded, median of {count}",
        machine::describe()
    );
    println!(
        "| weights | sequences | prefill tokens/s | decode tokens/s | prefill ratio | decode ratio |"
    );
    println!("|---|---|---|---|---|---|");
    let mut base: Option<Row> = None;
    for (name, path) in forms {
        let loaded = load(&path, LoadOptions::default()).map_err(|e| anyhow!("{e}"))?;
        let mut engine = loaded.engine;
        for sequences in [1, 4, 8] {
            let row = measure(&mut engine, sequences, count)?;
            let base = base.get_or_insert(Row { ..row });
            println!(
                "| {name} | {sequences} | {:.0} | {:.0} | {:.2} | {:.2} |",
                row.prefill,
                row.decode,
                row.prefill / base.prefill,
                row.decode / base.decode,
            );
        }
    }
    Ok(())
}

fn measure(engine: &mut CandleEngine, sequences: u32, count: u32) -> Result<Row> {
    let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
    // The first repetition warms caches.
    for repetition in 0..=count {
        let begun = Instant::now();
        step(engine, sequences, 0, PROMPT_TOKENS)?;
        let prefill = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for i in 0..DECODED_TOKENS {
            step(engine, sequences, PROMPT_TOKENS + i, 1)?;
        }
        let decode = begun.elapsed().as_secs_f64();
        if repetition > 0 {
            prefills.push(f64::from(sequences * PROMPT_TOKENS) / prefill);
            decodes.push(f64::from(sequences * DECODED_TOKENS) / decode);
        }
    }
    Ok(Row {
        prefill: median(prefills).context("no repetition")?,
        decode: median(decodes).context("no repetition")?,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// One step of every sequence: `tokens` tokens from `position` on.
fn step(engine: &mut CandleEngine, sequences: u32, position: u32, tokens: u32) -> Result<()> {
    let block_tokens = engine.kv().block_tokens();
    let blocks = (PROMPT_TOKENS + DECODED_TOKENS).div_ceil(block_tokens);
    let chunks = (0..sequences)
        .map(|sequence| Chunk {
            sequence: SequenceId(u64::from(sequence)),
            tokens: (0..tokens).map(|i| 100 + (position + i) % 1900).collect(),
            position,
            blocks: (0..blocks)
                .map(|b| BlockId(sequence * blocks + b))
                .collect(),
            wants_logits: true,
        })
        .collect();
    engine.step(&Batch { chunks })?;
    Ok(())
}
