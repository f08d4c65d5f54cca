//! The hive as a library: its arguments, its HTTP interface, and [`run()`], which the binary
//! calls.

mod args;
mod membership;
mod paths;
mod run;
mod service;
mod suspend;

pub use args::{Args, Command, Join};
pub use run::run;
pub use service::openapi;
