use std::array::from_fn;

use super::{Kernel, Slab, Target, float};
use crate::{
    layout::{CHUNK, Plane, TILE_ROWS, planes},
    simd::Simd,
};

/// Bytes between what is multiplied and what is fetched meanwhile. Memory that answers after
/// 100 ns and gives 30 GB/s has some thousand bytes on the way, and what is done with numbers
/// adds to the delay. Long rows of 8 bits that are read for one row of activations are as fast
/// as the processor looks ahead by itself, which far fetches disturb.
pub(super) const AHEAD: usize = 32 << 10;
const AHEAD_IN_LONG_ROWS: usize = 4 << 10;
const LONG_ROW: usize = 2048;

/// Blocks of 32 integers of `BITS` bits, stored `ZERO` too large, with a scale and, where
/// `MINIMUM`, something that is added to each.
///
/// Sums of products are exact inside a block; blocks are added in order, each with one
/// rounding of `integer sum * (scale * scale) + sum`.
pub(super) struct Blocks<const BITS: usize, const ZERO: i32, const MINIMUM: bool>;

impl<const BITS: usize, const ZERO: i32, const MINIMUM: bool> Kernel
    for Blocks<BITS, ZERO, MINIMUM>
{
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        let (words, rest) = x.split_at(weights.columns / 4);
        let (x_scales, x_sums) = rest.split_at(weights.columns / CHUNK);
        let words = words.as_chunks::<8>().0;
        let ahead = if BITS == 8 && N == 1 && weights.columns >= LONG_ROW {
            AHEAD_IN_LONG_ROWS
        } else {
            AHEAD
        };
        for (index, (numbers, scales)) in weights.tiles().enumerate() {
            let numbers = numbers.as_chunks::<64>().0.chunks_exact(BITS);
            let scales = scales
                .as_chunks::<32>()
                .0
                .chunks_exact(1 + usize::from(MINIMUM));
            let x = words.iter().zip(x_scales).zip(x_sums);
            let mut sums = [s.floats(0.0); N];
            for ((chunk, scales), ((words, x_scales), x_sums)) in numbers.zip(scales).zip(x) {
                for line in chunk {
                    s.prefetch(line, ahead);
                }
                s.prefetch(&scales[0], ahead);
                let dots = dots::<S, BITS, ZERO, 8, N>(s, chunk, words, 0, x_sums);
                let scale = s.halves(&scales[0]);
                for j in 0..N {
                    let scale = s.mul(scale, s.floats(float(x_scales[j])));
                    sums[j] = s.fma(s.to_floats(dots[j]), scale, sums[j]);
                }
                if MINIMUM {
                    let minimum = s.halves(&scales[1]);
                    for j in 0..N {
                        let x_sum = float(x_scales[j]) * x_sums[j] as f32;
                        sums[j] = s.fma(minimum, s.floats(x_sum), sums[j]);
                    }
                }
            }
            for (j, sums) in sums.into_iter().enumerate() {
                to.put(s, index, j, sums);
            }
        }
    }
}

/// Sums of the products of the columns of `GROUPS` groups of a chunk, from the group
/// `part * GROUPS` on, with each row of `x`; `x_sums` are those of the activations alone.
#[inline(always)]
pub(super) fn dots<
    S: Simd,
    const BITS: usize,
    const ZERO: i32,
    const GROUPS: usize,
    const N: usize,
>(
    s: S,
    chunk: &[[u8; 64]],
    x: &[[i32; N]; 8],
    part: usize,
    x_sums: &[i32; N],
) -> [S::Ints; N] {
    let first = part * GROUPS;
    if N == TILE_ROWS
        && let Ok(x) = x.as_flattened().try_into()
    {
        let starts = from_fn(|j| x_sums[j].wrapping_mul(-ZERO));
        let mut weights = [read::<S, BITS>(s, chunk, first); GROUPS];
        for (group, weights) in weights.iter_mut().enumerate().skip(1) {
            *weights = read::<S, BITS>(s, chunk, first + group);
        }
        let sums = s.dots::<GROUPS>(&starts, weights, x, part);
        return from_fn(|j| sums[j]);
    }
    let mut sums = [s.ints(0); N];
    for j in 0..N {
        sums[j] = start::<S, BITS, ZERO>(s, x_sums[j]);
    }
    for (group, x) in x.iter().enumerate().skip(first).take(GROUPS) {
        let weights = read::<S, BITS>(s, chunk, group);
        for j in 0..N {
            sums[j] = if BITS == 8 {
                s.dot_offset(sums[j], weights, x[j])
            } else {
                s.dot(sums[j], weights, x[j])
            };
        }
    }
    sums
}

/// The sum that makes up for weights that are stored `ZERO` too large.
#[inline(always)]
fn start<S: Simd, const BITS: usize, const ZERO: i32>(s: S, x_sum: i32) -> S::Ints {
    if BITS == 8 {
        s.start_offset(x_sum)
    } else {
        s.ints(x_sum.wrapping_mul(-ZERO))
    }
}

/// The weights of the four columns of a group of a chunk.
#[inline(always)]
fn read<S: Simd, const BITS: usize>(s: S, chunk: &[[u8; 64]], group: usize) -> S::Bytes {
    if BITS == 8 {
        return s.bytes(&chunk[group]);
    }
    let (low, high) = planes(BITS, group);
    let weights = read_plane(s, chunk, low);
    match high {
        Some(high) => s.or(weights, read_plane(s, chunk, high)),
        None => weights,
    }
}

// No closure: one that is not inlined is not compiled for the instructions.
#[inline(always)]
fn read_plane<S: Simd>(s: S, chunk: &[[u8; 64]], plane: Plane) -> S::Bytes {
    let mask = (((1_u32 << plane.width) - 1) << plane.from) as u8;
    let up = plane.from.saturating_sub(plane.at);
    let down = plane.at.saturating_sub(plane.from);
    s.bits(s.bytes(&chunk[plane.vector]), up, down, mask)
}
