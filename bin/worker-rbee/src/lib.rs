//! The worker binaries: one process, one model, one device. This crate reads arguments and
//! environment, selects the engine, and converts errors to exit codes.

mod candle;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod errors;
pub mod mock;
