use crate::{
    architecture::Architecture,
    quantization::Quantization,
    sizes::{Shape, Sizes},
};

/// Specification of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    pub architecture: Architecture,
    pub sizes: Sizes,
    pub quantization: Quantization,
    /// Seed of the random weights.
    pub seed: u64,
}

impl Recipe {
    /// Creates a recipe with the sizes of `shape` and seed 0.
    pub fn new(architecture: Architecture, shape: Shape, quantization: Quantization) -> Self {
        Self {
            architecture,
            sizes: Sizes::of(shape, architecture),
            quantization,
            seed: 0,
        }
    }
}
