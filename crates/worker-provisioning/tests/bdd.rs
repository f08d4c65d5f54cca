//! Feature 025: the real binaries, with builds by cargo from git repositories.
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
    bdd::run(&["025-worker-provisioning", "025-worker-catalog"]).await
}
