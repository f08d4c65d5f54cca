//! Samples the next token: a pure function of the logits, the tokens so far, the settings, the
//! seed and the position.

mod candidates;
mod history;
mod logprob;
mod random;
mod settings;
mod weight;

pub(crate) use logprob::logprob;
pub(crate) use random::uniform;
pub(crate) use settings::SamplerSettings;

use answer_constraint::TokenMask;
use candidates::Buffers;
use history::History;

/// Samples the tokens of one output.
///
/// The steps are, in this order: mask, logit bias, repetition penalty, frequency and presence
/// penalty; then, at temperature 0, the most likely token, otherwise temperature, top-k, typical-p,
/// top-p, min-p and a random draw.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    settings: SamplerSettings,
    seed: u64,
    history: History,
    adjusted: Vec<f32>,
    buffers: Buffers,
}

impl Sampler {
    pub fn new(settings: SamplerSettings, seed: u64, prompt: &[u32]) -> Self {
        Self {
            history: History::new(&settings, prompt),
            settings,
            seed,
            adjusted: Vec::new(),
            buffers: Buffers::default(),
        }
    }

    /// Records an output token.
    pub fn record(&mut self, token: u32) {
        self.history.push(&self.settings, token, true);
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
            && self.history.seen.is_empty()
            && self.history.generated.is_empty()
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
        for id in self.history.seen.keys() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                if *logit > 0.0 {
                    *logit /= self.settings.repetition_penalty;
                } else {
                    *logit *= self.settings.repetition_penalty;
                }
            }
        }
        for (id, count) in &self.history.generated {
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
