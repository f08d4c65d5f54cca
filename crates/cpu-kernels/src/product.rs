use std::{marker::PhantomData, ops::Range};

use diagnostics::Diagnostic;
use model_format::TensorType;

use crate::{
    activations::{Form, Panels},
    errors,
    isa::Isa,
    layout::TILE_ROWS,
    packed::PackedMatrix,
    simd::{Op, Simd, WithSimd, dispatch},
    threads::{SharedSlice, Threads},
};

mod blocks;
mod floats;
mod kernel;
mod super_blocks;

use blocks::Blocks;
use floats::{Bf16Weights, F16Weights, F32Weights};
use kernel::{Kernel, Slab, Target};
use super_blocks::SuperBlocks;

/// Bytes of weights that a task multiplies by all activations before it continues, chosen to stay
/// in the L2 cache.
const TASK_BYTES: usize = 128 << 10;
/// Tasks per thread; more than one, so that a preempted thread does not delay the others.
const TASKS_PER_THREAD: usize = 6;

/// A matrix and the destination of its product.
pub struct Product<'a> {
    /// Weights of shape `[rows, columns]`.
    pub matrix: &'a PackedMatrix,
    /// Output of shape `[n, rows]`.
    pub out: &'a mut [f32],
}

/// Multiplies `x` of shape `[n, columns]` by the transpose of each matrix.
///
/// All matrices have the same number of columns. For quantized weights, activations are quantized
/// once for all matrices, and the threads are started once.
///
/// Each output value depends only on its row of `x` and its row of weights, bit for bit: not on
/// the rest of the batch, on `isa` or on the threads.
///
/// Errors: sizes that do not match.
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
            return Err(errors::product_size(
                x.len(),
                matrix.rows(),
                matrix.columns(),
                product.out.len(),
            ));
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

/// One product, divided into tasks.
struct Job<'a> {
    matrix: &'a PackedMatrix,
    panels: &'a Panels,
    out: SharedSlice<'a, f32>,
    task_tiles: usize,
    /// Indices of its tasks.
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
        let even = total_bytes / (threads.count() * TASKS_PER_THREAD);
        // A single panel reads the weights only once, so they need not stay in the cache.
        let has_many_panels = n > S::MAX_ROWS;
        let task_bytes = if has_many_panels {
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
                out: SharedSlice::new(product.out),
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
    /// Multiplies the tiles of a task by all activations.
    fn compute<S: Simd>(&self, s: S, task: usize) {
        match self.matrix.kind() {
            TensorType::F32 => self.compute_with::<S, F32Weights>(s, task),
            TensorType::F16 => self.compute_with::<S, F16Weights>(s, task),
            TensorType::BF16 => self.compute_with::<S, Bf16Weights>(s, task),
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
            value_bytes: self.matrix.layout().value_bytes(self.panels.columns()),
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
                16 if S::MAX_ROWS >= 16 => s.run(Panel::<K, 16>::new(weights, x, to)),
                8 if S::MAX_ROWS >= 8 => s.without_tiles().run(Panel::<K, 8>::new(weights, x, to)),
                4 => s.without_tiles().run(Panel::<K, 4>::new(weights, x, to)),
                2 => s.without_tiles().run(Panel::<K, 2>::new(weights, x, to)),
                _ => s.without_tiles().run(Panel::<K, 1>::new(weights, x, to)),
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memory::WeightMemory, simd::Plain};

    /// Checks the panel sizes of AMX on any processor.
    #[test]
    fn panels_of_sixteen_rows_produce_the_same_products() {
        let threads = Threads::new(1).unwrap();
        let (rows, columns) = (20, 512);
        for &kind in TensorType::ALL {
            let size = rows * columns / kind.block_size() as usize * kind.block_bytes() as usize;
            // These bytes form no F16, BF16 or F32 value that is huge, infinite or NaN.
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

    #[test]
    fn rejects_sizes_that_do_not_match() {
        let threads = Threads::new(1).unwrap();
        let memory = WeightMemory::default();
        let matrix =
            PackedMatrix::new(TensorType::F32, (3, 2), &[0; 24], &memory, &threads).unwrap();
        for (x, out) in [(3, 3), (2, 2), (4, 3)] {
            let mut out = vec![0.0; out];
            let mut products = [Product {
                matrix: &matrix,
                out: &mut out,
            }];
            assert!(multiply(Isa::Plain, &threads, &vec![0.0; x], &mut products).is_err());
        }
    }
}
