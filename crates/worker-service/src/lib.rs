//! The worker contract over HTTP: inference, lifecycle, heartbeats.
//!
//! [`run`] is a whole worker process around an engine that is still to be loaded;
//! [`router`] is its HTTP interface alone, around a [`Worker`].

mod embed;
mod heartbeat;
mod infer;
mod lifecycle;
mod metrics;
mod openapi;
mod run;
mod tokenize;
mod worker;

pub use openapi::openapi;
pub use run::{Loaded, Progress, ServiceConfig, run};
pub use worker::{Worker, WorkerConfig};

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};
use daemon_shell::Token;

/// Largest body of a request: some million characters of prompt.
pub const BODY_LIMIT_BYTES: usize = 4 << 20;

/// The worker's routes; all but `/health` ask for `token`.
pub fn router(worker: Worker, token: Arc<Token>) -> Router {
    let guarded = Router::new()
        .route("/ready", get(lifecycle::ready))
        .route("/info", get(lifecycle::info))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/infer", post(infer::infer))
        .route("/v1/infer/{request_id}", delete(infer::cancel))
        .route("/v1/embed", post(embed::embed))
        .route("/v1/tokenize", post(tokenize::tokenize))
        .route("/v1/detokenize", post(tokenize::detokenize))
        .route("/v1/drain", post(lifecycle::drain))
        .route("/v1/shutdown", post(lifecycle::shutdown))
        .with_state(worker.clone());
    let public = Router::new()
        .route("/health", get(lifecycle::health))
        .with_state(worker);
    let routes = daemon_shell::require_token(guarded, token).merge(public);
    daemon_shell::finish(routes, BODY_LIMIT_BYTES)
}
