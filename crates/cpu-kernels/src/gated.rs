//! Gates of feed-forward networks.

use crate::{
    exp::exp_lanes,
    isa::Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// The activation function of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The tanh approximation of GELU: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// Computes `gate = activation(gate) * up`; both slices have the same length.
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

/// Both activations have the form `x / (1 + e^-y)`: because `(1 + tanh z) / 2 = 1 / (1 + e^-2z)`,
/// the `y` of GELU is twice the argument of its tanh.
#[inline(always)]
fn activate<L: Lanes, const SILU: bool>(l: L, x: L::F32) -> L::F32 {
    let negative_y = if SILU {
        l.sub(l.splat(0.0), x)
    } else {
        // -2 sqrt(2 / pi), and 0.044715 times that.
        let cubic = l.fma(l.mul(x, x), l.splat(-0.071_354_82), l.splat(-1.595_769_2));
        l.mul(x, cubic)
    };
    l.div(x, l.add(l.splat(1.0), exp_lanes(l, negative_y)))
}
