//! The hive as a library: its arguments, its HTTP service, and [`run`], which is all that
//! the program does.

mod args;
mod run;
mod service;

pub use args::Args;
pub use run::run;
pub use service::openapi;
