use super::{
    blocks::{PREFETCH_BYTES, dot_products},
    kernel::{Kernel, Slab, Target, f32_from_bits},
};
use crate::{
    layout::{CHUNK, SUPER, TILE_ROWS},
    simd::Simd,
};

/// Super-blocks of 256 values of `BITS` bits with the given zero point. Sub-blocks of `SUB_BLOCK`
/// columns have 8-bit scales and, if `MINIMUM`, minima that are subtracted; without minima the
/// scales are signed.
///
/// The sums of products and of minima are exact within a super-block. Super-blocks are added in
/// order, first the products, then the minima, each rounded once.
pub(super) struct SuperBlocks<
    const BITS: usize,
    const ZERO_POINT: i32,
    const SUB_BLOCK: usize,
    const MINIMUM: bool,
>;

impl<const BITS: usize, const ZERO_POINT: i32, const SUB_BLOCK: usize, const MINIMUM: bool> Kernel
    for SuperBlocks<BITS, ZERO_POINT, SUB_BLOCK, MINIMUM>
{
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        let blocks = weights.columns / SUPER;
        let (words, rest) = x.split_at(blocks * 64);
        let (x_scales, rest) = rest.split_at(blocks);
        let (x_sums, rest) = rest.split_at(blocks * 16);
        let (pairs, wide_pairs) = rest.split_at(blocks * 8);
        let words = words.as_chunks::<8>().0.as_chunks::<8>().0;
        let x_sums = x_sums.as_chunks::<16>().0;
        let pairs = if SUB_BLOCK == 16 { pairs } else { wide_pairs };
        let scale_bytes = (2 + SUPER / SUB_BLOCK) * TILE_ROWS * (1 + usize::from(MINIMUM));
        for (index, (values, scales)) in weights.tiles().enumerate() {
            let values = values.as_chunks::<64>().0.chunks_exact(8 * BITS);
            let scales = scales.chunks_exact(scale_bytes);
            let pairs = pairs.chunks_exact(SUPER / SUB_BLOCK / 2);
            let x = words.iter().zip(x_scales).zip(x_sums).zip(pairs);
            let mut sums = [s.splat_f32(0.0); N];
            for ((values, scales), (((words, x_scales), x_sums), pairs)) in
                values.zip(scales).zip(x)
            {
                for line in scales.chunks(64) {
                    s.prefetch(line, PREFETCH_BYTES);
                }
                let (scale, rest) = split::<32>(scales);
                let (minimum, small) = if MINIMUM {
                    split::<32>(rest)
                } else {
                    (scale, rest)
                };
                let (small, minima) = small.split_at(SUPER / SUB_BLOCK * TILE_ROWS);
                let small = small.as_chunks::<16>().0;
                let mut products = [s.splat_i32(0); N];
                for (index, chunk) in values.chunks_exact(BITS).enumerate() {
                    for line in chunk {
                        s.prefetch(line, PREFETCH_BYTES);
                    }
                    for part in 0..CHUNK / SUB_BLOCK {
                        let sub_block = index * (CHUNK / SUB_BLOCK) + part;
                        let x_sums = if ZERO_POINT == 0 {
                            &[0; N]
                        } else {
                            &x_sums[sub_block]
                        };
                        let words = &words[index];
                        // A constant part tells the compiler which bits are read.
                        let part_dots = if SUB_BLOCK == CHUNK {
                            dot_products::<S, BITS, ZERO_POINT, 8, N>(s, chunk, words, 0, x_sums)
                        } else if part == 0 {
                            dot_products::<S, BITS, ZERO_POINT, 4, N>(s, chunk, words, 0, x_sums)
                        } else {
                            dot_products::<S, BITS, ZERO_POINT, 4, N>(s, chunk, words, 1, x_sums)
                        };
                        let scale = if MINIMUM {
                            s.load_u8_as_i32(&small[sub_block])
                        } else {
                            s.load_i8_as_i32(&small[sub_block])
                        };
                        for j in 0..N {
                            products[j] = s.mul_add_i32(products[j], part_dots[j], scale);
                        }
                    }
                }
                let scale = s.load_f16(scale);
                for j in 0..N {
                    let scale = s.mul(scale, s.splat_f32(f32_from_bits(x_scales[j])));
                    sums[j] = s.fma(s.to_f32(products[j]), scale, sums[j]);
                }
                if MINIMUM {
                    let mut products = [s.splat_i32(0); N];
                    for (minima, pairs) in minima.as_chunks::<32>().0.iter().zip(pairs) {
                        let minima = s.load_u8_as_i16(minima);
                        for j in 0..N {
                            products[j] = s.dot_i16(products[j], minima, pairs[j]);
                        }
                    }
                    let minimum = s.load_f16(minimum);
                    for j in 0..N {
                        let scale = s.mul(minimum, s.splat_f32(-f32_from_bits(x_scales[j])));
                        sums[j] = s.fma(s.to_f32(products[j]), scale, sums[j]);
                    }
                }
            }
            for (j, sums) in sums.into_iter().enumerate() {
                to.put(s, index, j, sums);
            }
        }
    }
}

/// Splits off the first `L` bytes; returns zeros and an empty rest if `bytes` is too short.
#[inline(always)]
fn split<const L: usize>(bytes: &[u8]) -> (&[u8; L], &[u8]) {
    bytes.split_first_chunk().unwrap_or((&[0; L], &[]))
}
