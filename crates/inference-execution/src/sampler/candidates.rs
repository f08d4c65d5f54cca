//! Which tokens may be drawn, and the draw.
//!
//! No filter needs the whole vocabulary in order. Blocks of logits are told by their largest
//! one, so that what is far from the likeliest is passed over a block at a time; and for
//! top-p the mass is first told by classes of logits that are about as large, so that only
//! the class where a sum is reached is looked into.

use std::cmp::Ordering;

use worker_contract::Sampling;

use super::weight::{BLOCK, Scale, TO_WHOLE, largest};

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
    weight: f64,
}

/// Few enough to be sorted.
const FEW: usize = 32;
/// Classes of logits. The last holds all from [`CLASSES`] / [`CLASSES_PER_E`] on, whose
/// weights are 0.
const CLASSES: usize = 800;
/// Classes in which weights fall to 1/e.
const CLASSES_PER_E: f32 = 30.0;

/// Buffers that are used anew for every token.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    /// The largest logit of each block.
    maxima: Vec<f32>,
    /// The same in another order.
    order: Vec<f32>,
    /// The sum of the weights of each block.
    sums: Vec<f64>,
    /// The sum of the weights of each class.
    classes: Vec<f64>,
    candidates: Vec<Candidate>,
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

    /// The token at the fraction `at` of the summed weights that the settings' filters leave.
    /// With top-k or top-p the tokens stand likeliest first, else by id. [`Self::likeliest`]
    /// must have been called with the same logits, of which `max` is the largest.
    pub fn draw(&mut self, logits: &[f32], max: f32, settings: &Sampling, at: f64) -> Option<u32> {
        let scale = Scale {
            max,
            temperature: settings.temperature,
        };
        let (top_p, min_p) = (f64::from(settings.top_p), f64::from(settings.min_p));
        if settings.top_k > 0 {
            self.gather_top(logits, scale, settings.top_k as usize);
            self.keep(top_p, min_p);
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

    /// Keeps of the candidates those whose weights, likeliest first, reach the fraction
    /// `top_p` of them all, and of these those with at least the weight `min_p`.
    fn keep(&mut self, top_p: f64, min_p: f64) {
        if top_p < 1.0 {
            let least = top_p * mass(&self.candidates);
            if let Some(last) = crossing(&mut self.candidates, |sum| sum >= least) {
                self.candidates.truncate(last + 1);
            }
        }
        // The likeliest has weight 1.
        self.candidates.retain(|c| c.weight >= min_p);
    }

    /// The candidate at the fraction `at` of their mass, likeliest first.
    fn at_mass(&mut self, at: f64) -> Option<u32> {
        let target = at * mass(&self.candidates);
        let place = crossing(&mut self.candidates, |sum| sum > target);
        // A target that was rounded up to the whole mass is that of the last.
        let last = self.candidates.last();
        place.map_or(last, |p| self.candidates.get(p)).map(|c| c.id)
    }

    /// Gathers the `count` likeliest tokens.
    fn gather_top(&mut self, logits: &[f32], scale: Scale, count: usize) {
        // At least `count` logits reach the least of as many maxima.
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

    /// Gathers, by id, the tokens with a weight whose logits are wanted, all of which are at
    /// least `bound`.
    fn gather(&mut self, logits: &[f32], scale: Scale, wanted: impl Fn(f32) -> bool, bound: f32) {
        self.candidates.clear();
        for (nth, (block, max)) in logits.chunks(BLOCK).zip(&self.maxima).enumerate() {
            if *max < bound {
                continue;
            }
            for (place, logit) in block.iter().copied().enumerate() {
                if wanted(logit) {
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

    /// Draws from the likeliest tokens that together reach `top_p`.
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
        // Whole classes below the one where the sum is reached, then what of it is kept.
        let (class, before) = self.class_where(|sum| sum >= least)?;
        self.gather_class(logits, scale, class);
        let kept = crossing(&mut self.candidates, |sum| before + sum >= least);
        self.candidates
            .truncate(kept.map_or(usize::MAX, |last| last + 1));
        if min_p > 0.0 {
            // Of what is kept, min-p leaves what it leaves of all.
            let least_kept = self.candidates.iter().copied().max_by(likelier_first)?;
            let bound = scale.logit_of(min_p);
            self.gather(logits, scale, |logit| logit >= bound, bound);
            self.candidates
                .retain(|c| c.weight >= min_p && likelier_first(c, &least_kept).is_le());
            return self.at_mass(at);
        }
        let target = at * (before + mass(&self.candidates));
        if target >= before {
            let place = crossing(&mut self.candidates, |sum| before + sum > target);
            let last = self.candidates.last();
            return place.map_or(last, |p| self.candidates.get(p)).map(|c| c.id);
        }
        let (class, before) = self.class_where(|sum| sum > target)?;
        self.gather_class(logits, scale, class);
        let place = crossing(&mut self.candidates, |sum| before + sum > target)?;
        self.candidates.get(place).map(|c| c.id)
    }

    /// Sums the weights of every class.
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

    /// The first class with which the sum of the classes is `reached`, and the sum without it.
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
        let likelier = -(class as f32 + 1.0) / CLASSES_PER_E;
        let bound = scale.logit_of(f64::from(likelier).exp());
        let wanted = |logit| logit >= bound && class_of(scale, logit) == class;
        self.gather(logits, scale, wanted, bound);
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
                let place = weights[..block.len()].iter().position(|weight| {
                    before += weight;
                    before > target
                })?;
                return Some((start + place) as u32);
            }
            before += sum;
        }
        None
    }
}

/// The class of a logit: the larger the logit, the lower.
#[inline]
fn class_of(scale: Scale, logit: f32) -> u32 {
    let class = (scale.max - logit) / scale.temperature * CLASSES_PER_E;
    let last = (CLASSES - 1) as f32;
    // What is no number has no weight and belongs to the last.
    let class = if class < last { class } else { last };
    // A conversion that rounds, and that the compiler turns into vector instructions.
    (class + TO_WHOLE).to_bits() - TO_WHOLE.to_bits()
}

/// Likelier first, the lower id first among equals.
fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| c.weight).sum()
}

/// The first candidate with which the sum of the weights is above `target`, else the last.
fn by_id(candidates: &[Candidate], target: f64) -> Option<u32> {
    let mut sum = 0.0;
    let found = candidates.iter().find(|c| {
        sum += c.weight;
        sum > target
    });
    found.or(candidates.last()).map(|c| c.id)
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
