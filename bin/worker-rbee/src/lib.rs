//! The worker binaries: one process, one model, one device. This crate reads arguments and
//! environment, selects the engine, and converts errors to exit codes.

mod arguments;
pub mod candle;
mod errors;
pub mod mock;
mod process;
