//! Samples the next token: a pure function of the logits, the tokens so far, the settings, the
//! seed and the position.

mod candidates;
mod logprob;
mod random;
mod weight;

pub(crate) use logprob::logprob;
pub(crate) use random::uniform;

use std::collections::{BTreeMap, BTreeSet};

use answer_constraint::TokenMask;
use candidates::Buffers;
use worker_contract::Sampling;

/// Samples the tokens of one output.
///
/// The steps are, in this order: mask, logit bias, repetition penalty, frequency and presence
/// penalty; then, at temperature 0, the most likely token, otherwise temperature, top-k, top-p,
/// min-p and a random draw.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// Within the limits that admission enforces.
    settings: Sampling,
    seed: u64,
    /// Tokens of the prompt and the output. Tracked only for the repetition penalty.
    seen: BTreeSet<u32>,
    /// Number of occurrences of each output token. Tracked only for the frequency and presence
    /// penalties.
    generated: BTreeMap<u32, u32>,
    adjusted: Vec<f32>,
    buffers: Buffers,
}

impl Sampler {
    pub fn new(settings: Sampling, seed: u64, prompt: &[u32]) -> Self {
        let mut sampler = Self {
            settings,
            seed,
            seen: BTreeSet::new(),
            generated: BTreeMap::new(),
            adjusted: Vec::new(),
            buffers: Buffers::default(),
        };
        if sampler.penalizes_repetition() {
            sampler.seen.extend(prompt);
        }
        sampler
    }

    fn penalizes_repetition(&self) -> bool {
        self.settings.repetition_penalty != 1.0
    }

    fn counts_tokens(&self) -> bool {
        self.settings.frequency_penalty != 0.0 || self.settings.presence_penalty != 0.0
    }

    /// Records an output token.
    pub fn record(&mut self, token: u32) {
        if self.penalizes_repetition() {
            self.seen.insert(token);
        }
        if self.counts_tokens() {
            *self.generated.entry(token).or_default() += 1;
        }
    }

    /// Samples the output token at `position`, counted from 0, among the tokens that the mask
    /// allows. Returns `None` if every logit is NaN or negative infinity.
    pub fn choose(
        &mut self,
        logits: &[f32],
        position: u32,
        allowed: Option<&TokenMask>,
    ) -> Option<u32> {
        let logits = if self.adjust(logits, allowed) {
            &self.adjusted
        } else {
            logits
        };
        let top = self.buffers.most_likely(logits)?;
        let max = logits[top as usize];
        if self.settings.temperature == 0.0 || max.is_infinite() {
            return Some(top);
        }
        let at = uniform(self.seed, self.settings.choice, position);
        let drawn = self.buffers.draw(logits, max, &self.settings, at);
        Some(drawn.unwrap_or(top))
    }

    /// Applies mask, bias and penalties, and writes the result to `self.adjusted`. Returns
    /// `false`, without copying, if there is nothing to apply.
    fn adjust(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> bool {
        let unchanged = self.settings.logit_bias.is_empty()
            && self.seen.is_empty()
            && self.generated.is_empty()
            && allowed.is_none();
        if unchanged {
            return false;
        }
        copy_masked(logits, allowed, &mut self.adjusted);
        let logits = &mut self.adjusted;
        for (id, bias) in &self.settings.logit_bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        for id in &self.seen {
            if let Some(logit) = logits.get_mut(*id as usize) {
                if *logit > 0.0 {
                    *logit /= self.settings.repetition_penalty;
                } else {
                    *logit *= self.settings.repetition_penalty;
                }
            }
        }
        for (id, count) in &self.generated {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit -= self.settings.frequency_penalty * *count as f32
                    + self.settings.presence_penalty;
            }
        }
        true
    }
}

/// Copies the logits and replaces those of masked tokens by negative infinity, which no bias
/// or penalty changes.
fn copy_masked(logits: &[f32], allowed: Option<&TokenMask>, copied: &mut Vec<f32>) {
    copied.clear();
    let Some(allowed) = allowed else {
        copied.extend_from_slice(logits);
        return;
    };
    let words = allowed.words().iter().copied();
    for (group, word) in logits.chunks(32).zip(words.chain(std::iter::repeat(0))) {
        match word {
            0 => copied.resize(copied.len() + group.len(), f32::NEG_INFINITY),
            u32::MAX => copied.extend_from_slice(group),
            _ => copied.extend(group.iter().zip(BITS).map(|(logit, bit)| {
                if word & bit == 0 {
                    f32::NEG_INFINITY
                } else {
                    *logit
                }
            })),
        }
    }
}

/// `1 << i` at index `i`.
const BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut i = 0;
    while i < 32 {
        bits[i] = 1 << i;
        i += 1;
    }
    bits
};

#[cfg(test)]
mod tests;
