use candle_core::Result;

use crate::{backend::Backend, gated::Gated, linear::Linear};

/// A mixture of experts, of which a router selects some for each token.
///
/// The result of a row is the sum over its experts in index order, each computed separately, so it
/// does not depend on the other rows.
pub(crate) struct Mixture {
    /// Scores the experts; weights of shape `[experts, hidden]`.
    pub(crate) router: Linear,
    pub(crate) experts: Vec<Gated>,
    /// Number of experts per token.
    pub(crate) used: usize,
    /// True if the weights of the selected experts are scaled to sum to one.
    pub(crate) normalized: bool,
}

impl Mixture {
    /// Applies the mixture to `x` of shape `[rows, hidden]`; the result has the same shape.
    pub(crate) fn apply<B: Backend>(
        &self,
        backend: &mut B,
        x: &B::Rows,
        rows: usize,
    ) -> Result<B::Rows> {
        let [scores] = backend.linear(x, [&self.router])?;
        let scores = backend.to_host(scores)?;
        let mut work = vec![Vec::new(); self.experts.len()];
        for (row, scores) in (0_u32..).zip(scores.chunks_exact(self.experts.len().max(1))) {
            for (expert, weight) in self.selected(scores) {
                work[expert].push((row, weight));
            }
        }
        let mut parts = Vec::new();
        for (expert, work) in self.experts.iter().zip(work) {
            if work.is_empty() {
                continue;
            }
            let rows: Vec<u32> = work.iter().map(|(row, _)| *row).collect();
            let expert_x = backend.select(x, &rows)?;
            parts.push((expert.apply(backend, &expert_x)?, work));
            backend.release(expert_x);
        }
        backend.combine(rows, parts)
    }

    /// Returns the experts with the highest scores and their weights; ties go to the lower index.
    fn selected(&self, scores: &[f32]) -> Vec<(usize, f32)> {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut weights: Vec<(usize, f32)> = scores
            .iter()
            .map(|s| (s - largest).exp())
            .enumerate()
            .collect();
        let total: f32 = weights.iter().map(|(_, w)| w).sum();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        weights.truncate(self.used);
        let divisor = if self.normalized {
            weights.iter().map(|(_, w)| w).sum()
        } else {
            total
        };
        for (_, weight) in &mut weights {
            *weight /= divisor;
        }
        weights
    }
}
