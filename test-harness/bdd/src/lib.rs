//! The [`World`], the runner and the shared steps of the feature files. A crate that owns a
//! feature has a test target `bdd`:
//!
//! ```text
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     bdd::run(&["030-queen-worker-registry"]).await
//! }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::needless_pass_by_ref_mut,
    reason = "test code: a step fails by panicking"
)]

mod http;
mod network_path;
mod ports;
mod processes;
mod runner;
mod steps;
mod wait;
mod world;

pub use http::{HttpResponse, SseEvent};
pub use network_path::{NetworkPath, PathState};
pub use ports::{ReservedPort, TakenPort};
pub use processes::{Finished, Running, binary};
pub use runner::{not_run, run};
pub use steps::ssh::Machines;
pub use wait::{eventually, within};
pub use world::{World, table};
