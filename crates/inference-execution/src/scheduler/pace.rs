use std::time::Duration;

use crate::engine::Batch;

/// Target duration of a step with decoding sequences and prefills.
const TARGET_STEP: Duration = Duration::from_millis(100);
/// Minimum number of prefill tokens in a step. With fewer, most of the step is spent on reading
/// the weights.
const MIN_TOKENS: u32 = 16;

/// The speed of prefills on this machine, at their current depth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Duration per token of the last step with prefill tokens.
    per_token: Option<Duration>,
}

impl Pace {
    /// Records the duration of a step.
    pub fn observe(&mut self, batch: &Batch, took: Duration) {
        let tokens: usize = batch.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let has_prefill = tokens > batch.chunks.len();
        if has_prefill {
            self.per_token = u32::try_from(tokens).ok().map(|tokens| took / tokens);
        }
    }

    /// Reduces the prefill tokens of a step with decoding sequences to what fits the target
    /// duration.
    pub fn limit_prefill(&self, budget: u32) -> u32 {
        let Some(per_token) = self.per_token else {
            return budget;
        };
        let tokens = TARGET_STEP.as_nanos() / per_token.as_nanos().max(1);
        u32::try_from(tokens).map_or(budget, |tokens| tokens.max(MIN_TOKENS).min(budget))
    }
}
