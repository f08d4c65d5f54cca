//! The hive of another machine, through OpenSSH's sshd, with small scripts in place of the
//! programs. The real programs run in the tests of the queen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

mod build;
mod fixture;
mod hive;
mod service;
