use std::ops::Range;

use candle_core::{
    CpuStorage, CustomOp3, D, Device, Layout, Result, Shape, Tensor, bail, quantized::GgmlType,
};

use cpu_kernels::Threads;

use crate::{kv::LayerKv, plan::Span};

/// Sizes of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    /// What scores are multiplied with.
    pub(crate) scale: f32,
    /// Bound `c` that scores `s` are kept within: `c * tanh(s / c)`.
    pub(crate) softcap: Option<f32>,
}

impl Heads {
    /// Query heads that share a key head.
    fn group(self) -> usize {
        self.queries / self.keys
    }

    /// The score of a query and a key with this product.
    fn score(self, product: f32) -> f32 {
        let score = product * self.scale;
        match self.softcap {
            Some(cap) => (score / cap).tanh() * cap,
            None => score,
        }
    }
}

/// Causal attention of the rows of each span over what its sequence has in the cache.
///
/// On the CPU keys and values are read where they lie. Each row and key head is computed
/// by itself, position by position, so neither its company nor the threads change a bit.
pub(crate) struct Attention<'a> {
    pub(crate) spans: &'a [Span],
    pub(crate) heads: Heads,
    /// Tokens that a token sees, itself included; absent, all.
    pub(crate) window: Option<usize>,
    pub(crate) threads: &'a Threads,
}

impl Attention<'_> {
    /// `queries` is `[rows, heads * width]`, and so is the result.
    pub(crate) fn apply(&self, queries: &Tensor, kv: &LayerKv) -> Result<Tensor> {
        if queries.device().is_cpu() {
            queries.apply_op3_no_bwd(&kv.keys, &kv.values, self)
        } else {
            self.by_tensors(queries, kv)
        }
    }

    /// The first position that a position sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "paged-attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        queries_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let queries = floats(queries, queries_layout)?;
        let keys = floats(keys, keys_layout)?;
        let values = floats(values, values_layout)?;
        let part = self.heads.group() * self.heads.width;
        let rows: Vec<(&Span, usize)> = self
            .spans
            .iter()
            .flat_map(|span| (0..span.rows).map(move |row| (span, span.position + row)))
            .collect();

        let mut out = vec![0_f32; queries.len()];
        let positions: usize = rows.iter().map(|&(_, p)| p + 1 - self.first_seen(p)).sum();
        let work = 2 * positions * self.heads.queries * self.heads.width;
        self.threads.fill(work, &mut out, part, |index, out| {
            let (span, position) = rows[index / self.heads.keys];
            let head = index % self.heads.keys;
            let queries = &queries[index * part..(index + 1) * part];
            self.attend_row(span, position, head, [queries, keys, values], out);
        });
        Ok((CpuStorage::F32(out), queries_layout.shape().clone()))
    }
}

impl Attention<'_> {
    /// The query heads of one row that share the key head `head`.
    fn attend_row(
        &self,
        span: &Span,
        position: usize,
        head: usize,
        [queries, keys, values]: [&[f32]; 3],
        out: &mut [f32],
    ) {
        let width = self.heads.width;
        let at = |slot: usize| (slot * self.heads.keys + head) * width;
        let first = self.first_seen(position);
        let slots = || (first..=position).map(|p| at(span.slot(p)));
        let dot = |query: &[f32], at: usize| {
            self.heads
                .score(f32::vec_dot(width, query, &keys[at..at + width]))
        };
        let mut scores = Vec::with_capacity(position + 1 - first);
        for (query, out) in queries.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            scores.clear();
            scores.extend(slots().map(|at| dot(query, at)));
            soften(&mut scores);
            for (weight, at) in scores.iter().zip(slots()) {
                for (sum, value) in out.iter_mut().zip(&values[at..at + width]) {
                    *sum += weight * value;
                }
            }
        }
    }
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((begin, end)) => Ok(&storage.as_slice::<f32>()?[begin..end]),
        None => bail!("an operand of attention is not contiguous"),
    }
}

/// Softmax in place.
fn soften(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

impl Attention<'_> {
    /// The same by candle's tensor operations, for devices without a kernel of our own.
    fn by_tensors(&self, queries: &Tensor, kv: &LayerKv) -> Result<Tensor> {
        let parts = self
            .spans
            .iter()
            .map(|span| self.span_by_tensors(span, queries, kv))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)
    }

    fn span_by_tensors(&self, span: &Span, queries: &Tensor, kv: &LayerKv) -> Result<Tensor> {
        let (heads, device) = (self.heads, queries.device());
        let seen = self.first_seen(span.position)..span.position + span.rows;
        let length = seen.len();
        let slots: Vec<u32> = seen.clone().map(|p| span.slot(p) as u32).collect();
        let slots = Tensor::new(slots, device)?;
        // [key heads, length, width]
        let gather = |pool: &Tensor| -> Result<Tensor> {
            pool.index_select(&slots, 0)?
                .reshape((length, heads.keys, heads.width))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (keys, values) = (gather(&kv.keys)?, gather(&kv.values)?);
        // [key heads, group * rows, width]
        let folded = (heads.keys, heads.group() * span.rows, heads.width);
        let q = queries
            .narrow(0, span.row, span.rows)?
            .reshape((span.rows, heads.queries, heads.width))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape(folded)?;
        let scores = (q.matmul(&keys.t()?)? * f64::from(heads.scale))?;
        let scores = match heads.softcap.map(f64::from) {
            Some(cap) => ((scores / cap)?.tanh()? * cap)?,
            None => scores,
        };
        let scores = scores.reshape((heads.queries, span.rows, length))?;
        let scores = scores.broadcast_add(&self.mask(span, seen, device)?)?;
        let scores = scores
            .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
            .exp()?;
        let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        let weights = weights.reshape((heads.keys, heads.group() * span.rows, length))?;
        weights
            .matmul(&values)?
            .reshape((heads.queries, span.rows, heads.width))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((span.rows, heads.queries * heads.width))
    }

    /// Minus infinity where a row would look ahead or too far back, `[rows, seen]`.
    fn mask(&self, span: &Span, seen: Range<usize>, device: &Device) -> Result<Tensor> {
        let shape = (span.rows, seen.len());
        let mut values = Vec::with_capacity(shape.0 * shape.1);
        for position in span.position..span.position + span.rows {
            let visible = self.first_seen(position)..=position;
            let of = |p: usize| {
                if visible.contains(&p) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            };
            values.extend(seen.clone().map(of));
        }
        Tensor::from_vec(values, shape, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_test::Numbers;

    #[test]
    fn the_kernel_and_the_tensor_operations_agree() {
        let heads = |softcap| Heads {
            queries: 6,
            keys: 2,
            width: 20,
            scale: 0.3,
            softcap,
        };
        let mut numbers = Numbers::new(3);
        let mut tensor = |rows: usize, columns: usize| {
            let values = (0..rows * columns).map(|_| numbers.next() * 4.0).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let kv = LayerKv {
            keys: tensor(16 * 8, 40),
            values: tensor(16 * 8, 40),
        };
        let span = |row, rows, position, blocks: &[u32]| Span {
            row,
            rows,
            position,
            blocks: blocks.to_vec(),
        };
        let spans = [
            span(0, 5, 30, &[7, 1, 4]),
            span(5, 1, 0, &[0]),
            span(6, 17, 0, &[2, 6]),
        ];
        let queries = tensor(23, 120);
        let threads = Threads::new(1).unwrap();
        for (window, softcap) in [
            (None, None),
            (Some(1), None),
            (Some(7), Some(0.5)),
            (Some(33), None),
            (Some(1000), Some(3.0)),
        ] {
            let attention = Attention {
                spans: &spans,
                heads: heads(softcap),
                window,
                threads: &threads,
            };
            let ours = attention.apply(&queries, &kv).unwrap();
            let theirs = attention.by_tensors(&queries, &kv).unwrap();
            assert_eq!(ours.dims(), theirs.dims());
            let difference = (ours - theirs)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap();
            let largest: f32 = difference.max(0).unwrap().to_scalar().unwrap();
            assert!(largest < 1e-5, "{largest}");
        }
    }
}
