#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]
//! Tests of the keeper binary: exit codes, standard output and standard error.

mod commands;
mod fake;
mod infer;
mod terminal;
mod usage;
