use candle_core::Result;

use crate::{backend::Backend, feed_forward::Gated, linear::Linear};

/// Experts of which a router picks some for each token.
///
/// A row's result is the sum over its experts in the order of their numbers, each computed
/// by itself, so it does not depend on the rows beside it.
pub(crate) struct Mixture {
    /// Scores of the experts, `[experts, hidden]`.
    pub(crate) router: Linear,
    pub(crate) experts: Vec<Gated>,
    /// Experts that compute a token.
    pub(crate) used: usize,
    /// Their weights are scaled to sum to one.
    pub(crate) normalized: bool,
}

impl Mixture {
    /// `x` is `[rows, hidden]`, and so is the result.
    pub(crate) fn apply<B: Backend>(
        &self,
        backend: &mut B,
        x: &B::Rows,
        rows: usize,
    ) -> Result<B::Rows> {
        let [scores] = backend.linear(x, [&self.router])?;
        let scores = backend.numbers(scores)?;
        let mut work = vec![Vec::new(); self.experts.len()];
        for (row, scores) in (0_u32..).zip(scores.chunks_exact(self.experts.len().max(1))) {
            for (expert, weight) in self.picked(scores) {
                work[expert].push((row, weight));
            }
        }
        let mut parts = Vec::new();
        for (expert, work) in self.experts.iter().zip(work) {
            if work.is_empty() {
                continue;
            }
            let of_expert: Vec<u32> = work.iter().map(|(row, _)| *row).collect();
            let of_expert = backend.select(x, &of_expert)?;
            parts.push((expert.apply(backend, &of_expert)?, work));
            backend.release(of_expert);
        }
        backend.combine(rows, parts)
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
