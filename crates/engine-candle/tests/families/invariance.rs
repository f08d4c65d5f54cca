//! Logits are bit-identical for any threads, chunks and batch, in every family.

use engine_candle::{CandleEngine, ComputeDevice, LoadOptions, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use serde_json::json;

use crate::{
    compare::{TOKENS, TOLERANCE, difference, tokens},
    tiny_model::{FAMILIES, TinyModel},
};

fn chunk(sequence: u64, tokens: &[u32], position: usize, blocks: [u32; 3]) -> Chunk {
    Chunk {
        sequence: SequenceId(sequence),
        tokens: tokens.to_vec(),
        position: position as u32,
        blocks: blocks.map(BlockId).to_vec(),
        wants_logits: true,
    }
}

/// Returns the logits after all tokens, processed in chunks of the given sizes. If `batched`, each
/// step also contains chunks of other sequences before and after.
fn logits(engine: &mut CandleEngine, sizes: &[usize], batched: bool) -> Vec<f32> {
    let (tokens, mut position, mut last) = (tokens(), 0, Vec::new());
    for size in sizes {
        let mut chunks = vec![chunk(
            7,
            &tokens[position..position + size],
            position,
            [5, 2, 9],
        )];
        if batched {
            chunks.insert(0, chunk(1, &tokens[3..4 + size % 11], 0, [1, 3, 4]));
            chunks.push(chunk(2, &tokens[..17], 0, [6, 7, 8]));
        }
        let values = engine.step(&Batch { chunks }).unwrap();
        let rows: Vec<_> = values.rows().map(<[f32]>::to_vec).collect();
        last.clone_from(&rows[usize::from(batched)]);
        position += size;
    }
    last
}

#[test]
fn logits_are_bit_identical_for_any_batch_chunks_and_threads() {
    for family in FAMILIES {
        // Wide enough that work is distributed to threads.
        let model = TinyModel::new(
            family,
            &json!({
                "hidden_size": 256, "intermediate_size": 512, "head_dim": 64,
                "moe_intermediate_size": 256, "sliding_window": 20
            }),
        );
        let directory = tempfile::tempdir().unwrap();
        model.write_to(directory.path());
        let open_on = |device, threads| {
            let options = LoadOptions {
                device,
                threads: Some(threads),
                ..LoadOptions::default()
            };
            load(directory.path(), options).unwrap().engine
        };
        let open = |threads| open_on(ComputeDevice::Cpu, threads);
        let expected = logits(&mut open(1), &[TOKENS], false);
        assert!(expected.iter().all(|l| l.is_finite()));
        let chunks = [1, 19, 4, 21, 1];
        assert_eq!(chunks.iter().sum::<usize>(), TOKENS);
        for (threads, sizes, batched) in [
            (1, chunks.as_slice(), false),
            (1, &[TOKENS], true),
            (1, &chunks, true),
            (3, &[TOKENS], false),
            (3, &chunks, true),
        ] {
            let found = logits(&mut open(threads), sizes, batched);
            assert!(
                found == expected,
                "{family}, {threads} threads, chunks {sizes:?}, batched: {batched}"
            );
        }
        // What runs on GPUs is near, whatever else is in the batch.
        for (sizes, batched) in [([TOKENS].as_slice(), true), (&chunks, true)] {
            let mut engine = open_on(ComputeDevice::CpuTensors, 1);
            let found = logits(&mut engine, sizes, batched);
            let difference = difference(&found, &expected);
            assert!(difference < TOLERANCE, "{family}: {difference:e}");
        }
    }
}
