//! The arithmetic of a transformer on processors. Plain slices in, plain slices out.
//!
//! Every result is computed in one order that is the same alone and in a batch, for any
//! number of threads and for every [`Isa`]: sums run over lanes that belong to one result
//! each, products are fused where the order says so, and integer sums are exact.
//!
//! Products of matrices are written for AVX2, AVX-512 with VNNI, AMX, and NEON with or without
//! dot products. AMX and NEON are checked against the plain ones under emulation; they never
//! ran on a real processor, and their speed is not measured.

// A kernel is compiled for an instruction set by being inlined into a function that has it.
#![allow(clippy::inline_always)]

mod activations;
mod aligned;
mod attend;
mod attention;
mod exp;
mod gated;
mod isa;
mod kv_blocks;
mod lanes;
mod layout;
mod memory;
mod norm;
mod packed;
mod pool;
mod product;
mod rope;
mod simd;
mod softcap;
#[cfg(test)]
mod test_numbers;
mod threads;
mod trial;
mod unpack;

pub use attention::{AttentionShape, AttentionSpan, attention};
pub use gated::{Activation, gated};
pub use isa::Isa;
pub use kv_blocks::{BLOCK_TOKENS, KvBlocks};
pub use memory::WeightMemory;
pub use norm::{add, rms_norm, rms_norm_heads};
pub use packed::PackedMatrix;
pub use product::{Product, multiply};
pub use rope::rotate;
pub use softcap::softcap;
pub use threads::Threads;
