//! Writes models with random weights and a valid tokenizer, for tests and benches.
//!
//! A [`Recipe`] says which family, which sizes, which types; [`Recipe::write_gguf`] and
//! [`Recipe::write_folder`] write the same model: same recipe, same weights in both. Weights
//! are made, stored and forgotten some rows at a time, so that a model of gigabytes takes
//! some megabytes of memory.

mod architecture;
mod config;
mod encode;
mod gguf;
mod numbers;
mod quantization;
mod safetensors;
mod sizes;
mod tokenizer;
mod weights;

pub use architecture::Architecture;
pub use quantization::Quantization;
pub use sizes::{Experts, Shape, Sizes};
pub use tokenizer::Vocabulary;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The family.
    pub architecture: Architecture,
    /// How large.
    pub sizes: Sizes,
    /// How weights are stored.
    pub quantization: Quantization,
    /// Other seeds give other weights.
    pub seed: u64,
}

impl Recipe {
    /// A model of that family in the sizes that `shape` has in it, seed 0.
    pub fn new(architecture: Architecture, shape: Shape, quantization: Quantization) -> Self {
        Self {
            architecture,
            sizes: Sizes::of(shape, architecture),
            quantization,
            seed: 0,
        }
    }
}
