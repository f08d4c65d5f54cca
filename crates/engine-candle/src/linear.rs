use candle_core::{Result, Tensor};

use crate::matrix::Matrix;

/// A matrix and, in some families, what is added to its product.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// `x` of `[n, columns]` becomes `[n, rows]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.matrix.apply(x)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}
