//! Attention of a few queries that share one key head.

use std::{cell::Cell, ops::Range};

use crate::{
    aligned::AlignedFloats,
    attention::AttentionShape,
    exp::exp,
    kv_blocks::{BLOCK_TOKENS, KvBlocks},
    lanes::{Kernel, LANES, Lanes},
    softcap::capped,
};

/// Rows of one task at the most.
pub(crate) const TASK_ROWS: usize = 8;
/// Queries whose sums are in registers at once.
const TILE: usize = 6;
/// Blocks whose values are read for one tile of queries after the other.
const STRETCH: usize = 8;

/// Neighbouring rows of a span, and of each row the query heads that share one key head.
#[derive(Default)]
pub(crate) struct Task<'a> {
    /// The key head.
    pub(crate) head: usize,
    /// Position of the first row.
    pub(crate) position: usize,
    /// Blocks of the sequence.
    pub(crate) blocks: &'a [u32],
    /// How many rows.
    pub(crate) rows: usize,
    /// Of each row its queries of this key head, and where their results go.
    pub(crate) queries: [&'a [f32]; TASK_ROWS],
    pub(crate) out: [&'a mut [f32]; TASK_ROWS],
}

/// The kernel: scores of all queries, softmax of each, weighted sums of values.
pub(crate) struct Attend<'a, 't> {
    pub(crate) shape: AttentionShape,
    pub(crate) kv: &'a KvBlocks,
    pub(crate) task: &'a mut Task<'t>,
}

thread_local! {
    /// Memory for a task, kept for the next one.
    static MEMORY: Cell<AlignedFloats> = Cell::default();
}

impl Kernel for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { shape, kv, task } = self;
        let (width, padded) = (kv.width(), kv.groups() * LANES);
        let group = shape.heads / kv.heads();
        let count = task.rows * group;
        let first_block = shape.seen(task.position).start / BLOCK_TOKENS;
        let last_block = (task.position + task.rows - 1) / BLOCK_TOKENS;
        let seen = Seen {
            kv,
            head: task.head,
            blocks: &task.blocks[first_block..=last_block],
        };
        // What a query sees, counted from the first block.
        let range = |query: usize| {
            let range = shape.seen(task.position + query / group);
            let origin = first_block * BLOCK_TOKENS;
            range.start - origin..range.end - origin
        };

        let stride = seen.blocks.len() * BLOCK_TOKENS;
        let length = count * (stride + padded + width);
        let mut memory = MEMORY.take();
        if memory.as_slice().len() < length {
            memory = AlignedFloats::zeros(length);
        }
        let (scores, rest) = memory.as_mut_slice().split_at_mut(count * stride);
        let (sums, rest) = rest.split_at_mut(count * padded);
        sums.fill(0.0);
        let queries = &mut rest[..count * width];

        for tile in tiles(count) {
            let packed = &mut queries[tile.start * width..tile.end * width];
            for (lane, query) in tile.clone().enumerate() {
                let row = &task.queries[query / group][query % group * width..][..width];
                let places = packed[lane..].iter_mut().step_by(tile.len());
                for (place, number) in places.zip(row) {
                    *place = number * shape.scale;
                }
            }
        }
        score_all(l, &seen, count, queries, scores);
        // The packed queries have served; their memory keeps what weights add up to.
        let totals = queries;
        for (query, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let seen = range(query);
            if let Some(cap) = shape.softcap {
                let (blocks, _) = scores.as_chunks_mut::<LANES>();
                for block in blocks {
                    l.store(capped(l, l.load(block), cap), block);
                }
            }
            totals[query] = soften(l, scores, seen);
        }
        weigh_all(l, &seen, count, range, scores, sums);
        for (query, (sums, total)) in sums.chunks_exact(padded).zip(totals).enumerate() {
            let out = &mut task.out[query / group][query % group * width..][..width];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum / *total;
            }
        }
        MEMORY.set(memory);
    }
}

/// The blocks that the queries of a task see, of their key head.
struct Seen<'a> {
    kv: &'a KvBlocks,
    head: usize,
    blocks: &'a [u32],
}

/// Queries in tiles of at most [`TILE`], about equally many in each.
#[inline(always)]
fn tiles(count: usize) -> impl Iterator<Item = Range<usize>> {
    let tiles = count.div_ceil(TILE).max(1);
    (0..tiles).map(move |tile| count * tile / tiles..count * (tile + 1) / tiles)
}

/// Scores of every query with every token of the blocks.
#[inline(always)]
fn score_all<L: Lanes>(l: L, seen: &Seen, count: usize, queries: &[f32], scores: &mut [f32]) {
    // With many registers, a query's number once loaded serves four blocks.
    let together = if L::REGISTERS == 32 { 4 } else { 1 };
    let mut block = 0;
    while block < seen.blocks.len() {
        let wide = seen.blocks.len() - block >= together && together == 4;
        for tile in tiles(count) {
            let queries = &queries[tile.start * seen.kv.width()..tile.end * seen.kv.width()];
            let stride = seen.blocks.len() * BLOCK_TOKENS;
            let scores = &mut scores[tile.start * stride..tile.end * stride];
            let at = &mut Place {
                seen,
                block,
                queries,
                scores,
            };
            match (tile.len(), wide) {
                (1, false) => score::<L, 1, 1>(l, at),
                (2, false) => score::<L, 2, 1>(l, at),
                (3, false) => score::<L, 3, 1>(l, at),
                (4, false) => score::<L, 4, 1>(l, at),
                (5, false) => score::<L, 5, 1>(l, at),
                (_, false) => score::<L, TILE, 1>(l, at),
                (1, true) => score::<L, 1, 4>(l, at),
                (2, true) => score::<L, 2, 4>(l, at),
                (3, true) => score::<L, 3, 4>(l, at),
                (4, true) => score::<L, 4, 4>(l, at),
                (5, true) => score::<L, 5, 4>(l, at),
                (_, true) => score::<L, TILE, 4>(l, at),
            }
        }
        block += if wide { together } else { 1 };
    }
}

/// A tile of packed queries, the first of its blocks, and its rows of scores.
struct Place<'a> {
    seen: &'a Seen<'a>,
    block: usize,
    queries: &'a [f32],
    scores: &'a mut [f32],
}

/// Scores of `Q` queries with the tokens of `B` blocks, added up number by number.
#[inline(always)]
fn score<L: Lanes, const Q: usize, const B: usize>(l: L, at: &mut Place) {
    let (queries, _) = at.queries.as_chunks::<Q>();
    let mut keys: [&[[f32; LANES]]; B] = [&[]; B];
    for (keys, block) in keys.iter_mut().zip(&at.seen.blocks[at.block..]) {
        *keys = &at.seen.kv.keys(*block, at.seen.head)[..queries.len()];
    }
    let mut sums = [[l.splat(0.0); B]; Q];
    for (number, query) in queries.iter().enumerate() {
        let mut key = [l.splat(0.0); B];
        for (key, keys) in key.iter_mut().zip(&keys) {
            *key = l.load(&keys[number]);
        }
        for (sums, query) in sums.iter_mut().zip(query) {
            let query = l.splat(*query);
            for (sum, key) in sums.iter_mut().zip(key) {
                *sum = l.fma(query, key, *sum);
            }
        }
    }
    let stride = at.scores.len() / Q;
    for (scores, sums) in at.scores.chunks_exact_mut(stride).zip(&sums) {
        let (blocks, _) = scores.as_chunks_mut::<LANES>();
        for (block, sum) in blocks[at.block..].iter_mut().zip(sums) {
            l.store(*sum, block);
        }
    }
}

/// Turns the scores of what a query sees into `e^(score - greatest)`; returns their sum.
#[inline(always)]
fn soften<L: Lanes>(l: L, scores: &mut [f32], seen: Range<usize>) -> f32 {
    // Blocks are seen in part at both ends.
    let whole = seen.start / LANES * LANES..seen.end.next_multiple_of(LANES);
    scores[whole.start..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..whole.end].fill(f32::NEG_INFINITY);
    let (blocks, _) = scores[whole].as_chunks_mut::<LANES>();
    let mut greatest = l.splat(f32::NEG_INFINITY);
    for block in &*blocks {
        greatest = l.max(greatest, l.load(block));
    }
    let greatest = l.splat(l.greatest(greatest));
    let mut sum = l.splat(0.0);
    for block in blocks {
        let weight = exp(l, l.sub(l.load(block), greatest));
        l.store(weight, block);
        sum = l.add(sum, weight);
    }
    l.sum(sum)
}

/// Adds to the sums of every query the values that it sees, each times its weight.
#[inline(always)]
fn weigh_all<L: Lanes>(
    l: L,
    seen: &Seen,
    count: usize,
    range: impl Fn(usize) -> Range<usize>,
    weights: &[f32],
    sums: &mut [f32],
) {
    let stride = seen.blocks.len() * BLOCK_TOKENS;
    let padded = seen.kv.groups() * LANES;
    let mut begin = 0;
    while begin < stride {
        let stretch = begin..(begin + STRETCH * BLOCK_TOKENS).min(stride);
        for tile in tiles(count) {
            for part in 0..=2 * tile.len() {
                let (queries, tokens) = part_of(tile.clone(), part, &range);
                let tokens = tokens.start.max(stretch.start)..tokens.end.min(stretch.end);
                if tokens.is_empty() {
                    continue;
                }
                weigh_tile(
                    l,
                    Weighing {
                        seen,
                        tokens,
                        weights: &weights[queries.start * stride..queries.end * stride],
                        sums: &mut sums[queries.start * padded..queries.end * padded],
                        queries: queries.len(),
                    },
                );
            }
        }
        begin = stretch.end;
    }
}

/// What is weighed together: the tokens that all queries of a tile see, before them those
/// that each alone sees, then those behind. Values that a query does not see may be
/// anything, not numbers even, so that no weight of zero would help.
#[inline(always)]
fn part_of(
    tile: Range<usize>,
    part: usize,
    range: &impl Fn(usize) -> Range<usize>,
) -> (Range<usize>, Range<usize>) {
    let (first, last) = (range(tile.start), range(tile.end - 1));
    let common = last.start..first.end.max(last.start);
    if part == tile.len() {
        return (tile, common);
    }
    let query = tile.start + part % (tile.len() + 1);
    if part < tile.len() {
        let own = range(query);
        (query..query + 1, own.start..own.end.min(common.start))
    } else {
        let own = range(query);
        (query..query + 1, own.start.max(common.end)..own.end)
    }
}

/// Queries, tokens that all of them see, their rows of weights and of sums.
struct Weighing<'a> {
    seen: &'a Seen<'a>,
    tokens: Range<usize>,
    weights: &'a [f32],
    sums: &'a mut [f32],
    queries: usize,
}

#[inline(always)]
fn weigh_tile<L: Lanes>(l: L, mut at: Weighing) {
    let groups = at.seen.kv.groups();
    let mut group = 0;
    while group < groups {
        let wide = L::REGISTERS == 32 && groups - group >= 4;
        let at = &mut at;
        match (at.queries, wide) {
            (1, false) => weigh::<L, 1, 1>(l, group, at),
            (2, false) => weigh::<L, 2, 1>(l, group, at),
            (3, false) => weigh::<L, 3, 1>(l, group, at),
            (4, false) => weigh::<L, 4, 1>(l, group, at),
            (5, false) => weigh::<L, 5, 1>(l, group, at),
            (_, false) => weigh::<L, TILE, 1>(l, group, at),
            (1, true) => weigh::<L, 1, 4>(l, group, at),
            (2, true) => weigh::<L, 2, 4>(l, group, at),
            (3, true) => weigh::<L, 3, 4>(l, group, at),
            (4, true) => weigh::<L, 4, 4>(l, group, at),
            (5, true) => weigh::<L, 5, 4>(l, group, at),
            (_, true) => weigh::<L, TILE, 4>(l, group, at),
        }
        group += if wide { 4 } else { 1 };
    }
}

/// Adds `G` groups of 16 numbers of the values to the sums of `Q` queries, token by token.
#[inline(always)]
fn weigh<L: Lanes, const Q: usize, const G: usize>(l: L, group: usize, at: &mut Weighing) {
    let groups = at.seen.kv.groups();
    let (rows, _) = at.sums.as_chunks_mut::<LANES>();
    let mut sums = [[l.splat(0.0); G]; Q];
    for (sums, row) in sums.iter_mut().zip(rows.chunks_exact(groups)) {
        for (sum, row) in sums.iter_mut().zip(&row[group..]) {
            *sum = l.load(row);
        }
    }
    let (weights, _) = at.weights.as_chunks::<LANES>();
    let stride = weights.len() / Q;
    let Range { start, end } = at.tokens;
    for block in start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
        let mut weight = [&[0.0; LANES]; Q];
        for (query, weight) in weight.iter_mut().enumerate() {
            *weight = &weights[query * stride + block];
        }
        let values = at.seen.kv.values(at.seen.blocks[block], at.seen.head);
        let mut value = [&[[0.0; LANES]; BLOCK_TOKENS]; G];
        for (value, values) in value.iter_mut().zip(&values[group..]) {
            *value = values;
        }
        let first = block * BLOCK_TOKENS;
        for token in start.max(first) - first..end.min(first + BLOCK_TOKENS) - first {
            let token = token % BLOCK_TOKENS;
            let mut numbers = [l.splat(0.0); G];
            for (number, value) in numbers.iter_mut().zip(&value) {
                *number = l.load(&value[token]);
            }
            for (sums, weight) in sums.iter_mut().zip(&weight) {
                let weight = l.splat(weight[token]);
                for (sum, number) in sums.iter_mut().zip(&numbers) {
                    *sum = l.fma(weight, *number, *sum);
                }
            }
        }
    }
    for (sums, row) in sums.iter().zip(rows.chunks_exact_mut(groups)) {
        for (sum, row) in sums.iter().zip(&mut row[group..]) {
            l.store(*sum, row);
        }
    }
}
