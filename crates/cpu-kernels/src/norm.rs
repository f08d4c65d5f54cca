//! Root-mean-square norms and residual additions.

use crate::{
    isa::Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// Computes `out = x / sqrt(mean(x^2) + epsilon) * weight`; all slices have the same length.
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

/// Normalizes each head of `weight.len()` values of `x` in place, as [`rms_norm`] does.
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

/// Computes `x += y`; both slices have the same length.
pub fn add(isa: Isa, x: &mut [f32], y: &[f32]) {
    dispatch(isa, Add { x, y });
}

struct InverseRms<'a> {
    x: &'a [f32],
    epsilon: f32,
}

impl Kernel for InverseRms<'_> {
    type Output = f32;

    /// Lane `i` sums the squares of elements `i`, `i + 16` and so on.
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let mut sum = l.splat(0.0);
        let (whole, rest) = self.x.as_chunks::<LANES>();
        for x in whole {
            let x = l.load(x);
            sum = l.fma(x, x, sum);
        }
        let x = l.load_part(rest);
        let sum = l.reduce_sum(l.fma(x, x, sum));
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
