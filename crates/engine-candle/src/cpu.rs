use candle_core::{Error, Result};
use cpu_kernels::{Activation, AttentionShape, AttentionSpan, Isa, Product, Threads, multiply};
use inference_execution::KvCache;

use crate::{
    attention::Attention,
    backend::{Backend, Targets},
    errors,
    kv::CpuKv,
    linear::Linear,
    matrix::{Matrix, copy_rows},
    norm::Norm,
    plan::Plan,
    rope::Rotation,
};

/// Rows per task.
const PIECE_ROWS: usize = 8;
/// Cost of an exponential in multiply-adds.
const EXP_WORK: usize = 8;

/// Computes with `cpu_kernels`. Result buffers are reused from step to step.
pub(crate) struct CpuBackend {
    isa: Isa,
    threads: Threads,
    kv: CpuKv,
    free: Vec<Vec<f32>>,
}

/// Rows at the start of a buffer, which may be longer.
#[derive(Default)]
pub(crate) struct CpuRows {
    buffer: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl CpuRows {
    fn values(&self) -> &[f32] {
        &self.buffer[..self.rows * self.columns]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.rows * self.columns]
    }
}

impl CpuBackend {
    pub(crate) fn new(threads: Threads, kv: CpuKv) -> Self {
        Self {
            isa: Isa::best(),
            threads,
            kv,
            free: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn rows_of(&mut self, values: &[f32], columns: usize) -> CpuRows {
        let mut rows = self.take(values.len() / columns, columns);
        rows.values_mut().copy_from_slice(values);
        rows
    }

    /// Returns rows with arbitrary content.
    fn take(&mut self, rows: usize, columns: usize) -> CpuRows {
        let length = rows * columns;
        // The smallest buffer that is long enough, or else the longest, which grows.
        let sizes = self.free.iter().map(Vec::len).enumerate();
        let fit = sizes.clone().filter(|(_, size)| *size >= length);
        let found = fit.min_by_key(|(_, size)| *size);
        let index = found.or_else(|| sizes.max_by_key(|(_, size)| *size));
        let mut buffer = index.map_or_else(Vec::new, |(index, _)| self.free.swap_remove(index));
        if buffer.len() < length {
            buffer.resize(length, 0.0);
        }
        CpuRows {
            buffer,
            rows,
            columns,
        }
    }

    /// Calls `change` for pieces of whole rows with the index of their first row. `work` is the
    /// cost per element in multiply-adds.
    fn by_rows(&self, work: usize, x: &mut CpuRows, change: impl Fn(usize, &mut [f32]) + Sync) {
        let (all, size) = (work * x.rows * x.columns, PIECE_ROWS * x.columns);
        let change = |piece, values: &mut [f32]| change(piece * PIECE_ROWS, values);
        self.threads.fill(all, x.values_mut(), size, change);
    }
}

impl Backend for CpuBackend {
    type Rows = CpuRows;

    fn lookup(&mut self, table: &Matrix, indices: &[u32]) -> Result<CpuRows> {
        let table = table.packed()?;
        let mut out = self.take(indices.len(), table.columns());
        copy_rows(table, indices, out.values_mut())?;
        Ok(out)
    }

    fn angles(&mut self, rotation: &Rotation, positions: &[u32]) -> Result<[CpuRows; 2]> {
        let pairs = rotation.frequencies.len();
        let mut cos = self.take(positions.len(), pairs);
        let mut sin = self.take(positions.len(), pairs);
        rotation.angles(positions, cos.values_mut(), sin.values_mut());
        Ok([cos, sin])
    }

    fn linear<const N: usize>(
        &mut self,
        x: &CpuRows,
        linears: [&Linear; N],
    ) -> Result<[CpuRows; N]> {
        let mut results = linears.map(|_| CpuRows::default());
        let mut products = Vec::with_capacity(N);
        for (linear, out) in linears.iter().zip(&mut results) {
            let matrix = linear.matrix.packed()?;
            *out = self.take(x.rows, matrix.rows());
            products.push(Product {
                matrix,
                out: out.values_mut(),
            });
        }
        multiply(self.isa, &self.threads, x.values(), &mut products).map_err(Error::wrap)?;
        for (linear, out) in linears.iter().zip(&mut results) {
            if let Some(bias) = &linear.bias {
                for row in out.values_mut().chunks_exact_mut(bias.values.len()) {
                    cpu_kernels::add(self.isa, row, &bias.values);
                }
            }
        }
        Ok(results)
    }

    fn norm(&mut self, x: &CpuRows, norm: &Norm) -> Result<CpuRows> {
        let mut out = self.take(x.rows, x.columns);
        let (isa, columns) = (self.isa, x.columns);
        self.by_rows(2, &mut out, |first, out| {
            let rows = x.values()[first * columns..].chunks_exact(columns);
            for (x, out) in rows.zip(out.chunks_exact_mut(columns)) {
                cpu_kernels::rms_norm(isa, x, &norm.weight.values, norm.epsilon, out);
            }
        });
        Ok(out)
    }

    fn norm_heads(&mut self, mut x: CpuRows, norm: &Norm) -> Result<CpuRows> {
        let isa = self.isa;
        self.by_rows(2, &mut x, |_, rows| {
            cpu_kernels::rms_norm_heads(isa, rows, &norm.weight.values, norm.epsilon);
        });
        Ok(x)
    }

    fn rotate(&mut self, mut x: CpuRows, width: usize, angles: &[CpuRows; 2]) -> Result<CpuRows> {
        let (isa, columns, pairs) = (self.isa, x.columns, angles[0].columns);
        self.by_rows(2, &mut x, |first, rows| {
            let [cos, sin] = angles
                .each_ref()
                .map(|a| a.values()[first * pairs..].chunks_exact(pairs));
            for ((row, cos), sin) in rows.chunks_exact_mut(columns).zip(cos).zip(sin) {
                cpu_kernels::rotate(isa, row, width, cos, sin);
            }
        });
        Ok(x)
    }

    fn attend(
        &mut self,
        layer: usize,
        attention: Attention,
        [query, key, value]: [CpuRows; 3],
        plan: &Plan,
    ) -> Result<CpuRows> {
        self.kv.write(layer, plan, key.values(), value.values());
        let mut out = self.take(query.rows, query.columns);
        let shape = AttentionShape {
            heads: attention.heads.queries,
            scale: attention.heads.scale,
            softcap: attention.heads.softcap,
            window: attention.window,
        };
        let spans = plan.spans.iter().map(|span| AttentionSpan {
            rows: span.rows,
            position: span.position,
            blocks: &span.blocks,
        });
        cpu_kernels::attention(
            self.isa,
            &self.threads,
            shape,
            spans,
            query.values(),
            self.kv.layer(layer),
            out.values_mut(),
        );
        for x in [query, key, value] {
            self.release(x);
        }
        Ok(out)
    }

    fn gated(&mut self, activation: Activation, mut gate: CpuRows, up: CpuRows) -> Result<CpuRows> {
        let (isa, columns) = (self.isa, gate.columns);
        self.by_rows(EXP_WORK, &mut gate, |first, gate| {
            let up = &up.values()[first * columns..][..gate.len()];
            cpu_kernels::gated(isa, activation, gate, up);
        });
        self.release(up);
        Ok(gate)
    }

    fn add(&mut self, mut x: CpuRows, y: CpuRows) -> Result<CpuRows> {
        let (isa, columns) = (self.isa, x.columns);
        self.by_rows(1, &mut x, |first, x| {
            cpu_kernels::add(isa, x, &y.values()[first * columns..][..x.len()]);
        });
        self.release(y);
        Ok(x)
    }

    fn scale(&mut self, mut x: CpuRows, factor: f32) -> Result<CpuRows> {
        x.values_mut().iter_mut().for_each(|x| *x *= factor);
        Ok(x)
    }

    fn softcap(&mut self, mut x: CpuRows, cap: f32) -> Result<CpuRows> {
        let isa = self.isa;
        self.by_rows(EXP_WORK, &mut x, |_, x| {
            cpu_kernels::softcap(isa, x, cap);
        });
        Ok(x)
    }

    fn select(&mut self, x: &CpuRows, rows: &[u32]) -> Result<CpuRows> {
        let mut out = self.take(rows.len(), x.columns);
        let out_rows = out.values_mut().chunks_exact_mut(x.columns);
        for (row, out) in rows.iter().zip(out_rows) {
            out.copy_from_slice(&x.values()[*row as usize * x.columns..][..x.columns]);
        }
        Ok(out)
    }

    fn combine(&mut self, rows: usize, parts: Vec<(CpuRows, Targets)>) -> Result<CpuRows> {
        let columns = parts.first().map_or(0, |(part, _)| part.columns);
        let mut out = self.take(rows, columns);
        out.values_mut().fill(0.0);
        for (part, targets) in parts {
            let part_rows = part.values().chunks_exact(columns);
            for ((row, weight), values) in targets.into_iter().zip(part_rows) {
                let sums = &mut out.values_mut()[row as usize * columns..][..columns];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += weight * value;
                }
            }
            self.release(part);
        }
        Ok(out)
    }

    fn to_host(&mut self, x: CpuRows) -> Result<Vec<f32>> {
        let mut buffer = x.buffer;
        if buffer.len() < x.rows * x.columns {
            return Err(errors::buffer_size(buffer.len(), x.rows, x.columns));
        }
        buffer.truncate(x.rows * x.columns);
        Ok(buffer)
    }

    fn release(&mut self, x: CpuRows) {
        self.free.push(x.buffer);
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        &mut self.kv
    }
}
