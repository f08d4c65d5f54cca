//! The queen as a library: arguments, configuration and wiring. Its parts are crates:
//! `queen-api` (HTTP), `request-relay`, `queen-dispatch`, `scheduler`, `request-queue`,
//! `worker-registry` and `queen-nodes`.

mod args;
mod connector;
mod listen;
mod run;
mod ssh_nodes;
mod tunnel_nodes;

pub use args::Args;
pub use run::run;
