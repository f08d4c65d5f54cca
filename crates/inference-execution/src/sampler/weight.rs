//! The weight of a token relative to the likeliest one: `exp(x)` for `x <= 0`, in a form
//! that the compiler turns into vector instructions and that has the same bits on every
//! machine.
//!
//! Weights are whole multiples of 2^-35. Sums of them are exact, for up to 2^18 tokens of
//! the largest weight, and so do not depend on the order of the terms: which tokens a filter
//! keeps, and which one a number draws, is the same however they are found. A token that is
//! less than 2^-36 times as likely as the likeliest has no weight.

/// Logits whose weights are summed, or searched, together.
pub(super) const BLOCK: usize = 64;
/// The exponential of this is less than half the least weight.
const LEAST: f32 = -30.0;
/// Adding and taking away this number rounds an `f32` to a whole number; after adding it, the
/// low bits are that number.
pub(super) const TO_WHOLE: f32 = 12_582_912.0;
/// Adding and taking away this number rounds an `f64` below 2^16 to a multiple of 2^-35.
const TO_WEIGHT: f64 = 196_608.0;
/// The natural logarithm of 2 in two parts, the first with few bits, so that its multiples
/// are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `exp(x)` for `x <= 0` to within 2 units in the last place; next to nothing for what is
/// no number or far below 0.
#[inline]
pub(super) fn exponential(x: f32) -> f32 {
    let x = if x > LEAST { x } else { LEAST };
    let shifted = x * std::f32::consts::LOG2_E + TO_WHOLE;
    let whole = shifted - TO_WHOLE;
    let rest = x - whole * LN_2[0] - whole * LN_2[1];
    // Taylor's series, up to the seventh power.
    let mut series = rest * (1.0 / 5040.0) + 1.0 / 720.0;
    series = series * rest + 1.0 / 120.0;
    series = series * rest + 1.0 / 24.0;
    series = series * rest + 1.0 / 6.0;
    series = series * rest + 0.5;
    series = series * rest + 1.0;
    series = series * rest + 1.0;
    // The low bits of `shifted` are the whole number, which is added to the exponent.
    let exponent = shifted.to_bits().wrapping_sub(TO_WHOLE.to_bits()) << 23;
    f32::from_bits(series.to_bits().wrapping_add(exponent))
}

#[inline]
fn rounded(exponential: f32) -> f64 {
    (f64::from(exponential) + TO_WEIGHT) - TO_WEIGHT
}

/// How logits become weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// The largest logit.
    pub max: f32,
    pub temperature: f32,
}

impl Scale {
    /// The weight of a logit; that of the largest is 1.
    #[inline]
    pub fn weight(self, logit: f32) -> f64 {
        rounded(self.exponential(logit))
    }

    #[inline]
    fn exponential(self, logit: f32) -> f32 {
        // A quotient: the reciprocal of a tiny temperature would be infinite.
        exponential((logit - self.max) / self.temperature)
    }

    /// The sum of the weights of at most [`BLOCK`] logits.
    pub fn sum(self, block: &[f32]) -> f64 {
        self.sum_of(block, rounded)
    }

    /// The sum of the exponentials of at most [`BLOCK`] logits, not rounded to weights.
    pub fn sum_unrounded(self, block: &[f32]) -> f64 {
        self.sum_of(block, f64::from)
    }

    /// The weights of at most [`BLOCK`] logits.
    #[inline]
    pub fn weights(self, block: &[f32], weights: &mut [f64; BLOCK]) {
        for (weight, e) in weights.iter_mut().zip(self.exponentials(block)) {
            *weight = rounded(e);
        }
    }

    /// The exponentials of at most [`BLOCK`] logits, and 0 for what is missing.
    #[inline]
    fn exponentials(self, block: &[f32]) -> [f32; BLOCK] {
        let mut exponentials = [0.0_f32; BLOCK];
        for (e, logit) in exponentials.iter_mut().zip(block) {
            *e = self.exponential(*logit);
        }
        exponentials
    }

    #[inline]
    fn sum_of(self, block: &[f32], term: impl Fn(f32) -> f64) -> f64 {
        const LANES: usize = 8;
        let mut sums = [0.0_f64; LANES];
        for group in self.exponentials(block).as_chunks::<LANES>().0 {
            for (sum, e) in sums.iter_mut().zip(group) {
                *sum += term(*e);
            }
        }
        sums.iter().sum()
    }

    /// A logit below which no weight reaches `weight`, or a little less.
    pub fn logit_of(self, weight: f64) -> f32 {
        let below = weight.ln() * f64::from(self.temperature);
        // Rounding is by far less than this.
        let slack = 1e-4 * (f64::from(self.temperature) + f64::from(self.max).abs());
        (f64::from(self.max) + below - slack) as f32
    }
}

/// The largest of some logits; what is not a number does not count.
#[inline]
pub(super) fn largest(logits: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (groups, rest) = logits.as_chunks::<LANES>();
    for group in groups {
        for (lane, logit) in lanes.iter_mut().zip(group) {
            *lane = larger(*lane, *logit);
        }
    }
    let rest = rest.iter().copied().fold(f32::NEG_INFINITY, larger);
    lanes.into_iter().fold(rest, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_mathematicians() {
        assert_eq!(exponential(0.0), 1.0);
        let mut x = 0.0_f32;
        while x > -25.0 {
            let exact = f64::from(x).exp();
            let error = (f64::from(exponential(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "{x}: {error}");
            x -= 0.000_37;
        }
        let scale = Scale {
            max: 3.0,
            temperature: 0.5,
        };
        assert_eq!(scale.weight(3.0), 1.0);
        for nothing in [f32::NAN, f32::NEG_INFINITY, -1e30, -100.0] {
            assert_eq!(scale.weight(nothing), 0.0);
        }
        // The least temperature there is keeps the likeliest alone.
        let coldest = Scale {
            max: 3.0,
            temperature: f32::from_bits(1),
        };
        assert_eq!((coldest.weight(3.0), coldest.weight(2.999)), (1.0, 0.0));
    }

    #[test]
    fn sums_do_not_depend_on_the_order() {
        let scale = Scale {
            max: 0.0,
            temperature: 1.0,
        };
        let mut logits: Vec<f32> = (0..200_000)
            .map(|i| -((i * 7919 % 2600) as f32) / 100.0)
            .collect();
        let blocks = |logits: &[f32]| -> f64 { logits.chunks(BLOCK).map(|b| scale.sum(b)).sum() };
        let sum = blocks(&logits);
        logits.reverse();
        let (left, right) = logits.split_at(77_777);
        assert_eq!(blocks(right) + blocks(left), sum);
        assert_eq!(logits.iter().map(|l| scale.weight(*l)).sum::<f64>(), sum);
    }

    #[test]
    fn no_weight_is_reached_below_its_logit() {
        for (max, temperature) in [(0.0, 1.0), (1e4, 0.01), (-300.0, 7.0), (5.0, 1e-9)] {
            let scale = Scale { max, temperature };
            for weight in [1.0, 0.5, 1e-3, 3e-9] {
                let logit = scale.logit_of(weight);
                assert!(
                    scale.weight(logit.next_down()) <= weight,
                    "{scale:?} {weight}"
                );
            }
        }
    }
}
