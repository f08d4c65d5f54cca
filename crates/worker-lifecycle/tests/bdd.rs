//! Features 040 and 080: the real hive over HTTP with real workers, and the crate in this
//! process where a scenario needs shorter time limits.
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
    bdd::run(&["040-hive-worker-registry", "080-worker-lifecycle"]).await
}
