use std::array::from_fn;

use super::kernel::{Kernel, Slab, Target, f32_from_bits};
use crate::{
    layout::{CHUNK, Plane, TILE_ROWS, planes},
    simd::Simd,
};

/// Distance in bytes between the weights being multiplied and those being prefetched. With a
/// latency of 100 ns and 30 GB/s, some thousand bytes are in flight, and computation adds to the
/// delay. Long 8-bit rows with one row of activations run at the speed of the hardware
/// prefetcher, which distant prefetches disturb.
pub(super) const PREFETCH_BYTES: usize = 32 << 10;
const PREFETCH_BYTES_LONG_ROWS: usize = 4 << 10;
const LONG_ROW: usize = 2048;

/// Blocks of 32 values of `BITS` bits with the given zero point, a scale and, if `MINIMUM`, a
/// minimum that is added to each value.
///
/// The sum of products is exact within a block. Blocks are added in order, each with a single
/// rounding of `integer sum * (scale * scale) + sum`.
pub(super) struct Blocks<const BITS: usize, const ZERO_POINT: i32, const MINIMUM: bool>;

impl<const BITS: usize, const ZERO_POINT: i32, const MINIMUM: bool> Kernel
    for Blocks<BITS, ZERO_POINT, MINIMUM>
{
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        let (words, rest) = x.split_at(weights.columns / 4);
        let (x_scales, x_sums) = rest.split_at(weights.columns / CHUNK);
        let words = words.as_chunks::<8>().0;
        let ahead = if BITS == 8 && N == 1 && weights.columns >= LONG_ROW {
            PREFETCH_BYTES_LONG_ROWS
        } else {
            PREFETCH_BYTES
        };
        for (index, (values, scales)) in weights.tiles().enumerate() {
            let values = values.as_chunks::<64>().0.chunks_exact(BITS);
            let scales = scales
                .as_chunks::<32>()
                .0
                .chunks_exact(1 + usize::from(MINIMUM));
            let x = words.iter().zip(x_scales).zip(x_sums);
            let mut sums = [s.splat_f32(0.0); N];
            for ((chunk, scales), ((words, x_scales), x_sums)) in values.zip(scales).zip(x) {
                for line in chunk {
                    s.prefetch(line, ahead);
                }
                s.prefetch(&scales[0], ahead);
                let dots = dot_products::<S, BITS, ZERO_POINT, 8, N>(s, chunk, words, 0, x_sums);
                let scale = s.load_f16(&scales[0]);
                for j in 0..N {
                    let scale = s.mul(scale, s.splat_f32(f32_from_bits(x_scales[j])));
                    sums[j] = s.fma(s.to_f32(dots[j]), scale, sums[j]);
                }
                if MINIMUM {
                    let minimum = s.load_f16(&scales[1]);
                    for j in 0..N {
                        let x_sum = f32_from_bits(x_scales[j]) * x_sums[j] as f32;
                        sums[j] = s.fma(minimum, s.splat_f32(x_sum), sums[j]);
                    }
                }
            }
            for (j, sums) in sums.into_iter().enumerate() {
                to.put(s, index, j, sums);
            }
        }
    }
}

/// Returns the dot products of `GROUPS` groups of four columns of a chunk, starting at group
/// `part * GROUPS`, with each row of `x`; `x_sums` are the sums of the activations.
#[inline(always)]
pub(super) fn dot_products<
    S: Simd,
    const BITS: usize,
    const ZERO_POINT: i32,
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
        let starts = from_fn(|j| x_sums[j].wrapping_mul(-ZERO_POINT));
        let mut weights = [read::<S, BITS>(s, chunk, first); GROUPS];
        for (group, weights) in weights.iter_mut().enumerate().skip(1) {
            *weights = read::<S, BITS>(s, chunk, first + group);
        }
        let sums = s.dot_panel::<GROUPS>(&starts, weights, x, part);
        return from_fn(|j| sums[j]);
    }
    let mut sums = [s.splat_i32(0); N];
    for j in 0..N {
        sums[j] = start::<S, BITS, ZERO_POINT>(s, x_sums[j]);
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

/// Returns the initial sum that corrects for the zero point of the weights.
#[inline(always)]
fn start<S: Simd, const BITS: usize, const ZERO_POINT: i32>(s: S, x_sum: i32) -> S::Ints {
    if BITS == 8 {
        s.dot_offset_start(x_sum)
    } else {
        s.splat_i32(x_sum.wrapping_mul(-ZERO_POINT))
    }
}

/// Loads the weights of a group of four columns.
#[inline(always)]
fn read<S: Simd, const BITS: usize>(s: S, chunk: &[[u8; 64]], group: usize) -> S::Bytes {
    if BITS == 8 {
        return s.load_bytes(&chunk[group]);
    }
    let (low, high) = planes(BITS, group);
    let weights = read_plane(s, chunk, low);
    match high {
        Some(high) => s.or(weights, read_plane(s, chunk, high)),
        None => weights,
    }
}

// Not a closure: one that is not inlined would not be compiled for the instruction set.
#[inline(always)]
fn read_plane<S: Simd>(s: S, chunk: &[[u8; 64]], plane: Plane) -> S::Bytes {
    let mask = (((1_u32 << plane.width) - 1) << plane.value_bit) as u8;
    let up = plane.value_bit.saturating_sub(plane.stored_bit);
    let down = plane.stored_bit.saturating_sub(plane.value_bit);
    s.shift_and_mask(s.load_bytes(&chunk[plane.vector]), up, down, mask)
}
