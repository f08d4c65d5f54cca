//! Results are the same bit for bit for any threads, chunks and company, in every family.

use engine_candle::{CandleEngine, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use serde_json::json;

use crate::{
    compare::{TOKENS, tokens},
    tiny_model::{FAMILIES, TinyModel},
};

/// The tokens of one chunk of a sequence of its own.
fn chunk(sequence: u64, tokens: &[u32], position: usize, blocks: [u32; 3]) -> Chunk {
    Chunk {
        sequence: SequenceId(sequence),
        tokens: tokens.to_vec(),
        position: position as u32,
        blocks: blocks.map(BlockId).to_vec(),
        wants_logits: true,
    }
}

/// The logits after all tokens, fed in chunks of these sizes, with `company` prompts of
/// other sequences before and behind each.
fn logits(engine: &mut CandleEngine, sizes: &[usize], company: bool) -> Vec<f32> {
    let (tokens, mut position, mut last) = (tokens(), 0, Vec::new());
    for size in sizes {
        let mut chunks = vec![chunk(
            7,
            &tokens[position..position + size],
            position,
            [5, 2, 9],
        )];
        if company {
            chunks.insert(0, chunk(1, &tokens[3..4 + size % 11], 0, [1, 3, 4]));
            chunks.push(chunk(2, &tokens[..17], 0, [6, 7, 8]));
        }
        let values = engine.step(&Batch { chunks }).unwrap();
        let rows: Vec<_> = values.rows().map(<[f32]>::to_vec).collect();
        last.clone_from(&rows[usize::from(company)]);
        position += size;
    }
    last
}

#[test]
fn company_chunks_and_threads_change_no_bit() {
    for family in FAMILIES {
        // Wide enough that the work is shared between threads.
        let model = TinyModel::new(
            family,
            &json!({
                "hidden_size": 256, "intermediate_size": 512, "head_dim": 64,
                "moe_intermediate_size": 256, "sliding_window": 20
            }),
        );
        let folder = tempfile::tempdir().unwrap();
        model.write_folder(folder.path());
        let open = |threads| {
            let options = LoadOptions {
                threads: Some(threads),
                ..LoadOptions::default()
            };
            load(folder.path(), options).unwrap().engine
        };
        let alone = logits(&mut open(1), &[TOKENS], false);
        assert!(alone.iter().all(|l| l.is_finite()));
        let chunks = [1, 19, 4, 21, 1];
        assert_eq!(chunks.iter().sum::<usize>(), TOKENS);
        for (threads, sizes, company) in [
            (1, chunks.as_slice(), false),
            (1, &[TOKENS], true),
            (1, &chunks, true),
            (3, &[TOKENS], false),
            (3, &chunks, true),
        ] {
            let other = logits(&mut open(threads), sizes, company);
            assert!(
                other == alone,
                "{family}, {threads} threads, {sizes:?}, {company}"
            );
        }
    }
}
