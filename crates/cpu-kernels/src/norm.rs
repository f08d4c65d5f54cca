//! Root-mean-square norms, and the sums of rows around them.

use crate::{
    Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// `out = x / sqrt(mean(x^2) + epsilon) * weight`, all of one length.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let factor = dispatch(isa, InverseRms { x, epsilon });
    dispatch(
        isa,
        Scale {
            factor,
            x,
            weight,
            out,
        },
    );
}

/// The same in place, for each `weight.len()` numbers of `x` by themselves.
pub fn rms_norm_heads(isa: Isa, x: &mut [f32], weight: &[f32], epsilon: f32) {
    for head in x.chunks_exact_mut(weight.len().max(1)) {
        let factor = dispatch(isa, InverseRms { x: head, epsilon });
        let out = head;
        dispatch(
            isa,
            ScaleInPlace {
                factor,
                weight,
                out,
            },
        );
    }
}

/// `x += y`, both of one length.
pub fn add(isa: Isa, x: &mut [f32], y: &[f32]) {
    dispatch(isa, Add { x, y });
}

struct InverseRms<'a> {
    x: &'a [f32],
    epsilon: f32,
}

impl Kernel for InverseRms<'_> {
    type Output = f32;

    /// Lane `i` sums the numbers `i`, `i + 16` and so on.
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let mut sum = l.splat(0.0);
        let (whole, rest) = self.x.as_chunks::<LANES>();
        for x in whole {
            let x = l.load(x);
            sum = l.fma(x, x, sum);
        }
        let x = l.load_part(rest);
        let sum = l.sum(l.fma(x, x, sum));
        1.0 / (sum / self.x.len() as f32 + self.epsilon).sqrt()
    }
}

struct Scale<'a> {
    factor: f32,
    x: &'a [f32],
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let factor = l.splat(self.factor);
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (weight, weight_rest) = self.weight.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for ((x, weight), out) in x.iter().zip(weight).zip(out) {
            l.store(l.mul(l.mul(l.load(x), factor), l.load(weight)), out);
        }
        let (x, weight) = (l.load_part(x_rest), l.load_part(weight_rest));
        l.store_part(l.mul(l.mul(x, factor), weight), out_rest);
    }
}

struct ScaleInPlace<'a> {
    factor: f32,
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for ScaleInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let factor = l.splat(self.factor);
        let (weight, weight_rest) = self.weight.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for (weight, out) in weight.iter().zip(out) {
            l.store(l.mul(l.mul(l.load(out), factor), l.load(weight)), out);
        }
        let (x, weight) = (l.load_part(out_rest), l.load_part(weight_rest));
        l.store_part(l.mul(l.mul(x, factor), weight), out_rest);
    }
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (x, x_rest) = self.x.as_chunks_mut::<LANES>();
        let (y, y_rest) = self.y.as_chunks::<LANES>();
        for (x, y) in x.iter_mut().zip(y) {
            l.store(l.add(l.load(x), l.load(y)), x);
        }
        for (x, y) in x_rest.iter_mut().zip(y_rest) {
            *x += y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn norms_are_right_and_the_same_everywhere() {
        for length in [1, 15, 16, 64, 100, 576] {
            let (x, weight) = (numbers(1, 3 * length), numbers(2, length));
            let epsilon = 1e-5;
            let run = |isa| {
                let mut rows = vec![0.0; 3 * length];
                for (x, out) in x.chunks(length).zip(rows.chunks_mut(length)) {
                    rms_norm(isa, x, &weight, epsilon, out);
                }
                let mut heads = x.clone();
                rms_norm_heads(isa, &mut heads, &weight, epsilon);
                assert_eq!(heads, rows);
                rows
            };
            let plain = run(Isa::Plain);
            for isa in Isa::available() {
                assert_eq!(run(isa), plain, "{isa:?}");
            }
            for (x, out) in x.chunks(length).zip(plain.chunks(length)) {
                let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
                let root = (squares / length as f64 + f64::from(epsilon)).sqrt();
                for ((x, w), out) in x.iter().zip(&weight).zip(out) {
                    let expected = f64::from(*x) / root * f64::from(*w);
                    assert!(
                        (f64::from(*out) - expected).abs() < 1e-6,
                        "{out} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_are_added() {
        for length in [0, 7, 16, 41] {
            let (x, y) = (numbers(3, length), numbers(4, length));
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            for isa in Isa::available() {
                let mut sum = x.clone();
                add(isa, &mut sum, &y);
                assert_eq!(sum, expected);
            }
        }
    }
}
