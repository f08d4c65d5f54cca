#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    clippy::needless_pass_by_ref_mut,
    missing_docs
)]

mod steps;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["140-end-to-end-flows"]).await
}
