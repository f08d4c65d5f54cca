//! The filters (top-k, typical-p, top-p, min-p) and the random draw.
//!
//! None of the filters sorts the vocabulary. Each block of logits is represented by its maximum,
//! so that blocks of unlikely tokens are skipped at once. For top-p, weights are first summed
//! by classes of similar logits, so that only the class in which the sum reaches its target is
//! examined in detail.

use std::cmp::Ordering;

use super::{
    SamplerSettings,
    weight::{BLOCK, Scale, TO_INTEGER, largest},
};

/// A token that can be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
    weight: f64,
}

/// Maximum number of candidates that are simply sorted.
const FEW: usize = 32;
/// Number of classes of logits. The last one has all logits that are at least
/// [`CLASSES`] / [`CLASSES_PER_E`] below the maximum; their weights are 0.
const CLASSES: usize = 800;
/// Number of classes over which the weight decreases by a factor of e.
const CLASSES_PER_E: f32 = 30.0;

/// Buffers that are reused for every token.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    /// Largest logit of each block.
    maxima: Vec<f32>,
    /// A permutation of `maxima`.
    order: Vec<f32>,
    /// Sum of the weights of each block.
    sums: Vec<f64>,
    /// Sum of the weights of each class.
    classes: Vec<f64>,
    candidates: Vec<Candidate>,
}

impl Buffers {
    /// Returns the most likely token, the lowest id among equals. Returns `None` if every logit
    /// is NaN or negative infinity.
    pub fn most_likely(&mut self, logits: &[f32]) -> Option<u32> {
        self.maxima.clear();
        self.maxima.extend(logits.chunks(BLOCK).map(largest));
        let max = largest(&self.maxima);
        if max == f32::NEG_INFINITY {
            return None;
        }
        let block = self.maxima.iter().position(|m| *m == max)?;
        let start = block * BLOCK;
        let offset = logits[start..].iter().position(|l| *l == max)?;
        Some((start + offset) as u32)
    }

    /// Draws a token: the one at which the cumulative weight of the filtered tokens exceeds the
    /// fraction `at` of their total weight. Tokens are ordered by descending likelihood with
    /// top-k or top-p, and by id otherwise. `max` is the largest logit. The caller must have
    /// called [`Self::most_likely`] with the same logits.
    pub fn draw(
        &mut self,
        logits: &[f32],
        max: f32,
        settings: &SamplerSettings,
        at: f64,
    ) -> Option<u32> {
        let scale = Scale {
            max,
            temperature: settings.temperature,
        };
        let (top_p, min_p) = (f64::from(settings.top_p), f64::from(settings.min_p));
        if settings.typical_p < 1.0 {
            match settings.top_k {
                0 => self.gather(logits, scale, |_| true, f32::NEG_INFINITY),
                k => self.gather_top(logits, scale, k as usize),
            }
            self.filter_typical(scale, f64::from(settings.typical_p));
            self.filter_by_mass(top_p, min_p);
            self.at_mass(at)
        } else if settings.top_k > 0 {
            self.gather_top(logits, scale, settings.top_k as usize);
            self.filter_by_mass(top_p, min_p);
            self.at_mass(at)
        } else if top_p < 1.0 {
            self.draw_from_nucleus(logits, scale, top_p, min_p, at)
        } else if min_p > 0.0 {
            let bound = scale.logit_of(min_p);
            self.gather(logits, scale, |logit| logit >= bound, bound);
            self.candidates.retain(|c| c.weight >= min_p);
            let target = at * mass(&self.candidates);
            by_id(&self.candidates, target)
        } else {
            self.draw_from_all(logits, scale, at)
        }
    }

    /// Keeps the candidates whose information is closest to the expected information, until
    /// their weights add up to more than the fraction `typical_p`.
    ///
    /// The information of a token is `ln Z - x` with its scaled logit `x` and the total weight
    /// `Z`, so its distance to the expected information is the distance of `x` to the mean of
    /// all `x`.
    fn filter_typical(&mut self, scale: Scale, typical_p: f64) {
        let scaled = |c: &Candidate| f64::from((c.logit - scale.max) / scale.temperature);
        let total = mass(&self.candidates);
        let mean = self
            .candidates
            .iter()
            .map(|c| c.weight * scaled(c))
            .sum::<f64>()
            / total;
        let distance = |c: &Candidate| (scaled(c) - mean).abs();
        self.candidates.sort_unstable_by(|a, b| {
            let nearer_first = distance(a).total_cmp(&distance(b));
            nearer_first.then(likelier_first(a, b))
        });
        let mut sum = 0.0;
        let last = self.candidates.iter().position(|c| {
            sum += c.weight;
            sum > typical_p * total
        });
        self.candidates
            .truncate(last.map_or(usize::MAX, |last| last + 1));
    }

    /// Keeps the most likely candidates whose weights add up to the fraction `top_p`, and drops
    /// those with a weight less than `min_p` times the largest one.
    fn filter_by_mass(&mut self, top_p: f64, min_p: f64) {
        if top_p < 1.0 {
            let least = top_p * mass(&self.candidates);
            if let Some(last) = crossing(&mut self.candidates, |sum| sum >= least) {
                self.candidates.truncate(last + 1);
            }
        }
        // Typical-p may have dropped the most likely token, which has weight 1.
        let largest = self.candidates.iter().map(|c| c.weight).fold(0.0, f64::max);
        self.candidates.retain(|c| c.weight >= min_p * largest);
    }

    /// Returns the candidate at the fraction `at` of the mass, in order of descending likelihood.
    fn at_mass(&mut self, at: f64) -> Option<u32> {
        let target = at * mass(&self.candidates);
        let found = crossing(&mut self.candidates, |sum| sum > target);
        // Rounding may have increased the target to the total mass.
        let last = self.candidates.last();
        found.map_or(last, |p| self.candidates.get(p)).map(|c| c.id)
    }

    /// Gathers the `count` most likely tokens.
    fn gather_top(&mut self, logits: &[f32], scale: Scale, count: usize) {
        // At least `count` logits are not less than the smallest of the `count` largest maxima.
        let bound = if count > self.maxima.len() {
            f32::NEG_INFINITY
        } else {
            self.order.clone_from(&self.maxima);
            let larger_first = |a: &f32, b: &f32| b.total_cmp(a);
            *self.order.select_nth_unstable_by(count - 1, larger_first).1
        };
        self.gather(logits, scale, |logit| logit >= bound, bound);
        if count < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(count - 1, likelier_first);
            self.candidates.truncate(count);
        }
    }

    /// Gathers, in order of their ids, the tokens that have a weight and whose logit `keep`
    /// accepts. It must not accept logits less than `bound`.
    fn gather(&mut self, logits: &[f32], scale: Scale, keep: impl Fn(f32) -> bool, bound: f32) {
        self.candidates.clear();
        for (nth, (block, max)) in logits.chunks(BLOCK).zip(&self.maxima).enumerate() {
            if *max < bound {
                continue;
            }
            for (offset, logit) in block.iter().copied().enumerate() {
                if keep(logit) {
                    let weight = scale.weight(logit);
                    if weight > 0.0 {
                        self.candidates.push(Candidate {
                            id: (nth * BLOCK + offset) as u32,
                            // Turns -0.0 into 0.0.
                            logit: logit + 0.0,
                            weight,
                        });
                    }
                }
            }
        }
    }

    /// Draws from the most likely tokens whose weights add up to the fraction `top_p`.
    fn draw_from_nucleus(
        &mut self,
        logits: &[f32],
        scale: Scale,
        top_p: f64,
        min_p: f64,
        at: f64,
    ) -> Option<u32> {
        self.sum_classes(logits, scale);
        let total: f64 = self.classes.iter().sum();
        let least = top_p * total;
        // All classes before the one in which the sum is reached are kept, and a part of that one.
        let (class, before) = self.class_where(|sum| sum >= least)?;
        self.gather_class(logits, scale, class);
        let kept = crossing(&mut self.candidates, |sum| before + sum >= least);
        self.candidates
            .truncate(kept.map_or(usize::MAX, |last| last + 1));
        if min_p > 0.0 {
            // Filtering the kept tokens by min-p equals filtering all tokens by min-p and dropping
            // those after the least likely kept one.
            let least_kept = self.candidates.iter().copied().max_by(likelier_first)?;
            let bound = scale.logit_of(min_p);
            self.gather(logits, scale, |logit| logit >= bound, bound);
            self.candidates
                .retain(|c| c.weight >= min_p && likelier_first(c, &least_kept).is_le());
            return self.at_mass(at);
        }
        let target = at * (before + mass(&self.candidates));
        if target >= before {
            let found = crossing(&mut self.candidates, |sum| before + sum > target);
            let last = self.candidates.last();
            return found.map_or(last, |p| self.candidates.get(p)).map(|c| c.id);
        }
        let (class, before) = self.class_where(|sum| sum > target)?;
        self.gather_class(logits, scale, class);
        let found = crossing(&mut self.candidates, |sum| before + sum > target)?;
        self.candidates.get(found).map(|c| c.id)
    }

    /// Sums the weights of each class.
    fn sum_classes(&mut self, logits: &[f32], scale: Scale) {
        self.classes.clear();
        self.classes.resize(CLASSES, 0.0);
        let (mut weights, mut classes) = ([0.0; BLOCK], [0_u32; BLOCK]);
        for (block, max) in logits.chunks(BLOCK).zip(&self.maxima) {
            if scale.weight(*max) == 0.0 {
                continue;
            }
            scale.weights(block, &mut weights);
            for (class, logit) in classes.iter_mut().zip(block) {
                *class = class_of(scale, *logit);
            }
            for (class, weight) in classes.iter().zip(&weights[..block.len()]) {
                self.classes[*class as usize] += weight;
            }
        }
    }

    /// Returns the first class with which the cumulative sum is `reached`, and the sum before it.
    fn class_where(&self, reached: impl Fn(f64) -> bool) -> Option<(u32, f64)> {
        let mut before = 0.0;
        for (class, sum) in self.classes.iter().enumerate() {
            if reached(before + sum) {
                return Some((class as u32, before));
            }
            before += sum;
        }
        None
    }

    fn gather_class(&mut self, logits: &[f32], scale: Scale, class: u32) {
        let lower_edge = -(class as f32 + 1.0) / CLASSES_PER_E;
        let bound = scale.logit_of(f64::from(lower_edge).exp());
        let keep = |logit| logit >= bound && class_of(scale, logit) == class;
        self.gather(logits, scale, keep, bound);
    }

    fn draw_from_all(&mut self, logits: &[f32], scale: Scale, at: f64) -> Option<u32> {
        self.sums.clear();
        self.sums
            .extend(logits.chunks(BLOCK).map(|block| scale.sum(block)));
        let target = at * self.sums.iter().sum::<f64>();
        let mut before = 0.0;
        let mut weights = [0.0; BLOCK];
        for (nth, sum) in self.sums.iter().enumerate() {
            if before + sum > target {
                let start = nth * BLOCK;
                let block = &logits[start..logits.len().min(start + BLOCK)];
                scale.weights(block, &mut weights);
                let offset = weights[..block.len()].iter().position(|weight| {
                    before += weight;
                    before > target
                })?;
                return Some((start + offset) as u32);
            }
            before += sum;
        }
        None
    }
}

/// Returns the class of a logit. Larger logits have lower classes.
#[inline]
fn class_of(scale: Scale, logit: f32) -> u32 {
    let class = (scale.max - logit) / scale.temperature * CLASSES_PER_E;
    let last = (CLASSES - 1) as f32;
    // NaN has no weight and belongs to the last class.
    let class = if class < last { class } else { last };
    // A rounding conversion that the compiler vectorizes.
    (class + TO_INTEGER).to_bits() - TO_INTEGER.to_bits()
}

/// Orders by descending likelihood; among equals the lower id first.
fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| c.weight).sum()
}

/// Returns the first candidate with which the cumulative weight exceeds `target`, or the last.
fn by_id(candidates: &[Candidate], target: f64) -> Option<u32> {
    let mut sum = 0.0;
    let found = candidates.iter().find(|c| {
        sum += c.weight;
        sum > target
    });
    found.or(candidates.last()).map(|c| c.id)
}

/// Returns the index of the first candidate, in order of descending likelihood, with which the
/// cumulative weight is `reached`, or `None` if the total weight does not reach it. Reorders the
/// candidates: more likely ones precede the returned index in any order, and if there is none,
/// the least likely candidate is last.
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
    (low..high).find(|index| {
        before += candidates[*index].weight;
        reached(before)
    })
}
