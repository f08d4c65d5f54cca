#![allow(clippy::inline_always)] // `Op::run` is compiled for the instructions it is inlined into.

use std::{marker::PhantomData, ops::Range};

use diagnostics::Diagnostic;
use model_format::TensorType;

use crate::{
    Isa, PackedMatrix, Threads,
    activations::{Form, Panels},
    layout::TILE_ROWS,
    simd::{Op, Simd, WithSimd, dispatch},
    threads::Shared,
};

mod blocks;
mod floats;
mod super_blocks;

use blocks::Blocks;
use floats::{Halves, Singles, UpperHalves};
use super_blocks::SuperBlocks;

/// Bytes of weights that a task multiplies with all activations before the next ones: they
/// stay in the second cache meanwhile.
const TASK_BYTES: usize = 128 << 10;
/// Tasks for each thread, so that a disturbed one does not keep the others waiting.
const TASKS_EACH: usize = 6;

/// A matrix and where its product goes: `[n, rows]`.
pub struct Product<'a> {
    /// The weights.
    pub matrix: &'a PackedMatrix,
    /// `n` times as many numbers as the matrix has rows.
    pub out: &'a mut [f32],
}

/// Multiplies the `n` rows of `x`, `[n, columns]`, with each of the matrices transposed.
///
/// All matrices have the same columns. Activations are written as bytes once for all of them,
/// where weights are quantised, and the threads start once.
///
/// A number of a result depends on its row of `x` and its row of weights alone, bit for bit:
/// not on what else is computed, nor on `isa` or the threads.
///
/// Errors: sizes that do not fit together.
pub fn multiply(
    isa: Isa,
    threads: &Threads,
    x: &[f32],
    products: &mut [Product<'_>],
) -> Result<(), Diagnostic> {
    let Some(first) = products.first() else {
        return Ok(());
    };
    let columns = first.matrix.columns();
    let n = x.len() / columns;
    for product in &*products {
        let matrix = product.matrix;
        let fits = matrix.columns() == columns
            && x.len() == n * columns
            && product.out.len() == n * matrix.rows();
        if !fits {
            return Err(Diagnostic::internal(format!(
                "{} numbers times {} x {} weights are not {}",
                x.len(),
                matrix.rows(),
                matrix.columns(),
                product.out.len()
            )));
        }
    }
    if n > 0 {
        dispatch(
            isa,
            Multiply {
                threads,
                x,
                n,
                columns,
                products,
            },
        );
    }
    Ok(())
}

struct Multiply<'a, 'p> {
    threads: &'a Threads,
    x: &'a [f32],
    n: usize,
    columns: usize,
    products: &'a mut [Product<'p>],
}

/// One product whose tiles are dealt out.
struct Job<'a> {
    matrix: &'a PackedMatrix,
    panels: &'a Panels,
    out: Shared<'a, f32>,
    task_tiles: usize,
    /// The numbers of its tasks.
    tasks: Range<usize>,
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    fn with<S: Simd>(self, s: S) {
        let Self {
            threads,
            x,
            n,
            columns,
            products,
        } = self;
        let form_of = |product: &Product<'_>| Form::of(product.matrix.layout());
        let panels = Form::ALL.map(|form| {
            products
                .iter()
                .any(|product| form_of(product) == form)
                .then(|| Panels::new(s, form, x, columns, threads))
        });
        let total_bytes: usize = products.iter().map(|p| p.matrix.bytes()).sum();
        let even = total_bytes / (threads.count() * TASKS_EACH);
        // One panel reads the weights once.
        let panels_are_many = n > S::MOST_ROWS;
        let task_bytes = if panels_are_many {
            even.min(TASK_BYTES)
        } else {
            even
        };
        let mut tasks = 0;
        let mut work = 0;
        let mut jobs = Vec::with_capacity(products.len());
        for product in products {
            let matrix = product.matrix;
            let Some(panels) = &panels[Form::of(matrix.layout()) as usize] else {
                continue;
            };
            let tiles = matrix.tiles();
            let task_tiles = (task_bytes * tiles / matrix.bytes().max(1)).clamp(1, tiles);
            let begin = tasks;
            tasks += tiles.div_ceil(task_tiles);
            work += matrix.rows() * columns * n;
            jobs.push(Job {
                matrix,
                panels,
                out: Shared::new(product.out),
                task_tiles,
                tasks: begin..tasks,
            });
        }
        threads.for_each(work, tasks, |index| {
            if let Some(job) = jobs.iter().find(|job| job.tasks.contains(&index)) {
                job.compute(s, index - job.tasks.start);
            }
        });
    }
}

impl Job<'_> {
    /// Multiplies the tiles of a task with all activations.
    fn compute<S: Simd>(&self, s: S, task: usize) {
        match self.matrix.kind() {
            TensorType::F32 => self.compute_with::<S, Singles>(s, task),
            TensorType::F16 => self.compute_with::<S, Halves>(s, task),
            TensorType::BF16 => self.compute_with::<S, UpperHalves>(s, task),
            TensorType::Q4_0 => self.compute_with::<S, Blocks<4, 8, false>>(s, task),
            TensorType::Q4_1 => self.compute_with::<S, Blocks<4, 0, true>>(s, task),
            TensorType::Q5_0 => self.compute_with::<S, Blocks<5, 16, false>>(s, task),
            TensorType::Q5_1 => self.compute_with::<S, Blocks<5, 0, true>>(s, task),
            TensorType::Q8_0 => self.compute_with::<S, Blocks<8, 128, false>>(s, task),
            TensorType::Q2K => self.compute_with::<S, SuperBlocks<2, 0, 16, true>>(s, task),
            TensorType::Q3K => self.compute_with::<S, SuperBlocks<3, 4, 16, false>>(s, task),
            TensorType::Q4K => self.compute_with::<S, SuperBlocks<4, 0, 32, true>>(s, task),
            TensorType::Q5K => self.compute_with::<S, SuperBlocks<5, 0, 32, true>>(s, task),
            TensorType::Q6K => self.compute_with::<S, SuperBlocks<6, 32, 16, false>>(s, task),
        }
    }

    fn compute_with<S: Simd, K: Kernel>(&self, s: S, task: usize) {
        let first_tile = task * self.task_tiles;
        let tiles = self.task_tiles.min(self.matrix.tiles() - first_tile);
        let weights = Slab {
            bytes: self.matrix.tiles_from(first_tile),
            tile_bytes: self.matrix.layout().tile_bytes(self.panels.columns()),
            number_bytes: self.matrix.layout().number_bytes(self.panels.columns()),
            columns: self.panels.columns(),
            tiles,
        };
        for (row, width, x) in self.panels.iter() {
            let to = Target {
                out: &self.out,
                rows: self.matrix.rows(),
                first_row: first_tile * TILE_ROWS,
                row,
            };
            match width {
                16 if S::MOST_ROWS >= 16 => s.run(Panel::<K, 16>::new(weights, x, to)),
                8 if S::MOST_ROWS >= 8 => s.few().run(Panel::<K, 8>::new(weights, x, to)),
                4 => s.few().run(Panel::<K, 4>::new(weights, x, to)),
                2 => s.few().run(Panel::<K, 2>::new(weights, x, to)),
                _ => s.few().run(Panel::<K, 1>::new(weights, x, to)),
            }
        }
    }
}

/// Some tiles of a matrix, one after the other.
#[derive(Clone, Copy)]
struct Slab<'a> {
    bytes: &'a [u8],
    tile_bytes: usize,
    /// Bytes of a tile before its scales.
    number_bytes: usize,
    columns: usize,
    tiles: usize,
}

impl<'a> Slab<'a> {
    /// The numbers and the scales of each tile.
    #[inline(always)]
    fn tiles(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.bytes
            .chunks_exact(self.tile_bytes)
            .take(self.tiles)
            .map(move |tile| tile.split_at(self.number_bytes))
    }
}

/// Where the sums of a panel go.
#[derive(Clone, Copy)]
struct Target<'a> {
    out: &'a Shared<'a, f32>,
    /// Rows of the matrix, of the first tile's first one, and of the activations.
    rows: usize,
    first_row: usize,
    row: usize,
}

impl Target<'_> {
    /// Puts the sums of a tile with the activations of row `row` of the panel.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn put<S: Simd>(&self, s: S, tile: usize, row: usize, sums: S::Floats) {
        let first = self.first_row + tile * TILE_ROWS;
        let count = TILE_ROWS.min(self.rows - first);
        // SAFETY: A task puts its own tiles only, each with each row of activations once, one
        // after the other; no other part of `out` is kept.
        let out = unsafe { self.out.part((self.row + row) * self.rows + first, count) };
        let sums = s.array(sums);
        match <&mut [f32; TILE_ROWS]>::try_from(&mut *out) {
            Ok(all) => *all = sums,
            Err(_) => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// The product of tiles of one type with a panel of `N` rows.
trait Kernel {
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>);
}

struct Panel<'a, K, const N: usize> {
    weights: Slab<'a>,
    x: &'a [i32],
    to: Target<'a>,
    kernel: PhantomData<K>,
}

impl<'a, K, const N: usize> Panel<'a, K, N> {
    fn new(weights: Slab<'a>, x: &'a [i32], to: Target<'a>) -> Self {
        Self {
            weights,
            x,
            to,
            kernel: PhantomData,
        }
    }
}

impl<K: Kernel, const N: usize> Op for Panel<'_, K, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        K::run::<S, N>(s, self.weights, self.x.as_chunks().0, self.to);
    }
}

/// A float that was kept among integers.
#[inline(always)]
fn float(bits: i32) -> f32 {
    f32::from_bits(bits.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WeightMemory, simd::Plain};

    /// The panels of processors with tiles, whether or not this one has them.
    #[test]
    fn sixteen_rows_at_once_are_as_few() {
        let threads = Threads::new(1).unwrap();
        let (rows, columns) = (20, 512);
        for &kind in TensorType::ALL {
            let size = rows * columns / kind.block_size() as usize * kind.block_bytes() as usize;
            // No float of 16 or 32 bits that these bytes make is too large or none.
            let data: Vec<u8> = (0..size).map(|i| (i * i % 59) as u8).collect();
            let memory = WeightMemory::default();
            let matrix =
                PackedMatrix::new(kind, (rows, columns), &data, &memory, &threads).unwrap();
            for n in [1, 15, 16, 35] {
                let x: Vec<f32> = (0..n * columns)
                    .map(|i| (i * i % 251) as f32 - 99.0)
                    .collect();
                let mut out = [vec![0.0; n * rows], vec![1.0; n * rows]];
                for (out, tiles) in out.iter_mut().zip([false, true]) {
                    let product = Product {
                        matrix: &matrix,
                        out,
                    };
                    let work = Multiply {
                        threads: &threads,
                        x: &x,
                        n,
                        columns,
                        products: &mut [product],
                    };
                    if tiles {
                        work.with(Plain::<true>);
                    } else {
                        work.with(Plain::<false>);
                    }
                }
                assert_eq!(out[0], out[1], "{kind:?} {n}");
            }
        }
    }
}
