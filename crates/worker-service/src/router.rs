use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};
use daemon_shell::Token;
use worker_contract::limits::MAX_BODY_BYTES;

use crate::{embed, infer, lifecycle, metrics, tokenize, worker::Worker};

/// Returns the worker's routes. All but `/health` require `token`.
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
    daemon_shell::finish(routes, MAX_BODY_BYTES)
}
