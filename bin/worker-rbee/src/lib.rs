//! The worker programs: one process, one model, one device. Here arguments and environment
//! are read, the engine is chosen, and errors become exit codes.

mod arguments;
pub mod candle;
pub mod mock;
mod process;
