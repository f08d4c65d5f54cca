//! The weight of a token relative to the most likely one: `exp(x)` for `x <= 0`, in a form that
//! the compiler vectorizes and that yields the same bits on every machine.
//!
//! Weights are integer multiples of 2^-35. Sums of up to 2^18 weights are exact and therefore
//! independent of the order of the terms: which tokens a filter keeps and which one is drawn
//! does not depend on the algorithm. A token whose probability is less than 2^-36 times that of
//! the most likely one has weight 0.

/// Number of logits that are summed or searched together.
pub(super) const BLOCK: usize = 64;
/// The exponential of this is less than half the smallest nonzero weight.
const LEAST: f32 = -30.0;
/// Adding and subtracting this number rounds an `f32` to an integer. After the addition, the
/// low bits hold that integer.
pub(super) const TO_INTEGER: f32 = 12_582_912.0;
/// Adding and subtracting this number rounds an `f64` below 2^16 to a multiple of 2^-35.
const TO_WEIGHT: f64 = 196_608.0;
/// The natural logarithm of 2 in two parts. The first has so few bits that its multiples are
/// exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Computes `exp(x)` for `x <= 0` to within 2 units in the last place. The result is close to 0
/// if `x` is NaN or less than [`LEAST`].
#[inline]
pub(super) fn exponential(x: f32) -> f32 {
    let x = if x > LEAST { x } else { LEAST };
    let shifted = x * std::f32::consts::LOG2_E + TO_INTEGER;
    let integer = shifted - TO_INTEGER;
    let rest = x - integer * LN_2[0] - integer * LN_2[1];
    // Taylor series up to the seventh power.
    let mut series = rest * (1.0 / 5040.0) + 1.0 / 720.0;
    series = series * rest + 1.0 / 120.0;
    series = series * rest + 1.0 / 24.0;
    series = series * rest + 1.0 / 6.0;
    series = series * rest + 0.5;
    series = series * rest + 1.0;
    series = series * rest + 1.0;
    // Adds the integer in the low bits of `shifted` to the exponent.
    let exponent = shifted.to_bits().wrapping_sub(TO_INTEGER.to_bits()) << 23;
    f32::from_bits(series.to_bits().wrapping_add(exponent))
}

#[inline]
fn rounded(exponential: f32) -> f64 {
    (f64::from(exponential) + TO_WEIGHT) - TO_WEIGHT
}

/// Converts logits to weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Largest logit.
    pub max: f32,
    pub temperature: f32,
}

impl Scale {
    /// Returns the weight of a logit. The largest logit has weight 1.
    #[inline]
    pub fn weight(self, logit: f32) -> f64 {
        rounded(self.exponential(logit))
    }

    #[inline]
    fn exponential(self, logit: f32) -> f32 {
        // A division, because the reciprocal of a tiny temperature is infinite.
        exponential((logit - self.max) / self.temperature)
    }

    /// Sums the weights of at most [`BLOCK`] logits.
    pub fn sum(self, block: &[f32]) -> f64 {
        self.sum_of(block, rounded)
    }

    /// Sums the exponentials of at most [`BLOCK`] logits without rounding them to weights.
    pub fn sum_unrounded(self, block: &[f32]) -> f64 {
        self.sum_of(block, f64::from)
    }

    /// Computes the weights of at most [`BLOCK`] logits.
    #[inline]
    pub fn weights(self, block: &[f32], weights: &mut [f64; BLOCK]) {
        for (weight, e) in weights.iter_mut().zip(self.exponentials(block)) {
            *weight = rounded(e);
        }
    }

    /// Computes the exponentials of at most [`BLOCK`] logits, padded with zeros.
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

    /// Returns a logit such that the weight of every smaller one is at most `weight`.
    pub fn logit_of(self, weight: f64) -> f32 {
        let below = weight.ln() * f64::from(self.temperature);
        // Much larger than the rounding error.
        let slack = 1e-4 * (f64::from(self.temperature) + f64::from(self.max).abs());
        (f64::from(self.max) + below - slack) as f32
    }
}

/// Returns the largest of the logits, ignoring NaN.
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
    fn exponential_is_accurate() {
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
        // At the smallest positive temperature only the most likely token keeps a weight.
        let coldest = Scale {
            max: 3.0,
            temperature: f32::from_bits(1),
        };
        assert_eq!((coldest.weight(3.0), coldest.weight(2.999)), (1.0, 0.0));
    }

    #[test]
    fn sums_do_not_depend_on_the_order_of_the_terms() {
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
    fn smaller_logits_do_not_exceed_the_weight() {
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
