use inference_execution::{Batch, Chunk, EngineError};

use crate::errors::{self, ChunkError};

/// Tokens per block of the KV cache.
pub(crate) const BLOCK_TOKENS: u32 = cpu_kernels::BLOCK_TOKENS as u32;

/// Limits that a batch is validated against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) vocab_size: u32,
    pub(crate) context_length: u32,
    pub(crate) blocks: u32,
}

/// Consecutive rows that are written to consecutive slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotRun {
    pub(crate) row: usize,
    pub(crate) slot: usize,
    pub(crate) length: usize,
}

/// The rows of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of the first row in the step.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Position of the first row in the sequence.
    pub(crate) position: usize,
    /// Blocks of the sequence.
    pub(crate) blocks: Vec<u32>,
}

impl Span {
    pub(crate) fn last_row(&self) -> u32 {
        (self.row + self.rows - 1) as u32
    }

    /// Yields the block of each row and the offset in the block.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, usize)> {
        let size = BLOCK_TOKENS as usize;
        (self.position..self.position + self.rows)
            .map(move |position| (self.blocks[position / size] as usize, position % size))
    }

    /// Returns the KV cache slot of a position.
    pub(crate) fn slot(&self, position: usize) -> usize {
        let size = BLOCK_TOKENS as usize;
        self.blocks[position / size] as usize * size + position % size
    }
}

/// A validated batch, flattened to one row per token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    pub(crate) runs: Vec<SlotRun>,
    /// Rows whose logits are requested.
    pub(crate) logit_rows: Vec<u32>,
}

impl Plan {
    /// Validates and flattens a batch.
    ///
    /// Errors: a chunk that is empty or outside the limits.
    pub(crate) fn new(batch: &Batch, limits: Limits) -> Result<Self, EngineError> {
        let mut plan = Self::default();
        for chunk in &batch.chunks {
            validate(chunk, limits)
                .map_err(|problem| errors::invalid_chunk(chunk.sequence, &problem))?;
            plan.add(chunk);
        }
        Ok(plan)
    }

    /// Returns the sum of the rows of each sequence; `values` has the shape `[rows, width]`.
    pub(crate) fn sums(&self, values: &[f32]) -> Vec<f32> {
        let width = values.len() / self.tokens.len().max(1);
        let mut sums = vec![0.0; width * self.spans.len()];
        for (span, sum) in self.spans.iter().zip(sums.chunks_exact_mut(width.max(1))) {
            let rows = &values[span.row * width..(span.row + span.rows) * width];
            for row in rows.chunks_exact(width.max(1)) {
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
        sums
    }

    fn add(&mut self, chunk: &Chunk) {
        let row = self.tokens.len();
        let span = Span {
            row,
            rows: chunk.tokens.len(),
            position: chunk.position as usize,
            blocks: chunk.blocks.iter().map(|b| b.0).collect(),
        };
        let mut run: Option<SlotRun> = None;
        for offset in 0..span.rows {
            let slot = span.slot(span.position + offset);
            match &mut run {
                Some(run) if run.slot + run.length == slot => run.length += 1,
                _ => {
                    self.runs.extend(run);
                    run = Some(SlotRun {
                        row: row + offset,
                        slot,
                        length: 1,
                    });
                }
            }
        }
        self.runs.extend(run);
        self.tokens.extend_from_slice(&chunk.tokens);
        self.positions
            .extend((chunk.position..).take(chunk.tokens.len()));
        if chunk.wants_logits {
            self.logit_rows.push((row + span.rows - 1) as u32);
        }
        self.spans.push(span);
    }
}

fn validate(chunk: &Chunk, limits: Limits) -> Result<(), ChunkError> {
    if chunk.tokens.is_empty() {
        return Err(ChunkError::Empty);
    }
    if let Some(&token) = chunk.tokens.iter().find(|&&t| t >= limits.vocab_size) {
        return Err(ChunkError::Token {
            token,
            vocab_size: limits.vocab_size,
        });
    }
    let positions = u64::from(chunk.position) + chunk.tokens.len() as u64;
    if positions > u64::from(limits.context_length) {
        return Err(ChunkError::ContextLength {
            positions,
            context_length: limits.context_length,
        });
    }
    if positions > chunk.blocks.len() as u64 * u64::from(BLOCK_TOKENS) {
        return Err(ChunkError::BlockCount {
            positions,
            blocks: chunk.blocks.len(),
        });
    }
    if let Some(block) = chunk.blocks.iter().find(|b| b.0 >= limits.blocks) {
        return Err(ChunkError::Block {
            block: block.0,
            blocks: limits.blocks,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use inference_execution::{BlockId, SequenceId};

    use super::*;

    const LIMITS: Limits = Limits {
        vocab_size: 100,
        context_length: 64,
        blocks: 8,
    };

    fn chunk(tokens: usize, position: u32, blocks: &[u32]) -> Chunk {
        Chunk {
            sequence: SequenceId(7),
            tokens: vec![1; tokens],
            position,
            blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
            wants_logits: true,
        }
    }

    #[test]
    fn rows_are_assigned_to_the_slots_of_their_positions() {
        let batch = Batch {
            chunks: vec![chunk(20, 14, &[5, 2, 3]), chunk(1, 0, &[0])],
        };
        let plan = Plan::new(&batch, LIMITS).unwrap();
        let run = |row, slot, length| SlotRun { row, slot, length };
        // Blocks 2 and 3 are adjacent, so they form one run.
        assert_eq!(plan.runs, [run(0, 94, 2), run(2, 32, 18), run(20, 0, 1)]);
        assert_eq!(plan.logit_rows, [19, 20]);
        assert_eq!(plan.positions[..3], [14, 15, 16]);
        assert_eq!(plan.positions[19..], [33, 0]);
        assert_eq!((plan.spans[1].row, plan.spans[1].rows), (20, 1));
    }

    #[test]
    fn rejects_invalid_chunks_with_the_sequence_in_the_error() {
        let cases = [
            (chunk(0, 0, &[0]), "has no tokens"),
            (chunk(17, 0, &[0]), "17 positions do not fit in 1 blocks"),
            (chunk(1, 16, &[0]), "17 positions do not fit in 1 blocks"),
            (chunk(1, u32::MAX, &[0]), "exceed the context of 64"),
            (chunk(1, 64, &[0, 1, 2, 3, 4]), "exceed the context of 64"),
            (chunk(1, 0, &[8]), "block 8 is outside the cache of 8"),
            (
                Chunk {
                    tokens: vec![100],
                    ..chunk(1, 0, &[0])
                },
                "token 100",
            ),
        ];
        for (bad, expected) in cases {
            let batch = Batch {
                chunks: vec![chunk(1, 0, &[0]), bad],
            };
            let error = Plan::new(&batch, LIMITS).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("sequence 7"), "{error}");
        }
    }
}
