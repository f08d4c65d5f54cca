//! Feature 025: which engine runs a model, with the real queen, hive and keeper.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

mod steps;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["025-engine-choice"]).await
}
