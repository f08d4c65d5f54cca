#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]
//! The program as its users see it: exit codes, standard output and standard error, against a
//! queen in the test's own process.

mod commands;
mod fake;
mod infer;
