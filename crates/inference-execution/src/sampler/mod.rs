//! Which token comes next: a pure function of the logits, the tokens so far, the settings,
//! the seed and the position.

mod candidates;
mod logprob;
mod random;
mod weight;

pub use logprob::{Logprob, logprob};
pub(crate) use random::uniform;

use std::collections::{BTreeMap, BTreeSet};

use answer_constraint::TokenMask;
use candidates::Buffers;
use worker_contract::Sampling;

/// Chooses tokens by settings that have been checked (`crate::admission`).
///
/// The order is: the constraint's mask, logit bias, repetition penalty, frequency and presence
/// penalty, then greedy choice at temperature 0, else temperature, top-k, top-p,
/// min-p and the draw.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    seed: u64,
    seen: BTreeSet<u32>,
    generated: BTreeMap<u32, u32>,
    adjusted: Vec<f32>,
    buffers: Buffers,
}

impl Sampler {
    /// A sampler for one answer to `prompt`.
    pub fn new(settings: Sampling, seed: u64, prompt: &[u32]) -> Self {
        let mut sampler = Self {
            settings,
            seed,
            seen: BTreeSet::new(),
            generated: BTreeMap::new(),
            adjusted: Vec::new(),
            buffers: Buffers::default(),
        };
        if sampler.repeats() {
            sampler.seen.extend(prompt);
        }
        sampler
    }

    fn repeats(&self) -> bool {
        self.settings.repetition_penalty != 1.0
    }

    fn counts(&self) -> bool {
        self.settings.frequency_penalty != 0.0 || self.settings.presence_penalty != 0.0
    }

    /// Takes note of a token that now belongs to the answer.
    pub fn note(&mut self, token: u32) {
        if self.repeats() {
            self.seen.insert(token);
        }
        if self.counts() {
            *self.generated.entry(token).or_default() += 1;
        }
    }

    /// The token at `position` of the answer (0 is its first), of the allowed ones when a
    /// mask is given; `None` when no logit left is a number above negative infinity.
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
        let likeliest = self.buffers.likeliest(logits)?;
        let max = logits[likeliest as usize];
        if self.settings.temperature == 0.0 || max.is_infinite() {
            return Some(likeliest);
        }
        let at = uniform(self.seed, self.settings.choice, position);
        let drawn = self.buffers.draw(logits, max, &self.settings, at);
        Some(drawn.unwrap_or(likeliest))
    }

    /// Puts the logits after mask, bias and penalties into `self.adjusted`; `false` when they
    /// are what they were.
    fn adjust(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> bool {
        let as_they_are = self.settings.logit_bias.is_empty()
            && self.seen.is_empty()
            && self.generated.is_empty()
            && allowed.is_none();
        if as_they_are {
            return false;
        }
        copy(logits, allowed, &mut self.adjusted);
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

/// Copies the logits, those of tokens that are not allowed as negative infinity. No bias and
/// no penalty brings these back.
fn copy(logits: &[f32], allowed: Option<&TokenMask>, copied: &mut Vec<f32>) {
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

/// The bits of a word.
const BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut place = 0;
    while place < 32 {
        bits[place] = 1 << place;
        place += 1;
    }
    bits
};

#[cfg(test)]
mod tests;
