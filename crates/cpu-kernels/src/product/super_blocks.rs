use super::{
    Kernel, Slab, Target,
    blocks::{AHEAD, dots},
    float,
};
use crate::{
    layout::{CHUNK, SUPER, TILE_ROWS},
    simd::Simd,
};

/// Super-blocks of 256 integers of `BITS` bits, stored `ZERO` too large, whose parts of `SUB`
/// have scales of 8 bits and, where `MINIMUM`, minima that are taken away; without minima the
/// scales have a sign.
///
/// Sums of products, and those of minima, are exact inside a super-block; super-blocks are
/// added in order, first the products, then the minima, each with one rounding.
pub(super) struct SuperBlocks<
    const BITS: usize,
    const ZERO: i32,
    const SUB: usize,
    const MINIMUM: bool,
>;

impl<const BITS: usize, const ZERO: i32, const SUB: usize, const MINIMUM: bool> Kernel
    for SuperBlocks<BITS, ZERO, SUB, MINIMUM>
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
        let pairs = if SUB == 16 { pairs } else { wide_pairs };
        let scale_bytes = (2 + SUPER / SUB) * TILE_ROWS * (1 + usize::from(MINIMUM));
        for (index, (numbers, scales)) in weights.tiles().enumerate() {
            let numbers = numbers.as_chunks::<64>().0.chunks_exact(8 * BITS);
            let scales = scales.chunks_exact(scale_bytes);
            let pairs = pairs.chunks_exact(SUPER / SUB / 2);
            let x = words.iter().zip(x_scales).zip(x_sums).zip(pairs);
            let mut sums = [s.floats(0.0); N];
            for ((numbers, scales), (((words, x_scales), x_sums), pairs)) in
                numbers.zip(scales).zip(x)
            {
                for line in scales.chunks(64) {
                    s.prefetch(line, AHEAD);
                }
                let (scale, rest) = split::<32>(scales);
                let (minimum, small) = if MINIMUM {
                    split::<32>(rest)
                } else {
                    (scale, rest)
                };
                let (small, minima) = small.split_at(SUPER / SUB * TILE_ROWS);
                let small = small.as_chunks::<16>().0;
                let mut products = [s.ints(0); N];
                for (index, chunk) in numbers.chunks_exact(BITS).enumerate() {
                    for line in chunk {
                        s.prefetch(line, AHEAD);
                    }
                    for part in 0..CHUNK / SUB {
                        let number = index * (CHUNK / SUB) + part;
                        let x_sums = if ZERO == 0 { &[0; N] } else { &x_sums[number] };
                        let words = &words[index];
                        // Which bits are read is then known to the compiler.
                        let part_dots = if SUB == CHUNK {
                            dots::<S, BITS, ZERO, 8, N>(s, chunk, words, 0, x_sums)
                        } else if part == 0 {
                            dots::<S, BITS, ZERO, 4, N>(s, chunk, words, 0, x_sums)
                        } else {
                            dots::<S, BITS, ZERO, 4, N>(s, chunk, words, 1, x_sums)
                        };
                        let scale = if MINIMUM {
                            s.unsigned(&small[number])
                        } else {
                            s.signed(&small[number])
                        };
                        for j in 0..N {
                            products[j] = s.add_product(products[j], part_dots[j], scale);
                        }
                    }
                }
                let scale = s.halves(scale);
                for j in 0..N {
                    let scale = s.mul(scale, s.floats(float(x_scales[j])));
                    sums[j] = s.fma(s.to_floats(products[j]), scale, sums[j]);
                }
                if MINIMUM {
                    let mut products = [s.ints(0); N];
                    for (minima, pairs) in minima.as_chunks::<32>().0.iter().zip(pairs) {
                        let minima = s.pairs(minima);
                        for j in 0..N {
                            products[j] = s.dot_pairs(products[j], minima, pairs[j]);
                        }
                    }
                    let minimum = s.halves(minimum);
                    for j in 0..N {
                        let scale = s.mul(minimum, s.floats(-float(x_scales[j])));
                        sums[j] = s.fma(s.to_floats(products[j]), scale, sums[j]);
                    }
                }
            }
            for (j, sums) in sums.into_iter().enumerate() {
                to.put(s, index, j, sums);
            }
        }
    }
}

/// The first `L` bytes and the rest; zeros and nothing where there are not as many.
#[inline(always)]
fn split<const L: usize>(bytes: &[u8]) -> (&[u8; L], &[u8]) {
    bytes.split_first_chunk().unwrap_or((&[0; L], &[]))
}
