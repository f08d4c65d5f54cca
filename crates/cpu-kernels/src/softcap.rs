//! Soft capping of logits and attention scores.

use crate::{
    exp::exp_lanes,
    isa::Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// Replaces each value of `x` by `cap * tanh(x / cap)`.
pub fn softcap(isa: Isa, x: &mut [f32], cap: f32) {
    dispatch(isa, Softcap { x, cap });
}

struct Softcap<'a> {
    x: &'a mut [f32],
    cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (whole, rest) = self.x.as_chunks_mut::<LANES>();
        for x in whole {
            l.store(capped(l, l.load(x), self.cap), x);
        }
        l.store_part(capped(l, l.load_part(rest), self.cap), rest);
    }
}

/// Returns `cap * tanh(x / cap)`, computed with `tanh z = 1 - 2 / (e^2z + 1)`. The absolute error
/// is about one unit in the last place of `cap`, however small `x` is.
#[inline(always)]
pub(crate) fn capped<L: Lanes>(l: L, x: L::F32, cap: f32) -> L::F32 {
    let power = exp_lanes(l, l.mul(x, l.splat(2.0 / cap)));
    let one = l.splat(1.0);
    let fraction = l.div(l.splat(2.0), l.add(power, one));
    l.mul(l.sub(one, fraction), l.splat(cap))
}
