use candle_core::{Result, Tensor};

use crate::{feed_forward::Gated, matrix::Matrix};

/// Experts of which a router picks some for each token.
///
/// A row's result is the sum over its experts in the order of their numbers, each computed
/// by itself, so it does not depend on the rows beside it.
pub(crate) struct Mixture {
    /// Scores of the experts, `[experts, hidden]`.
    pub(crate) router: Matrix,
    pub(crate) experts: Vec<Gated>,
    /// Experts that compute a token.
    pub(crate) used: usize,
    /// Their weights are scaled to sum to one.
    pub(crate) normalized: bool,
}

impl Mixture {
    /// `x` is `[rows, hidden]`, and so is the result.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let mut work = vec![Vec::new(); self.experts.len()];
        for (row, scores) in (0_u32..).zip(self.router.apply(x)?.to_vec2()?) {
            for (expert, weight) in self.picked(&scores) {
                work[expert].push((row, weight));
            }
        }
        let mut out = vec![0_f32; rows * hidden];
        for (expert, work) in self.experts.iter().zip(work) {
            if work.is_empty() {
                continue;
            }
            let rows: Vec<u32> = work.iter().map(|(row, _)| *row).collect();
            let rows = Tensor::new(rows, x.device())?;
            let computed = expert.apply(&x.index_select(&rows, 0)?)?;
            let computed: Vec<f32> = computed.flatten_all()?.to_vec1()?;
            for ((row, weight), computed) in work.iter().zip(computed.chunks_exact(hidden)) {
                let out = &mut out[*row as usize * hidden..][..hidden];
                for (sum, value) in out.iter_mut().zip(computed) {
                    *sum += weight * value;
                }
            }
        }
        Tensor::from_vec(out, (rows, hidden), x.device())
    }

    /// The experts with the highest scores and their weights; of equal ones the first.
    fn picked(&self, scores: &[f32]) -> Vec<(usize, f32)> {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut weights: Vec<(usize, f32)> = scores
            .iter()
            .map(|s| (s - largest).exp())
            .enumerate()
            .collect();
        let all: f32 = weights.iter().map(|(_, w)| w).sum();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        weights.truncate(self.used);
        let of = if self.normalized {
            weights.iter().map(|(_, w)| w).sum()
        } else {
            all
        };
        for (_, weight) in &mut weights {
            *weight /= of;
        }
        weights
    }
}
