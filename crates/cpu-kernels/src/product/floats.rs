use super::{Kernel, Slab, Target, float};
use crate::simd::Simd;

/// Columns whose products are added before they are added to the rest: the error of a long
/// sum stays that of shorter ones.
const RUN: usize = 256;

/// Floats of 32 bits.
pub(super) struct Singles;
/// Floats of 16 bits.
pub(super) struct Halves;
/// Upper halves of floats.
pub(super) struct UpperHalves;

/// How the weights of 16 rows are read, as `B` bytes.
trait Read<const B: usize> {
    fn read<S: Simd>(s: S, from: &[u8; B]) -> S::Floats;
}

impl Read<64> for Singles {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 64]) -> S::Floats {
        s.singles(from)
    }
}

impl Read<32> for Halves {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 32]) -> S::Floats {
        s.halves(from)
    }
}

impl Read<32> for UpperHalves {
    #[inline(always)]
    fn read<S: Simd>(s: S, from: &[u8; 32]) -> S::Floats {
        s.upper_halves(from)
    }
}

impl Kernel for Singles {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 64, N>(s, weights, x, to);
    }
}

impl Kernel for Halves {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 32, N>(s, weights, x, to);
    }
}

impl Kernel for UpperHalves {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>) {
        multiply::<S, Self, 32, N>(s, weights, x, to);
    }
}

/// Tiles are multiplied several at once where rows are few: a sum waits for the one before,
/// so others fill the time.
#[inline(always)]
fn multiply<S: Simd, R: Read<B>, const B: usize, const N: usize>(
    s: S,
    weights: Slab<'_>,
    x: &[[i32; N]],
    to: Target<'_>,
) {
    let mut done = 0;
    if S::MOST_ROWS >= 8 {
        if N <= 2 {
            done = tiles::<S, R, B, N, 4>(s, weights, x, to, done);
        }
        done = tiles::<S, R, B, N, 2>(s, weights, x, to, done);
    }
    tiles::<S, R, B, N, 1>(s, weights, x, to, done);
}

/// Multiplies `M` tiles at once as long as there are as many; returns how many are done.
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
        let mut sums = [[s.floats(0.0); N]; M];
        for (index, x) in x.chunks(RUN).enumerate() {
            // Slices of one length, so that it is checked once.
            let mut runs = tiles;
            for run in &mut runs {
                let begin = index * RUN;
                *run = run.get(begin..begin + x.len()).unwrap_or_default();
                if run.len() != x.len() {
                    return weights.tiles;
                }
            }
            let mut run_sums = [[s.floats(0.0); N]; M];
            for k in 0..x.len() {
                let mut weights = [s.floats(0.0); M];
                for m in 0..M {
                    weights[m] = R::read(s, &runs[m][k]);
                }
                for j in 0..N {
                    let x = s.floats(float(x[k][j]));
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
