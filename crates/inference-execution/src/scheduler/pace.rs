use std::time::Duration;

use crate::Batch;

/// About what those who decode wait for their next token while prompts are computed.
const STEP: Duration = Duration::from_millis(100);
/// Tokens of prompts that a step computes even so: for fewer it hardly pays to read the
/// weights.
const LEAST: u32 = 16;

/// How fast prompts are computed on this machine, at the depth they have reached.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Of the last step with a piece of a prompt: its time by its tokens.
    token: Option<Duration>,
}

impl Pace {
    /// A step took so long.
    pub(super) fn observe(&mut self, batch: &Batch, took: Duration) {
        let tokens: usize = batch.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        if tokens > batch.chunks.len() {
            self.token = u32::try_from(tokens).ok().map(|tokens| took / tokens);
        }
    }

    /// Tokens of prompts for a step that others decode in, of `most`.
    pub(super) fn prefill_tokens(&self, most: u32) -> u32 {
        let Some(token) = self.token else {
            return most;
        };
        let tokens = STEP.as_nanos() / token.as_nanos().max(1);
        u32::try_from(tokens).map_or(most, |tokens| tokens.max(LEAST).min(most))
    }
}
