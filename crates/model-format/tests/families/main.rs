//! What headers of each family say, and that no damaged one panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod damage;
mod headers;
mod samples;
