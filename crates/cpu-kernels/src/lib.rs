//! The arithmetic of a transformer on processors. Plain slices in, plain slices out.
//!
//! Every result is computed in one order that is the same alone and in a batch, for any
//! number of threads and for every [`Isa`]: sums run over lanes that belong to one result
//! each, products are fused where the order says so, and integer sums are exact.

mod activations;
mod isa;
mod layout;
mod packed;
mod pool;
mod product;
mod simd;
mod threads;
mod unpack;

pub use isa::Isa;
pub use packed::PackedMatrix;
pub use product::{Product, multiply};
pub use threads::Threads;
