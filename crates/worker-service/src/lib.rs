//! The worker contract over HTTP: inference, lifecycle, heartbeats.
//!
//! [`run`] runs a worker process, which loads its engine while it already listens. [`router`] is
//! the HTTP interface alone, for a [`Worker`].

mod embed;
mod errors;
mod heartbeat;
mod infer;
mod lifecycle;
mod metrics;
mod model_service;
mod openapi;
mod responses;
mod router;
mod run;
mod tokenize;
mod worker;

pub use model_service::{ModelService, SharedService};
pub use openapi::openapi;
pub use router::router;
pub use run::{ProgressCallback, ServiceConfig, run};
pub use worker::{Worker, WorkerConfig};
