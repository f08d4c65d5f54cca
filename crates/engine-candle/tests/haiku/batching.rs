//! A sequence's logits depend on nothing but its own tokens.

use crate::common::{Run, decode, decode_alone, f16_file, golden, haiku, open, open_with, q8_file};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};

/// Each golden prompt alone, the prompt in one step, in blocks in order.
fn alone(path: &std::path::Path) -> Vec<Run> {
    let mut engine = open(path).engine;
    golden()
        .iter()
        .map(|case| decode_alone(&mut engine, &case.prompt_ids))
        .collect()
}

#[test]
fn company_chunks_threads_and_block_order_change_no_bit() {
    for path in [f16_file(), q8_file(), haiku()] {
        let alone = alone(&path);
        let mut engine = open_with(&path, 3).engine;
        // Eight blocks each, dealt out in an order that leaves no two neighbours together.
        let mut runs: Vec<Run> = (0..)
            .zip(golden())
            .map(|(id, case)| {
                let blocks: Vec<u32> = (0..8).map(|b| (b * 20 + id * 7) * 37 % 256).collect();
                Run::new(u64::from(id), &case.prompt_ids, &blocks)
            })
            .collect();
        let odd = [1, 3, 5, 7, 11, 13, 17, 40];
        decode(&mut engine, &mut runs, |step, id| {
            odd[(step * 3 + id as usize) % odd.len()]
        });
        for (run, alone) in runs.iter().zip(&alone) {
            assert_eq!(run.output(), alone.output());
            assert!(run.logits == alone.logits, "same tokens, other bits");
        }
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
fn a_copied_block_is_as_good_as_the_original() {
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
    // A sequence that shares the first 20 tokens writes into its own copy of the second block.
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
fn a_bad_batch_is_an_error_and_the_engine_goes_on() {
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
    let silent = Chunk {
        wants_logits: false,
        ..chunk(&[1, 2], 0, &[3])
    };
    assert!(step(vec![silent]).unwrap().values.is_empty());
    assert_eq!(step(vec![chunk(&[1, 2], 0, &[0])]).unwrap(), expected);
}
