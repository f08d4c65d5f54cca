//! The worker binaries: one process, one model, one device. This crate reads arguments and
//! environment, selects the engine, and converts errors to exit codes.

pub mod candle;
mod errors;
pub mod mock;
