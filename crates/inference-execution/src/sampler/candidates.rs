//! Which tokens may be drawn, and the draw.
//!
//! No filter needs the whole vocabulary in order. Blocks of logits are told by their largest
//! one, so that what is far from the likeliest is passed over a block at a time; what is left
//! is parted by selection, not sorted.

use std::cmp::Ordering;

use worker_contract::Sampling;

use super::weight::{BLOCK, Scale, largest};

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub id: u32,
    logit: f32,
    weight: f64,
}

/// Few enough to be sorted.
const FEW: usize = 32;

/// Buffers that are used anew for every token.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    /// The largest logit of each block.
    maxima: Vec<f32>,
    /// The sum of the weights of each block.
    sums: Vec<f64>,
    /// The same maxima in another order.
    order: Vec<f32>,
    pub(super) candidates: Vec<Candidate>,
}

impl Buffers {
    /// The first of the largest logits; `None` when no logit is a number above negative
    /// infinity.
    pub fn likeliest(&mut self, logits: &[f32]) -> Option<u32> {
        self.maxima.clear();
        self.maxima.extend(logits.chunks(BLOCK).map(largest));
        let max = largest(&self.maxima);
        if max == f32::NEG_INFINITY {
            return None;
        }
        let block = self.maxima.iter().position(|m| *m == max)?;
        let start = block * BLOCK;
        let place = logits[start..].iter().position(|l| *l == max)?;
        Some((start + place) as u32)
    }

    /// The token at the fraction `at` of the summed weights, by the settings' filters. With a
    /// filter the tokens stand likeliest first, else by id. [`Self::likeliest`] must have been
    /// called with the same logits.
    pub fn draw(&mut self, logits: &[f32], max: f32, settings: &Sampling, at: f64) -> Option<u32> {
        let scale = Scale {
            max,
            temperature: settings.temperature,
        };
        let min_p = f64::from(settings.min_p);
        if settings.top_k == 0 && settings.top_p >= 1.0 && min_p <= 0.0 {
            return self.draw_from_all(logits, scale, at);
        }
        self.filter(logits, scale, settings);
        if min_p > 0.0 {
            // The likeliest has weight 1.
            self.candidates.retain(|c| c.weight >= min_p);
        }
        let target = at * mass(&self.candidates);
        let place = crossing(&mut self.candidates, |sum| sum > target);
        // A target that was rounded up to the whole mass is that of the last.
        place
            .and_then(|place| self.candidates.get(place))
            .or(self.candidates.last())
            .map(|c| c.id)
    }

    /// Gathers what top-k and top-p keep, and perhaps what min-p will not.
    pub(super) fn filter(&mut self, logits: &[f32], scale: Scale, settings: &Sampling) {
        let Sampling {
            top_k,
            top_p,
            min_p,
            ..
        } = *settings;
        let top_p = f64::from(top_p);
        if top_k > 0 {
            let bound = self.bound_of_top(top_k as usize);
            self.gather(logits, scale, bound);
            keep_likeliest(&mut self.candidates, top_k as usize);
            let total = mass(&self.candidates);
            self.keep_mass(top_p, total);
        } else if top_p < 1.0 {
            let total = self.sum_blocks(logits, scale);
            // Everything below this weight is together less than top-p leaves out.
            let least = (1.0 - top_p) * total / logits.len() as f64 * 0.999;
            self.gather(logits, scale, scale.logit_of(least));
            self.keep_mass(top_p, total);
        } else {
            self.gather(logits, scale, scale.logit_of(f64::from(min_p)));
        }
    }

    /// Keeps the likeliest whose weights reach the fraction `top_p` of `total`, the one that
    /// reaches it included.
    fn keep_mass(&mut self, top_p: f64, total: f64) {
        if top_p < 1.0
            && let Some(last) = crossing(&mut self.candidates, |sum| sum >= top_p * total)
        {
            self.candidates.truncate(last + 1);
        }
    }

    /// A logit that at least `count` logits reach: the largest of this many blocks.
    fn bound_of_top(&mut self, count: usize) -> f32 {
        if count > self.maxima.len() {
            return f32::NEG_INFINITY;
        }
        self.order.clone_from(&self.maxima);
        let (_, bound, _) = self
            .order
            .select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        *bound
    }

    /// Gathers the tokens with a weight whose logits are at least `bound`.
    fn gather(&mut self, logits: &[f32], scale: Scale, bound: f32) {
        self.candidates.clear();
        for (nth, (block, max)) in logits.chunks(BLOCK).zip(&self.maxima).enumerate() {
            if *max < bound {
                continue;
            }
            for (place, logit) in block.iter().copied().enumerate() {
                if logit >= bound {
                    let weight = scale.weight(logit);
                    if weight > 0.0 {
                        self.candidates.push(Candidate {
                            id: (nth * BLOCK + place) as u32,
                            // Makes one of the two zeros.
                            logit: logit + 0.0,
                            weight,
                        });
                    }
                }
            }
        }
    }

    /// Sums the weights of every block, and of all.
    fn sum_blocks(&mut self, logits: &[f32], scale: Scale) -> f64 {
        self.sums.clear();
        self.sums
            .extend(logits.chunks(BLOCK).map(|block| scale.sum(block)));
        self.sums.iter().sum()
    }

    fn draw_from_all(&mut self, logits: &[f32], scale: Scale, at: f64) -> Option<u32> {
        let target = at * self.sum_blocks(logits, scale);
        let mut sum = 0.0;
        let mut last = None;
        for (nth, block_sum) in self.sums.iter().enumerate() {
            if sum + block_sum <= target && nth + 1 < self.sums.len() {
                sum += block_sum;
                continue;
            }
            let start = nth * BLOCK;
            let end = logits.len().min(start + BLOCK);
            for (id, logit) in (start..end).zip(&logits[start..end]) {
                let weight = scale.weight(*logit);
                if weight > 0.0 {
                    last = Some(id as u32);
                    sum += weight;
                    if sum > target {
                        return last;
                    }
                }
            }
        }
        last
    }
}

/// Likelier first, the lower id first among equals.
fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| c.weight).sum()
}

fn keep_likeliest(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count - 1, likelier_first);
        candidates.truncate(count);
    }
}

/// The place of the first candidate, likeliest first, with which the sum of the weights is
/// `reached`; `None` when even the sum of all is not. What is likelier stands before it
/// afterwards, in any order. If none is found, the least likely is the last.
fn crossing(candidates: &mut [Candidate], reached: impl Fn(f64) -> bool) -> Option<usize> {
    let (mut low, mut high, mut before) = (0, candidates.len(), 0.0);
    while high - low > FEW {
        let middle = low + (high - low) / 2;
        candidates[low..high].select_nth_unstable_by(middle - low, likelier_first);
        let sum = before + mass(&candidates[low..middle]);
        if reached(sum) {
            high = middle;
        } else {
            (low, before) = (middle, sum);
        }
    }
    candidates[low..high].sort_unstable_by(likelier_first);
    (low..high).find(|place| {
        before += candidates[*place].weight;
        reached(before)
    })
}
