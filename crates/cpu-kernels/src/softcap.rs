//! Bounds that numbers approach and never pass.

use crate::{
    Isa,
    exp::exp,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// `x = cap * tanh(x / cap)`.
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

/// `cap * tanh(x / cap)`, since `tanh z = 1 - 2 / (e^2z + 1)`. Its error is about that of the
/// cap's last place, however small `x`.
#[inline(always)]
pub(crate) fn capped<L: Lanes>(l: L, x: L::F32, cap: f32) -> L::F32 {
    let power = exp(l, l.mul(x, l.splat(2.0 / cap)));
    let one = l.splat(1.0);
    let fraction = l.div(l.splat(2.0), l.add(power, one));
    l.mul(l.sub(one, fraction), l.splat(cap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn caps_are_right_and_the_same_everywhere() {
        let mut x: Vec<f32> = numbers(1, 500).iter().map(|x| x * 100.0).collect();
        x.extend([0.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY]);
        for cap in [0.5, 30.0, 50.0] {
            let run = |isa| {
                let mut x = x.clone();
                softcap(isa, &mut x, cap);
                x
            };
            let plain = run(Isa::Plain);
            for isa in Isa::available() {
                assert_eq!(run(isa), plain, "{isa:?}");
            }
            for (x, found) in x.iter().zip(&plain) {
                let expected = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference < 5e-7 * f64::from(cap), "{x}: {found}");
            }
        }
    }
}
