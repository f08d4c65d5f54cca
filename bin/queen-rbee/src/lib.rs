//! The queen as a library: its wiring, its HTTP surface, and what runs the effects of the
//! pure scheduler. Decisions live in the crates `scheduler` and `worker-registry`,
//! translations in `openai-gateway`.

mod app;
mod args;
mod ask;
mod clock;
mod dispatcher;
mod ending;
mod groups;
mod guard;
mod metrics;
mod models;
mod nodes;
mod relay;
mod run;
mod service;
mod spawner;
mod store;
mod upstream;

pub use args::Args;
pub use run::run;
pub use service::openapi;
