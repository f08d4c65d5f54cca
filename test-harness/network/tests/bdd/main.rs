//! Faults of the network between the queen and its nodes, and the steps for them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    clippy::needless_pass_by_ref_mut,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

mod steps;
mod systems;

use std::process::ExitCode;

const FEATURES: &[&str] = &["140-network-faults", "140-other-platforms"];

fn main() -> ExitCode {
    match network::enter() {
        Ok(()) => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(bdd::run(FEATURES))
        }
        Err(reason) => bdd::not_run(FEATURES, &reason),
    }
}
