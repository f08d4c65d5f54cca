//! Writes models with random weights and a valid tokenizer, for tests and benchmarks.
//!
//! A [`Recipe`] specifies family, sizes and quantization. [`Recipe::write_gguf`] and
//! [`Recipe::write_directory`] write the same model: the same recipe yields the same weights in
//! both formats. Weights are generated a few rows at a time, so that a model of several gigabytes
//! needs only megabytes of memory.

mod architecture;
mod config;
mod encode;
mod errors;
mod gguf;
mod numbers;
mod quantization;
mod recipe;
mod safetensors;
mod sizes;
mod tokenizer;
mod weights;

pub use architecture::Architecture;
pub use quantization::Quantization;
pub use recipe::Recipe;
pub use sizes::{ExpertSizes, Shape, Sizes};
