//! Attention for a few queries that share one key-value head.

use std::{cell::Cell, ops::Range};

use super::shape::AttentionShape;
use crate::{
    aligned::AlignedFloats,
    exp::exp_lanes,
    kv_blocks::{BLOCK_TOKENS, KvBlocks},
    lanes::{Kernel, LANES, Lanes},
    softcap::capped,
};

/// Maximum number of rows of a task.
pub(super) const TASK_ROWS: usize = 8;
/// Queries whose sums are kept in registers at once.
const TILE: usize = 6;
/// Blocks whose values are read for all tiles of queries before the next blocks.
const VALUE_BLOCKS: usize = 8;

/// Consecutive rows of a span, restricted to the query heads that share one key-value head.
#[derive(Default)]
pub(super) struct Task<'a> {
    /// The key-value head.
    pub(super) head: usize,
    /// Position of the first row.
    pub(super) position: usize,
    /// Blocks of the sequence.
    pub(super) blocks: &'a [u32],
    pub(super) rows: usize,
    /// Queries of each row.
    pub(super) queries: [&'a [f32]; TASK_ROWS],
    /// Output of each row.
    pub(super) out: [&'a mut [f32]; TASK_ROWS],
}

/// The kernel of a task: scores, softmax and weighted sums of values for all queries.
pub(super) struct Attend<'a, 't> {
    pub(super) shape: AttentionShape,
    pub(super) kv: &'a KvBlocks,
    pub(super) task: &'a mut Task<'t>,
}

thread_local! {
    /// Scratch memory, reused by the tasks of a thread.
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
        let first_block = shape.visible(task.position).start / BLOCK_TOKENS;
        let last_block = (task.position + task.rows - 1) / BLOCK_TOKENS;
        let visible = VisibleBlocks {
            kv,
            head: task.head,
            blocks: &task.blocks[first_block..=last_block],
        };
        // The tokens that a query attends to, relative to the first visible block.
        let range = |query: usize| {
            let range = shape.visible(task.position + query / group);
            let origin = first_block * BLOCK_TOKENS;
            range.start - origin..range.end - origin
        };

        let stride = visible.blocks.len() * BLOCK_TOKENS;
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
                let packed = packed[lane..].iter_mut().step_by(tile.len());
                for (to, element) in packed.zip(row) {
                    *to = element * shape.scale;
                }
            }
        }
        score_all(l, &visible, count, queries, scores);
        // The packed queries are no longer needed; their memory holds the sums of the weights.
        let totals = queries;
        for (query, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let tokens = range(query);
            if let Some(cap) = shape.softcap {
                let (blocks, _) = scores.as_chunks_mut::<LANES>();
                for block in blocks {
                    l.store(capped(l, l.load(block), cap), block);
                }
            }
            totals[query] = exponentiate(l, scores, tokens);
        }
        accumulate_all(l, &visible, count, range, scores, sums);
        for (query, (sums, total)) in sums.chunks_exact(padded).zip(totals).enumerate() {
            let out = &mut task.out[query / group][query % group * width..][..width];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum / *total;
            }
        }
        MEMORY.set(memory);
    }
}

/// The blocks that the queries of a task attend to.
struct VisibleBlocks<'a> {
    kv: &'a KvBlocks,
    head: usize,
    blocks: &'a [u32],
}

/// Splits `count` queries into tiles of at most [`TILE`] and about equal size.
#[inline(always)]
fn tiles(count: usize) -> impl Iterator<Item = Range<usize>> {
    let tiles = count.div_ceil(TILE).max(1);
    (0..tiles).map(move |tile| count * tile / tiles..count * (tile + 1) / tiles)
}

/// Computes the scores of every query with every token of the blocks.
#[inline(always)]
fn score_all<L: Lanes>(
    l: L,
    visible: &VisibleBlocks,
    count: usize,
    queries: &[f32],
    scores: &mut [f32],
) {
    // With 32 registers, a query element is loaded once for four blocks.
    let together = if L::REGISTERS == 32 { 4 } else { 1 };
    let mut block = 0;
    while block < visible.blocks.len() {
        let wide = visible.blocks.len() - block >= together && together == 4;
        for tile in tiles(count) {
            let width = visible.kv.width();
            let queries = &queries[tile.start * width..tile.end * width];
            let stride = visible.blocks.len() * BLOCK_TOKENS;
            let scores = &mut scores[tile.start * stride..tile.end * stride];
            let at = &mut ScoreTile {
                visible,
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

/// A tile of packed queries, its first block and its rows of scores.
struct ScoreTile<'a> {
    visible: &'a VisibleBlocks<'a>,
    block: usize,
    queries: &'a [f32],
    scores: &'a mut [f32],
}

/// Computes the scores of `Q` queries with the tokens of `B` blocks, summed element by element.
#[inline(always)]
fn score<L: Lanes, const Q: usize, const B: usize>(l: L, at: &mut ScoreTile) {
    let (queries, _) = at.queries.as_chunks::<Q>();
    let mut keys: [&[[f32; LANES]]; B] = [&[]; B];
    for (keys, block) in keys.iter_mut().zip(&at.visible.blocks[at.block..]) {
        *keys = &at.visible.kv.keys(*block, at.visible.head)[..queries.len()];
    }
    let mut sums = [[l.splat(0.0); B]; Q];
    for (element, query) in queries.iter().enumerate() {
        let mut key = [l.splat(0.0); B];
        for (key, keys) in key.iter_mut().zip(&keys) {
            *key = l.load(&keys[element]);
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

/// Replaces the scores of `tokens` by `e^(score - maximum)` and returns their sum.
#[inline(always)]
fn exponentiate<L: Lanes>(l: L, scores: &mut [f32], tokens: Range<usize>) -> f32 {
    // The first and the last block may be visible only in part.
    let whole = tokens.start / LANES * LANES..tokens.end.next_multiple_of(LANES);
    scores[whole.start..tokens.start].fill(f32::NEG_INFINITY);
    scores[tokens.end..whole.end].fill(f32::NEG_INFINITY);
    let (blocks, _) = scores[whole].as_chunks_mut::<LANES>();
    let mut maximum = l.splat(f32::NEG_INFINITY);
    for block in &*blocks {
        maximum = l.max(maximum, l.load(block));
    }
    let maximum = l.splat(l.reduce_max(maximum));
    let mut sum = l.splat(0.0);
    for block in blocks {
        let weight = exp_lanes(l, l.sub(l.load(block), maximum));
        l.store(weight, block);
        sum = l.add(sum, weight);
    }
    l.reduce_sum(sum)
}

/// Adds the weighted values of the visible tokens to the sums of every query.
#[inline(always)]
fn accumulate_all<L: Lanes>(
    l: L,
    visible: &VisibleBlocks,
    count: usize,
    range: impl Fn(usize) -> Range<usize>,
    weights: &[f32],
    sums: &mut [f32],
) {
    let stride = visible.blocks.len() * BLOCK_TOKENS;
    let padded = visible.kv.groups() * LANES;
    let mut begin = 0;
    while begin < stride {
        let end = (begin + VALUE_BLOCKS * BLOCK_TOKENS).min(stride);
        for tile in tiles(count) {
            for part in 0..=2 * tile.len() {
                let (queries, tokens) = part_of(tile.clone(), part, &range);
                let tokens = tokens.start.max(begin)..tokens.end.min(end);
                if tokens.is_empty() {
                    continue;
                }
                accumulate_tile(
                    l,
                    ValueTile {
                        visible,
                        tokens,
                        weights: &weights[queries.start * stride..queries.end * stride],
                        sums: &mut sums[queries.start * padded..queries.end * padded],
                        queries: queries.len(),
                    },
                );
            }
        }
        begin = end;
    }
}

/// Returns the queries and tokens of a part of a tile. First come the tokens before those common
/// to all queries, one part per query; then the common tokens for the whole tile; then the
/// tokens after them, again one part per query. Values outside a query's range may be NaN, so
/// they must be skipped instead of weighted with zero.
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

/// Queries, tokens visible to all of them, and the rows of weights and sums of the queries.
struct ValueTile<'a> {
    visible: &'a VisibleBlocks<'a>,
    tokens: Range<usize>,
    weights: &'a [f32],
    sums: &'a mut [f32],
    queries: usize,
}

#[inline(always)]
fn accumulate_tile<L: Lanes>(l: L, mut at: ValueTile) {
    let groups = at.visible.kv.groups();
    let mut group = 0;
    while group < groups {
        let wide = L::REGISTERS == 32 && groups - group >= 4;
        let at = &mut at;
        match (at.queries, wide) {
            (1, false) => accumulate::<L, 1, 1>(l, group, at),
            (2, false) => accumulate::<L, 2, 1>(l, group, at),
            (3, false) => accumulate::<L, 3, 1>(l, group, at),
            (4, false) => accumulate::<L, 4, 1>(l, group, at),
            (5, false) => accumulate::<L, 5, 1>(l, group, at),
            (_, false) => accumulate::<L, TILE, 1>(l, group, at),
            (1, true) => accumulate::<L, 1, 4>(l, group, at),
            (2, true) => accumulate::<L, 2, 4>(l, group, at),
            (3, true) => accumulate::<L, 3, 4>(l, group, at),
            (4, true) => accumulate::<L, 4, 4>(l, group, at),
            (5, true) => accumulate::<L, 5, 4>(l, group, at),
            (_, true) => accumulate::<L, TILE, 4>(l, group, at),
        }
        group += if wide { 4 } else { 1 };
    }
}

/// Adds `G` groups of 16 elements of the values to the sums of `Q` queries, token by token.
#[inline(always)]
fn accumulate<L: Lanes, const Q: usize, const G: usize>(l: L, group: usize, at: &mut ValueTile) {
    let groups = at.visible.kv.groups();
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
        let values = at
            .visible
            .kv
            .values(at.visible.blocks[block], at.visible.head);
        let mut value = [&[[0.0; LANES]; BLOCK_TOKENS]; G];
        for (value, values) in value.iter_mut().zip(&values[group..]) {
            *value = values;
        }
        let first = block * BLOCK_TOKENS;
        for token in start.max(first) - first..end.min(first + BLOCK_TOKENS) - first {
            let token = token % BLOCK_TOKENS;
            let mut elements = [l.splat(0.0); G];
            for (element, value) in elements.iter_mut().zip(&value) {
                *element = l.load(&value[token]);
            }
            for (sums, weight) in sums.iter_mut().zip(&weight) {
                let weight = l.splat(weight[token]);
                for (sum, element) in sums.iter_mut().zip(&elements) {
                    *sum = l.fma(weight, *element, *sum);
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
