//! Which token comes next: a pure function of the logits, the tokens so far, the settings,
//! the seed and the position.

mod logprob;
mod random;

pub use logprob::{Logprob, logprob};
pub(crate) use random::uniform;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use worker_contract::Sampling;

/// Chooses tokens by settings that have been checked (`crate::admission`).
///
/// The order is: logit bias, repetition penalty, frequency and presence penalty, then greedy
/// choice at temperature 0, else temperature, top-k, top-p, min-p and the draw.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    seed: u64,
    seen: BTreeSet<u32>,
    generated: BTreeMap<u32, u32>,
}

/// A token that may be drawn, with its weight relative to the likeliest.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    weight: f64,
}

impl Sampler {
    /// A sampler for one answer to `prompt`.
    pub fn new(settings: Sampling, seed: u64, prompt: &[u32]) -> Self {
        let mut sampler = Self {
            settings,
            seed,
            seen: BTreeSet::new(),
            generated: BTreeMap::new(),
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

    /// The token at `position` of the answer (0 is its first); `None` when no logit is a
    /// number above negative infinity.
    pub fn choose(&self, logits: &[f32], position: u32) -> Option<u32> {
        let adjusted = self.adjusted(logits);
        let logits = adjusted.as_deref().unwrap_or(logits);
        let likeliest = argmax(logits)?;
        if self.settings.temperature == 0.0 {
            return Some(likeliest);
        }
        let candidates = self.candidates(logits, likeliest);
        Some(
            draw(
                &candidates,
                uniform(self.seed, self.settings.choice, position),
            )
            .unwrap_or(likeliest),
        )
    }

    /// The logits after bias and penalties, when there are any.
    fn adjusted(&self, logits: &[f32]) -> Option<Vec<f32>> {
        if self.settings.logit_bias.is_empty() && self.seen.is_empty() && self.generated.is_empty()
        {
            return None;
        }
        let mut logits = logits.to_vec();
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
        Some(logits)
    }

    /// What may be drawn. With a filter they stand likeliest first, else by id.
    fn candidates(&self, logits: &[f32], likeliest: u32) -> Vec<Candidate> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let max = f64::from(logits[likeliest as usize]);
        let mut candidates: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| Candidate {
                id: id as u32,
                // Relative to the likeliest, so that no exponential overflows.
                weight: ((f64::from(*logit) - max) / f64::from(temperature)).exp(),
            })
            .filter(|c| c.weight > 0.0)
            .collect();
        if top_k > 0 && (top_k as usize) < candidates.len() {
            candidates.select_nth_unstable_by(top_k as usize - 1, likelier_first);
            candidates.truncate(top_k as usize);
        }
        if top_k > 0 || top_p < 1.0 {
            candidates.sort_unstable_by(likelier_first);
        }
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|c| c.weight).sum();
            let mut sum = 0.0;
            let below = candidates
                .iter()
                .take_while(|c| {
                    sum += c.weight;
                    sum < f64::from(top_p) * total
                })
                .count();
            // The one that reaches the sum belongs to the set.
            candidates.truncate(below + 1);
        }
        if min_p > 0.0 {
            // The likeliest has weight 1.
            candidates.retain(|c| c.weight >= f64::from(min_p));
        }
        candidates
    }
}

/// Larger first; what is not a number last.
fn descending(a: f32, b: f32) -> Ordering {
    let number = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    number(b).total_cmp(&number(a))
}

fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// The first of the largest logits.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (id, logit) in logits.iter().copied().enumerate() {
        if logit > best.map_or(f32::NEG_INFINITY, |(_, max)| max) {
            best = Some((id as u32, logit));
        }
    }
    best.map(|(id, _)| id)
}

/// The candidate at the fraction `at` of the summed weights.
fn draw(candidates: &[Candidate], at: f64) -> Option<u32> {
    let total: f64 = candidates.iter().map(|c| c.weight).sum();
    let mut sum = 0.0;
    candidates
        .iter()
        .find(|c| {
            sum += c.weight;
            sum > at * total
        })
        .or(candidates.last())
        .map(|c| c.id)
}

#[cfg(test)]
mod tests;
