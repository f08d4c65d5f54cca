//! The exponential function, which activations and softmax need.

use std::f32::consts::{LN_2, LOG2_E};

use crate::lanes::Lanes;

/// What the 32-bit `LN_2` lacks.
const LN_2_REST: f32 = -1.904_654_2e-9;
/// Adding it rounds a number below 2^22 to a whole one.
const ROUNDER: f32 = 12_582_912.0;
/// Where results are zero and infinite.
const RANGE: [f32; 2] = [-104.0, 89.0];
/// `(e^r - 1 - r) / r^2` for a rest `r` up to `LN_2 / 2`: the polynomial that meets it in the
/// Chebyshev points, the highest power first.
const POLYNOMIAL: [f32; 5] = [
    1.392_618_4e-3,
    8.363_179e-3,
    4.166_655_6e-2,
    0.166_665_76,
    0.5,
];

/// `e^x`, within two units in the last place; the same bits for every [`crate::Isa`].
///
/// With `x = whole * ln 2 + rest` it is `2^whole * e^rest`.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::F32) -> L::F32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Isa,
        lanes::{Kernel, LANES, dispatch},
    };

    struct Exp([f32; LANES]);

    impl Kernel for Exp {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            l.store(exp(l, l.load(&self.0)), &mut out);
            out
        }
    }

    fn of(isa: Isa, x: f32) -> f32 {
        dispatch(isa, Exp([x; LANES]))[7]
    }

    #[test]
    fn it_is_within_two_units_and_the_same_everywhere() {
        let mut largest: f64 = 0.0;
        for index in -1_050_000..900_000 {
            let x = index as f32 * 1e-4;
            let found = of(Isa::best(), x);
            let expected = f64::from(x).exp();
            let rounded = expected as f32;
            if rounded.is_finite() && rounded > 0.0 {
                let unit = f64::from(rounded.next_up()) - f64::from(rounded);
                largest = largest.max((f64::from(found) - expected).abs() / unit);
            } else {
                assert_eq!(found, rounded, "{x}");
            }
            if index % 997 == 0 {
                for isa in Isa::available() {
                    assert_eq!(of(isa, x).to_bits(), found.to_bits(), "{isa:?} {x}");
                }
            }
        }
        println!("largest error in units of the last place: {largest}");
        assert!(largest < 1.0, "{largest}");
    }

    #[test]
    fn edges_are_what_they_should() {
        for isa in Isa::available() {
            assert_eq!(of(isa, f32::NEG_INFINITY), 0.0);
            assert_eq!(of(isa, f32::MIN), 0.0);
            assert_eq!(of(isa, f32::INFINITY), f32::INFINITY);
            assert_eq!(of(isa, f32::MAX), f32::INFINITY);
            assert_eq!(of(isa, 0.0), 1.0);
            assert_eq!(of(isa, -0.0), 1.0);
            assert!(of(isa, f32::NAN).is_nan());
        }
    }
}
