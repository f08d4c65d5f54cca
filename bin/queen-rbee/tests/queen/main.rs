//! The queen over HTTP, with workers and a hive that stand in for the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod ask;
mod choices;
mod control;
mod dialects;
mod fake_hive;
mod fake_worker;
mod openai;
mod relay;
mod spawning;
mod world;
