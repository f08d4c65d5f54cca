use candle_core::{D, DType, Device, Result, Tensor};
use cpu_kernels::Activation;
use inference_execution::KvCache;

use crate::{
    attention::{Attention, attend},
    backend::{Backend, Targets},
    kv::TensorKv,
    linear::Linear,
    matrix::Matrix,
    norm::Norm,
    plan::Plan,
    rope::Rotation,
};

/// Attention scores in memory at once: 64 MiB, of which a step has a few copies.
const SCORES: usize = 16 << 20;

/// Computes with candle's tensor operations.
pub(crate) struct TensorBackend {
    device: Device,
    kv: TensorKv,
    scores: usize,
}

impl TensorBackend {
    pub(crate) fn new(device: Device, kv: TensorKv) -> Self {
        Self {
            device,
            kv,
            scores: SCORES,
        }
    }

    /// Limits the attention scores in memory at once.
    #[cfg(test)]
    pub(crate) fn with_scores(mut self, scores: usize) -> Self {
        self.scores = scores;
        self
    }
}

impl Backend for TensorBackend {
    type Rows = Tensor;

    fn lookup(&mut self, table: &Matrix, indices: &[u32]) -> Result<Tensor> {
        table.rows(&Tensor::new(indices, &self.device)?)
    }

    fn angles(&mut self, rotation: &Rotation, positions: &[u32]) -> Result<[Tensor; 2]> {
        let shape = (positions.len(), rotation.frequencies.len());
        let mut cos = vec![0.0; positions.len() * rotation.frequencies.len()];
        let mut sin = cos.clone();
        rotation.angles(positions, &mut cos, &mut sin);
        Ok([
            Tensor::from_vec(cos, shape, &self.device)?,
            Tensor::from_vec(sin, shape, &self.device)?,
        ])
    }

    fn linear<const N: usize>(&mut self, x: &Tensor, linears: [&Linear; N]) -> Result<[Tensor; N]> {
        let mut results = linears.map(|_| x.clone());
        for (linear, result) in linears.iter().zip(&mut results) {
            *result = linear.matrix.apply(x)?;
            if let Some(bias) = &linear.bias {
                *result = result.broadcast_add(&bias.tensor)?;
            }
        }
        Ok(results)
    }

    fn norm(&mut self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean_square + f64::from(norm.epsilon))?.sqrt()?)?
            .broadcast_mul(&norm.weight.tensor)
    }

    fn norm_heads(&mut self, x: Tensor, norm: &Norm) -> Result<Tensor> {
        let (rows, columns) = x.dims2()?;
        let heads = x.reshape((rows, (), norm.weight.values.len()))?;
        self.norm(&heads, norm)?.reshape((rows, columns))
    }

    fn rotate(&mut self, x: Tensor, width: usize, [cos, sin]: &[Tensor; 2]) -> Result<Tensor> {
        let (rows, columns) = x.dims2()?;
        let half = cos.dim(1)?;
        let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
        let x = x.reshape((rows, (), width))?;
        let first = x.narrow(2, 0, half)?;
        let second = x.narrow(2, half, half)?;
        let rotated_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let rotated_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        let mut parts = vec![rotated_first, rotated_second];
        if 2 * half < width {
            parts.push(x.narrow(2, 2 * half, width - 2 * half)?);
        }
        Tensor::cat(&parts, 2)?.reshape((rows, columns))
    }

    fn attend(
        &mut self,
        layer: usize,
        attention: Attention,
        [query, key, value]: [Tensor; 3],
        plan: &Plan,
    ) -> Result<Tensor> {
        let kv = self.kv.layer(layer);
        kv.write(&key, &value, &plan.runs)?;
        attend(attention, &plan.spans, &query, kv, self.scores)
    }

    fn gated(&mut self, activation: Activation, gate: Tensor, up: Tensor) -> Result<Tensor> {
        match activation {
            Activation::Silu => gate.silu()? * up,
            Activation::GeluTanh => gate.gelu()? * up,
        }
    }

    fn add(&mut self, x: Tensor, y: Tensor) -> Result<Tensor> {
        x + y
    }

    fn scale(&mut self, x: Tensor, factor: f32) -> Result<Tensor> {
        x * f64::from(factor)
    }

    fn softcap(&mut self, x: Tensor, cap: f32) -> Result<Tensor> {
        let cap = f64::from(cap);
        (x / cap)?.tanh()? * cap
    }

    fn select(&mut self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        x.index_select(&Tensor::new(rows, &self.device)?, 0)
    }

    fn combine(&mut self, rows: usize, parts: Vec<(Tensor, Targets)>) -> Result<Tensor> {
        let columns = parts.first().map_or(Ok(0), |(part, _)| part.dim(1))?;
        let mut out = Tensor::zeros((rows, columns), DType::F32, &self.device)?;
        for (part, targets) in parts {
            let (rows, weights): (Vec<u32>, Vec<f32>) = targets.into_iter().unzip();
            let weights = Tensor::new(weights, &self.device)?.unsqueeze(1)?;
            let rows = Tensor::new(rows, &self.device)?;
            out = out.index_add(&rows, &part.broadcast_mul(&weights)?, 0)?;
        }
        Ok(out)
    }

    fn to_host(&mut self, x: Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    fn release(&mut self, x: Tensor) {
        drop(x);
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        &mut self.kv
    }
}
