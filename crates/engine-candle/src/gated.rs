use candle_core::Result;
use cpu_kernels::Activation;

use crate::{backend::Backend, linear::Linear};

/// A gated feed-forward network: `down(activation(gate(x)) * up(x))`.
pub(crate) struct Gated {
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) activation: Activation,
}

impl Gated {
    pub(crate) fn apply<B: Backend>(&self, backend: &mut B, x: &B::Rows) -> Result<B::Rows> {
        let [gate, up] = backend.linear(x, [&self.gate, &self.up])?;
        let gated = backend.gated(self.activation, gate, up)?;
        let [out] = backend.linear(&gated, [&self.down])?;
        backend.release(gated);
        Ok(out)
    }
}
