//! The logits of a sequence depend only on its own tokens.

use crate::common::{
    Run, decode, decode_unbatched, f16_file, golden, haiku, open, open_tensors, open_with, q8_file,
};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};

/// Decodes each golden prompt unbatched, with the prompt in one step and blocks in order.
fn unbatched(path: &std::path::Path) -> Vec<Run> {
    let mut engine = open(path).engine;
    golden()
        .iter()
        .map(|case| decode_unbatched(&mut engine, &case.prompt_ids))
        .collect()
}

#[test]
fn logits_are_bit_identical_for_any_batch_chunks_threads_and_block_order() {
    for path in [f16_file(), q8_file(), haiku()] {
        let unbatched = unbatched(&path);
        let mut engine = open_with(&path, 3).engine;
        // Eight blocks per sequence, no two of them adjacent.
        let mut runs: Vec<Run> = (0..)
            .zip(golden())
            .map(|(id, case)| {
                let blocks: Vec<u32> = (0..8).map(|b| (b * 20 + id * 7) * 37 % 256).collect();
                Run::new(u64::from(id), &case.prompt_ids, &blocks)
            })
            .collect();
        let sizes = [1, 3, 5, 7, 11, 13, 17, 40];
        decode(&mut engine, &mut runs, |step, id| {
            sizes[(step * 3 + id as usize) % sizes.len()]
        });
        for (run, unbatched) in runs.iter().zip(&unbatched) {
            assert_eq!(run.output(), unbatched.output());
            assert!(run.logits == unbatched.logits, "same tokens, other bits");
        }
    }
}

/// On tensors, sequences of other lengths in the batch and the order of blocks change no text.
#[test]
fn batched_tensors_produce_the_golden_outputs() {
    let mut engine = open_tensors(&f16_file()).engine;
    let cases = golden();
    let mut runs: Vec<Run> = (0..)
        .zip(&cases[..6])
        .map(|(id, case)| {
            let blocks: Vec<u32> = (0..8).map(|b| (b * 20 + id * 7) * 37 % 256).collect();
            Run::new(u64::from(id), &case.prompt_ids, &blocks)
        })
        .collect();
    let sizes = [1, 3, 5, 7, 11, 13, 17, 40];
    decode(&mut engine, &mut runs, |step, id| {
        sizes[(step * 3 + id as usize) % sizes.len()]
    });
    for (run, case) in runs.iter().zip(&cases) {
        assert_eq!(run.output(), case.output_ids);
    }
}

fn chunk(tokens: &[u32], position: u32, blocks: &[u32]) -> Chunk {
    Chunk {
        sequence: SequenceId(1),
        tokens: tokens.to_vec(),
        position,
        blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
        wants_logits: true,
    }
}

#[test]
fn copied_blocks_equal_the_original() {
    let mut engine = open(&f16_file()).engine;
    let prompt = &golden()[0].prompt_ids;
    let (first, rest) = prompt.split_at(20);
    let mut step = |chunk: Chunk| {
        let batch = Batch {
            chunks: vec![chunk],
        };
        engine.step(&batch).unwrap().values
    };
    step(chunk(first, 0, &[0, 1]));
    let expected = step(chunk(rest, 20, &[0, 1, 2]));
    // A sequence that shares the first 20 tokens writes to its own copy of the second block.
    step(chunk(first, 0, &[0, 1]));
    engine.kv().copy(BlockId(1), BlockId(9)).unwrap();
    let mut step = |chunk: Chunk| {
        let batch = Batch {
            chunks: vec![chunk],
        };
        engine.step(&batch).unwrap().values
    };
    step(chunk(&[7, 7, 7, 7], 20, &[0, 1, 2]));
    assert_eq!(step(chunk(rest, 20, &[0, 9, 5])), expected);
    assert!(engine.kv().copy(BlockId(0), BlockId(256)).is_err());
}

#[test]
fn invalid_batches_are_errors_and_leave_the_engine_usable() {
    let mut engine = open(&q8_file()).engine;
    let mut step = |chunks| engine.step(&Batch { chunks });
    let expected = step(vec![chunk(&[1, 2], 0, &[0])]).unwrap();
    assert_eq!(expected.rows().count(), 1);
    for bad in [
        chunk(&[2048], 0, &[0]),
        chunk(&[1], 512, &[0; 33]),
        chunk(&[1], 0, &[256]),
        chunk(&[1; 17], 0, &[0]),
        chunk(&[], 0, &[0]),
    ] {
        assert!(step(vec![bad]).is_err());
    }
    assert!(step(vec![]).unwrap().values.is_empty());
    let without_logits = Chunk {
        wants_logits: false,
        ..chunk(&[1, 2], 0, &[3])
    };
    assert!(step(vec![without_logits]).unwrap().values.is_empty());
    assert_eq!(step(vec![chunk(&[1, 2], 0, &[0])]).unwrap(), expected);
}
