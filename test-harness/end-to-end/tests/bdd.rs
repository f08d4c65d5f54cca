//! Feature 140, and the steps that only this feature uses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    clippy::needless_pass_by_ref_mut,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

mod steps;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["140-end-to-end-flows"]).await
}
