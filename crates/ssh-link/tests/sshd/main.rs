//! Connections, commands, files and links through OpenSSH's sshd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

mod commands;
mod connect;
mod faults;
mod link;
mod machine;
