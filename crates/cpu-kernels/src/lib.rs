//! Transformer kernels for the CPU, operating on plain slices.
//!
//! Every result is computed in a fixed order that does not depend on the batch, the number of
//! threads or the [`Isa`]: each SIMD lane accumulates values of a single result, the order
//! defines which operations are fused, and integer sums are exact.
//!
//! Matrix products have implementations for AVX2, AVX-512 with VNNI, AMX, and NEON with or
//! without dot products. The AMX and NEON implementations are verified against the plain one
//! under emulation only; they have not run on real hardware and their speed is not measured.

// A kernel is compiled for an instruction set by inlining it into a function that enables the set.
#![allow(clippy::inline_always)]

mod activations;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod amx_trial;
mod attention;
mod errors;
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
mod threads;
mod unpack;

pub use attention::{AttentionShape, AttentionSpan, attention};
pub use exp::exp;
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
