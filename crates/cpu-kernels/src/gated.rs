//! The gates of feed-forward parts.

use crate::{
    Isa,
    exp::exp,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// The function that a gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The Gaussian error unit by a hyperbolic tangent:
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// `gate = activation(gate) * up`, both of one length.
pub fn gated(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => dispatch(isa, Gated::<true> { gate, up }),
        Activation::GeluTanh => dispatch(isa, Gated::<false> { gate, up }),
    }
}

struct Gated<'a, const SILU: bool> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl<const SILU: bool> Kernel for Gated<'_, SILU> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (gate, gate_rest) = self.gate.as_chunks_mut::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        for (gate, up) in gate.iter_mut().zip(up) {
            let active = activate::<L, SILU>(l, l.load(gate));
            l.store(l.mul(active, l.load(up)), gate);
        }
        let active = activate::<L, SILU>(l, l.load_part(gate_rest));
        l.store_part(l.mul(active, l.load_part(up_rest)), gate_rest);
    }
}

/// Both activations are `x / (1 + e^-y)`; since `(1 + tanh z) / 2 = 1 / (1 + e^-2z)`, the
/// `y` of the second is twice the operand of its tangent.
#[inline(always)]
fn activate<L: Lanes, const SILU: bool>(l: L, x: L::F32) -> L::F32 {
    let negative_y = if SILU {
        l.sub(l.splat(0.0), x)
    } else {
        // -2 sqrt(2 / pi), and that times 0.044715.
        let cubic = l.fma(l.mul(x, x), l.splat(-0.071_354_82), l.splat(-1.595_769_2));
        l.mul(x, cubic)
    };
    l.div(x, l.add(l.splat(1.0), exp(l, negative_y)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn gates_are_right_and_the_same_everywhere() {
        let mut gate: Vec<f32> = numbers(1, 1000).iter().map(|x| x * 40.0).collect();
        gate.extend([0.0, -0.0, 1e-20, 90.0, -90.0, -200.0, 1e30]);
        let up = numbers(2, gate.len());
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let run = |isa| {
                let mut gate = gate.clone();
                gated(isa, activation, &mut gate, &up);
                gate
            };
            let plain = run(Isa::Plain);
            for isa in Isa::available() {
                assert_eq!(run(isa), plain, "{isa:?}");
            }
            for ((x, up), found) in gate.iter().zip(&up).zip(&plain) {
                let x = f64::from(*x);
                let active = match activation {
                    Activation::Silu => x / (1.0 + (-x).exp()),
                    Activation::GeluTanh => {
                        let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                        x / 2.0 * (1.0 + z.tanh())
                    }
                };
                let expected = active * f64::from(*up);
                let allowed = 1e-6 * expected.abs().max(1.0);
                assert!(
                    (f64::from(*found) - expected).abs() < allowed,
                    "{x}: {found}"
                );
            }
        }
    }
}
