//! Tests the engine with the embedded model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod batching;
mod common;
mod golden;
mod loading;
mod prefix;
