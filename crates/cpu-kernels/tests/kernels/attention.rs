use cpu_kernels::{AttentionShape, AttentionSpan, Isa, KvBlocks, Threads, attention};

use crate::random::floats;

/// Sequences of tokens with random queries, keys and values.
struct Case {
    heads: usize,
    kv_heads: usize,
    width: usize,
    kv: KvBlocks,
    sequences: Vec<Sequence>,
}

/// The blocks of a sequence, and the query, key and value of each token.
type Sequence = (Vec<u32>, Vec<[Vec<f32>; 3]>);

impl Case {
    /// Creates sequences of the given lengths in scattered blocks. Slots without a token are NaN.
    fn new(heads: usize, kv_heads: usize, width: usize, lengths: &[usize]) -> Self {
        let blocks: usize = lengths.iter().map(|l| l.div_ceil(16)).sum();
        let mut kv = KvBlocks::new(blocks, kv_heads, width);
        let nan = vec![f32::NAN; kv_heads * width];
        for slot in 0..blocks * 16 {
            kv.write(slot / 16, slot % 16, &nan, &nan);
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
                    floats(seed, count)
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

    /// Scores are capped if the window is 7.
    fn shape(&self, window: Option<usize>) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            scale: 1.0 / (self.width as f32).sqrt(),
            softcap: (window == Some(7)).then_some(2.0),
            window,
        }
    }

    /// Computes attention for `(sequence, position, rows)` spans in one call.
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

    /// Computes one row in `f64`, directly from the definition.
    fn expected(&self, sequence: usize, position: usize, window: Option<usize>) -> Vec<f64> {
        let rows = &self.sequences[sequence].1;
        let visible = (position + 1).saturating_sub(window.unwrap_or(usize::MAX))..=position;
        let mut out = Vec::new();
        for (head, query) in rows[position][0].chunks(self.width).enumerate() {
            let at = head / (self.heads / self.kv_heads) * self.width;
            let dot = |key: &[f32]| -> f64 {
                let pairs = query.iter().zip(&key[at..]);
                pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
            };
            let scale = 1.0 / (self.width as f64).sqrt();
            let weights: Vec<f64> = rows[visible.clone()]
                .iter()
                .map(|r| match self.shape(window).softcap.map(f64::from) {
                    Some(cap) => ((dot(&r[1]) * scale / cap).tanh() * cap).exp(),
                    None => (dot(&r[1]) * scale).exp(),
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            out.extend((at..at + self.width).map(|i| {
                let values = rows[visible.clone()].iter().zip(&weights);
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

pub fn attention_is_accurate(isa: Isa) {
    for case in cases() {
        for window in WINDOWS {
            for (sequence, (_, rows)) in case.sequences.iter().enumerate() {
                let out = case.attend(isa, 1, window, &[(sequence, 0, rows.len())]);
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

/// Results equal the plain kernel's bit for bit, for any split into spans and any threads.
pub fn attention_ignores_batch_chunks_and_threads(isa: Isa) {
    for case in cases() {
        let whole: Vec<_> = case
            .sequences
            .iter()
            .enumerate()
            .map(|(sequence, (_, rows))| (sequence, 0, rows.len()))
            .collect();
        for window in WINDOWS {
            let expected = case.attend(Isa::Plain, 1, window, &whole);
            assert!(case.attend(isa, 1, window, &whole) == expected, "whole");
            assert!(case.attend(isa, 3, window, &whole) == expected, "threads");
            for size in [1, 3, 11, 40] {
                let chunks: Vec<_> = whole
                    .iter()
                    .flat_map(|&(sequence, _, length)| {
                        (0..length)
                            .step_by(size)
                            .map(move |p| (sequence, p, size.min(length - p)))
                    })
                    .collect();
                let found = case.attend(isa, 1, window, &chunks);
                assert!(found == expected, "chunks of {size}");
            }
        }
    }
}

/// A sequence so long that its tasks have fewer rows than usual.
pub fn long_attention_is_accurate(isa: Isa) {
    let case = Case::new(3, 1, 8, &[20_000]);
    let together = case.attend(isa, 1, None, &[(0, 19_990, 10)]);
    let single: Vec<_> = (19_990..20_000).map(|p| (0, p, 1)).collect();
    assert!(case.attend(Isa::Plain, 1, None, &single) == together);
    let expected = case.expected(0, 19_999, None);
    for (found, expected) in together[9 * 24..].iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5);
    }
}
