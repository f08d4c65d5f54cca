//! The exponential function, which activations and softmax use.

use std::f32::consts::{LN_2, LOG2_E};

use crate::{
    isa::Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// The difference between ln 2 and its `f32` value.
const LN_2_REST: f32 = -1.904_654_2e-9;
/// Adding and subtracting this rounds a value below 2^22 to an integer.
const ROUNDER: f32 = 12_582_912.0;
/// Arguments are clamped to this range, outside which results are zero or infinite.
const RANGE: [f32; 2] = [-104.0, 89.0];
/// Coefficients of `(e^r - 1 - r) / r^2` for `r` up to `LN_2 / 2`, interpolated at the Chebyshev
/// points, highest power first.
const POLYNOMIAL: [f32; 5] = [
    1.392_618_4e-3,
    8.363_179e-3,
    4.166_655_6e-2,
    0.166_665_76,
    0.5,
];

/// Replaces each value of `x` by `e^x`, with an error below one unit in the last place.
pub fn exp(isa: Isa, x: &mut [f32]) {
    dispatch(isa, Exp { x });
}

struct Exp<'a> {
    x: &'a mut [f32],
}

impl Kernel for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (whole, rest) = self.x.as_chunks_mut::<LANES>();
        for x in whole {
            l.store(exp_lanes(l, l.load(x)), x);
        }
        l.store_part(exp_lanes(l, l.load_part(rest)), rest);
    }
}

/// Returns `e^x` as `2^whole * e^rest`, where `x = whole * ln 2 + rest`.
#[inline(always)]
pub(crate) fn exp_lanes<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    let x = l.min(l.splat(RANGE[1]), l.max(l.splat(RANGE[0]), x));
    let rounder = l.splat(ROUNDER);
    let whole = l.sub(l.fma(x, l.splat(LOG2_E), rounder), rounder);
    let rest = l.fma(whole, l.splat(-LN_2), x);
    let rest = l.fma(whole, l.splat(-LN_2_REST), rest);
    let [first, others @ ..] = POLYNOMIAL;
    let mut power = l.splat(first);
    for coefficient in others {
        power = l.fma(power, rest, l.splat(coefficient));
    }
    let one = l.splat(1.0);
    let power = l.fma(l.fma(power, rest, one), rest, one);
    l.scale(power, whole)
}
