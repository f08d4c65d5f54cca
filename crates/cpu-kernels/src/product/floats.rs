use super::kernel::{Kernel, Slab, Target, f32_from_bits};
use crate::simd::Simd;

/// Columns that are summed before they are added to the total, which limits the rounding error of
/// long sums.
const RUN: usize = 256;

pub(super) struct F32Weights;
pub(super) struct F16Weights;
pub(super) struct Bf16Weights;

/// Loads one column of 16 weights from `B` bytes.
trait Read<const B: usize> {
    fn read<S: Simd>(s: S, from: &[u8; B]) -> S::Floats;
}

impl Read<64> for F32Weights {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 64]) -> S::Floats {
        s.load_f32(from)
    }
}

impl Read<32> for F16Weights {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 32]) -> S::Floats {
        s.load_f16(from)
    }
}

impl Read<32> for Bf16Weights {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 32]) -> S::Floats {
        s.load_bf16(from)
    }
}

impl Kernel for F32Weights {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 64, N>(s, weights, x, to);
    }
}

impl Kernel for F16Weights {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 32, N>(s, weights, x, to);
    }
}

impl Kernel for Bf16Weights {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 32, N>(s, weights, x, to);
    }
}

/// Multiplies several tiles at once if rows are few: additions to one sum depend on each other,
/// and independent sums hide their latency.
#[inline(always)]
fn multiply<S: Simd, R: Read<B>, const B: usize, const N: usize>(
    s: S,
    weights: Slab<'_>,
    x: &[[i32; N]],
    to: Target<'_>,
) {
    let mut done = 0;
    if S::MAX_ROWS >= 8 {
        if N <= 2 {
            done = tiles::<S, R, B, N, 4>(s, weights, x, to, done);
        }
        done = tiles::<S, R, B, N, 2>(s, weights, x, to, done);
    }
    tiles::<S, R, B, N, 1>(s, weights, x, to, done);
}

/// Multiplies `M` tiles at once while at least `M` are left. Returns the number of tiles done.
#[inline(always)]
fn tiles<S: Simd, R: Read<B>, const B: usize, const N: usize, const M: usize>(
    s: S,
    weights: Slab<'_>,
    x: &[[i32; N]],
    to: Target<'_>,
    mut done: usize,
) -> usize {
    while done + M <= weights.tiles {
        let tiles: [&[[u8; B]]; M] = std::array::from_fn(|m| {
            let tile = weights.bytes.get((done + m) * weights.tile_bytes..);
            let columns = tile.unwrap_or_default().as_chunks().0;
            columns.get(..x.len()).unwrap_or_default()
        });
        let mut sums = [[s.splat_f32(0.0); N]; M];
        for (index, x) in x.chunks(RUN).enumerate() {
            // Slices of equal length, so that bounds are checked only once.
            let mut runs = tiles;
            for run in &mut runs {
                let begin = index * RUN;
                *run = run.get(begin..begin + x.len()).unwrap_or_default();
                if run.len() != x.len() {
                    return weights.tiles;
                }
            }
            let mut run_sums = [[s.splat_f32(0.0); N]; M];
            for k in 0..x.len() {
                let mut weights = [s.splat_f32(0.0); M];
                for m in 0..M {
                    weights[m] = R::read(s, &runs[m][k]);
                }
                for j in 0..N {
                    let x = s.splat_f32(f32_from_bits(x[k][j]));
                    for m in 0..M {
                        run_sums[m][j] = s.fma(weights[m], x, run_sums[m][j]);
                    }
                }
            }
            for m in 0..M {
                for j in 0..N {
                    sums[m][j] = s.add(sums[m][j], run_sums[m][j]);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (j, sums) in sums.into_iter().enumerate() {
                to.put(s, done + m, j, sums);
            }
        }
        done += M;
    }
    done
}
