//! Causal attention over keys and values in blocks.

use std::ops::Range;

use crate::{
    Isa, Threads,
    attend::{Attend, TASK_ROWS, Task},
    kv_blocks::KvBlocks,
    lanes::{LANES, dispatch},
};

/// Queries that one task computes; what it reads of keys and values serves them all.
const TASK_QUERIES: usize = 24;
/// Scores of one task at the most, unless it has one row: more would not stay in the cache.
const TASK_SCORES: usize = 1 << 17;

/// What attention computes, beside sizes that [`KvBlocks`] knows.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Heads of a query; a multiple of the heads of a key.
    pub heads: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Bound `c` that scores `s` are kept within: `c * tanh(s / c)`.
    pub softcap: Option<f32>,
    /// Tokens that a token sees, itself included; absent, all before it.
    pub window: Option<usize>,
}

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpan<'a> {
    /// How many.
    pub rows: usize,
    /// Position of the first in its sequence.
    pub position: usize,
    /// The blocks of the sequence from its beginning, up to the last of the rows at least.
    pub blocks: &'a [u32],
}

/// Attends for each row of each span, one span after the other: `queries` and `out` are
/// `[rows, heads * width]`. Keys and values of the rows are in `kv` already.
///
/// The order of every sum follows from the row's position alone: a score adds up number by
/// number, the weights of a row are added lane by lane of the blocks, and values position by
/// position.
pub fn attention<'a>(
    isa: Isa,
    threads: &Threads,
    shape: AttentionShape,
    spans: impl Iterator<Item = AttentionSpan<'a>>,
    queries: &'a [f32],
    kv: &KvBlocks,
    out: &'a mut [f32],
) {
    let (mut tasks, work) = tasks(shape, spans, queries, kv, out);
    threads.fill(work, &mut tasks, 1, |_, tasks| {
        for task in tasks {
            dispatch(isa, Attend { shape, kv, task });
        }
    });
}

/// Every task, and the work of all together in multiply-adds.
fn tasks<'a>(
    shape: AttentionShape,
    spans: impl Iterator<Item = AttentionSpan<'a>>,
    queries: &'a [f32],
    kv: &KvBlocks,
    out: &'a mut [f32],
) -> (Vec<Task<'a>>, usize) {
    let part = shape.heads / kv.heads() * kv.width();
    let mut parts = queries.chunks_exact(part).zip(out.chunks_exact_mut(part));
    let (mut tasks, mut work) = (Vec::new(), 0);
    for span in spans {
        let mut row = 0;
        while row < span.rows {
            let position = span.position + row;
            let rows = task_rows(shape, kv, position).min(span.rows - row);
            let first_task = tasks.len();
            tasks.extend((0..kv.heads()).map(|head| Task {
                head,
                position,
                blocks: span.blocks,
                rows,
                ..Task::default()
            }));
            for row in 0..rows {
                for (task, (queries, out)) in tasks[first_task..].iter_mut().zip(&mut parts) {
                    task.queries[row] = queries;
                    task.out[row] = out;
                }
                work += 2 * shape.seen(position + row).len() * shape.heads * kv.width();
            }
            row += rows;
        }
    }
    (tasks, work)
}

/// Rows of a task that begins at a position.
fn task_rows(shape: AttentionShape, kv: &KvBlocks, position: usize) -> usize {
    let group = shape.heads / kv.heads();
    let scores = group * shape.seen(position).len().next_multiple_of(LANES);
    (TASK_QUERIES / group)
        .min(TASK_SCORES / scores)
        .clamp(1, TASK_ROWS)
}

impl AttentionShape {
    /// The positions that a position sees.
    pub(crate) fn seen(&self, position: usize) -> Range<usize> {
        let end = position + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    /// Sequences of tokens with random keys, values and queries.
    struct Case {
        heads: usize,
        kv_heads: usize,
        width: usize,
        kv: KvBlocks,
        sequences: Vec<Sequence>,
    }

    /// Blocks of a sequence, and of each token its query, key and value.
    type Sequence = (Vec<u32>, Vec<[Vec<f32>; 3]>);

    impl Case {
        /// Sequences of these lengths in scattered blocks; what no token was written to is
        /// not a number.
        fn new(heads: usize, kv_heads: usize, width: usize, lengths: &[usize]) -> Self {
            let blocks: usize = lengths.iter().map(|l| l.div_ceil(16)).sum();
            let mut kv = KvBlocks::new(blocks, kv_heads, width);
            let nothing = vec![f32::NAN; kv_heads * width];
            for slot in 0..blocks * 16 {
                kv.write(slot / 16, slot % 16, &nothing, &nothing);
            }
            let mut free: Vec<u32> = (0..blocks as u32).rev().collect();
            let mut seed = 0;
            let sequences = lengths.iter().map(|&length| {
                let count = length.div_ceil(16);
                let blocks: Vec<u32> = (0..count)
                    .map(|i| free.remove(i * 7 % free.len()))
                    .collect();
                let rows = (0..length).map(|position| {
                    let mut random = |count| {
                        seed += 1;
                        numbers(seed, count)
                            .iter()
                            .map(|x| x * 3.0)
                            .collect::<Vec<f32>>()
                    };
                    let [q, k, v] = [heads, kv_heads, kv_heads].map(|h| random(h * width));
                    kv.write(blocks[position / 16] as usize, position % 16, &k, &v);
                    [q, k, v]
                });
                let rows = rows.collect();
                (blocks, rows)
            });
            let sequences = sequences.collect();
            Self {
                heads,
                kv_heads,
                width,
                kv,
                sequences,
            }
        }

        /// Scores are capped where there is a window of 7.
        fn shape(&self, window: Option<usize>) -> AttentionShape {
            AttentionShape {
                heads: self.heads,
                scale: 1.0 / (self.width as f32).sqrt(),
                softcap: (window == Some(7)).then_some(2.0),
                window,
            }
        }

        /// Rows of the sequences, `(sequence, position, rows)`, attended in one call.
        fn attend(
            &self,
            isa: Isa,
            threads: usize,
            window: Option<usize>,
            spans: &[(usize, usize, usize)],
        ) -> Vec<f32> {
            let mut queries = Vec::new();
            for &(sequence, position, rows) in spans {
                for row in &self.sequences[sequence].1[position..position + rows] {
                    queries.extend_from_slice(&row[0]);
                }
            }
            let mut out = vec![f32::NAN; queries.len()];
            let spans = spans
                .iter()
                .map(|&(sequence, position, rows)| AttentionSpan {
                    rows,
                    position,
                    blocks: &self.sequences[sequence].0,
                });
            let threads = Threads::new(threads).unwrap();
            let shape = self.shape(window);
            attention(isa, &threads, shape, spans, &queries, &self.kv, &mut out);
            out
        }

        /// One row as the definition reads, in 64-bit floats.
        fn expected(&self, sequence: usize, position: usize, window: Option<usize>) -> Vec<f64> {
            let rows = &self.sequences[sequence].1;
            let seen = (position + 1).saturating_sub(window.unwrap_or(usize::MAX))..=position;
            let mut out = Vec::new();
            for (head, query) in rows[position][0].chunks(self.width).enumerate() {
                let at = head / (self.heads / self.kv_heads) * self.width;
                let dot = |key: &[f32]| -> f64 {
                    let pairs = query.iter().zip(&key[at..]);
                    pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
                };
                let scale = 1.0 / (self.width as f64).sqrt();
                let weights: Vec<f64> = rows[seen.clone()]
                    .iter()
                    .map(|r| match self.shape(window).softcap.map(f64::from) {
                        Some(cap) => ((dot(&r[1]) * scale / cap).tanh() * cap).exp(),
                        None => (dot(&r[1]) * scale).exp(),
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                out.extend((at..at + self.width).map(|i| {
                    let values = rows[seen.clone()].iter().zip(&weights);
                    values
                        .map(|(r, w)| f64::from(r[2][i]) * w / sum)
                        .sum::<f64>()
                }));
            }
            out
        }
    }

    const WINDOWS: [Option<usize>; 5] = [None, Some(1), Some(7), Some(33), Some(1000)];

    fn cases() -> [Case; 4] {
        [
            Case::new(9, 3, 64, &[70, 1, 140, 33]),
            Case::new(6, 2, 20, &[41, 16, 3, 17]),
            Case::new(4, 4, 96, &[90, 15, 20, 31]),
            Case::new(14, 2, 128, &[25, 5, 66, 48]),
        ]
    }

    #[test]
    fn attention_is_what_its_definition_says() {
        for case in cases() {
            for window in WINDOWS {
                for (sequence, (_, rows)) in case.sequences.iter().enumerate() {
                    let out = case.attend(Isa::best(), 1, window, &[(sequence, 0, rows.len())]);
                    let out = out.chunks(case.heads * case.width);
                    for (position, found) in out.enumerate() {
                        let expected = case.expected(sequence, position, window);
                        for (found, expected) in found.iter().zip(expected) {
                            let difference = (f64::from(*found) - expected).abs();
                            assert!(difference < 1e-5, "{position}: {found} {expected}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn company_pieces_threads_and_instructions_change_no_bit() {
        for case in cases() {
            let lengths: Vec<usize> = case.sequences.iter().map(|(_, rows)| rows.len()).collect();
            let whole: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(s, &l)| (s, 0, l))
                .collect();
            for window in WINDOWS {
                let expected = case.attend(Isa::Plain, 1, window, &whole);
                for isa in Isa::available() {
                    assert!(case.attend(isa, 1, window, &whole) == expected, "{isa:?}");
                    assert!(case.attend(isa, 3, window, &whole) == expected, "threads");
                    for most in [1, 3, 11, 40] {
                        let pieces: Vec<_> = whole
                            .iter()
                            .flat_map(|&(s, _, length)| {
                                (0..length)
                                    .step_by(most)
                                    .map(move |p| (s, p, most.min(length - p)))
                            })
                            .collect();
                        let found = case.attend(isa, 1, window, &pieces);
                        assert!(found == expected, "{isa:?} in pieces of {most}");
                    }
                }
            }
        }
    }

    #[test]
    fn long_sequences_are_attended_in_small_tasks() {
        // One head of 8 numbers and 20000 tokens: 24 queries would have too many scores.
        let case = Case::new(3, 1, 8, &[20_000]);
        let span = (0, 19_990, 10);
        let together = case.attend(Isa::best(), 1, None, &[span]);
        let (shape, kv) = (case.shape(None), &case.kv);
        assert_eq!(task_rows(shape, kv, 19_990), 2);
        let apart: Vec<_> = (19_990..20_000).map(|p| (0, p, 1)).collect();
        assert!(case.attend(Isa::Plain, 1, None, &apart) == together);
        let expected = case.expected(0, 19_999, None);
        for (found, expected) in together[9 * 24..].iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
    }
}
