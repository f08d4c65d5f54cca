mod answers;
mod anthropic;
mod choices;
mod control;
mod dialects;
mod embeddings;
mod native;
mod ollama;
mod openai;
mod respond;
mod tokens;
mod workers;

pub use dialects::speak;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};
use daemon_shell::{Token, require_token};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use crate::{app::App, guard::require_any};

/// Largest body that is read: a long conversation, not a document store.
const BODY_LIMIT_BYTES: usize = 4 << 20;

/// The secrets of the queen's three kinds of callers.
#[derive(Debug, Clone)]
pub struct Keys {
    /// For inference; absent, inference is open (on loopback).
    pub api: Option<Arc<Token>>,
    /// For the control interface.
    pub control: Arc<Token>,
    /// For the workers of this machine.
    pub node: Arc<Token>,
}

/// The queen's HTTP interface.
pub fn router(app: &Arc<App>, keys: &Keys) -> Router {
    let inference = Router::new()
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completion))
        .route("/v1/tokenize", post(tokens::tokenize))
        .route("/v1/detokenize", post(tokens::detokenize))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/show", post(ollama::show))
        .route("/api/ps", get(ollama::processes))
        .route("/api/version", get(ollama::version))
        .route("/v1/embeddings", post(embeddings::openai))
        .route("/api/embed", post(embeddings::ollama))
        .route("/api/embeddings", post(embeddings::ollama_older))
        .route("/v1/infer", post(native::infer))
        .route("/v1/infer/{id}", delete(native::cancel))
        .route("/metrics", get(control::metrics))
        .with_state(Arc::clone(app));
    let inference = match &keys.api {
        // The keeper, which has the control key, needs no second one.
        Some(api) => require_any(inference, vec![Arc::clone(api), Arc::clone(&keys.control)]),
        None => inference,
    };
    let control = Router::new()
        .route("/v1/status", get(control::status))
        .route("/v1/nodes", get(control::nodes))
        .route("/v1/deployments", get(control::deployments))
        .route("/v1/catalog", get(control::catalog))
        .route("/v1/shutdown", post(control::shutdown))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{id}", get(workers::show).delete(workers::stop))
        .route("/v1/workers/{id}/logs", get(workers::logs))
        .with_state(Arc::clone(app));
    let heartbeats = Router::new()
        .route("/v1/worker-heartbeats", post(workers::heartbeat))
        .with_state(Arc::clone(app));
    let router = Router::new()
        .route("/health", get(control::health))
        .route("/", get(ollama::alive))
        .merge(inference)
        .merge(require_token(control, Arc::clone(&keys.control)))
        .merge(require_token(heartbeats, Arc::clone(&keys.node)));
    daemon_shell::finish(router, BODY_LIMIT_BYTES)
}

/// The OpenAPI document of the queen's interface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "rbee queen", description = "Inference on the machines that the queen knows, and their control."),
    paths(
        openai::models, openai::model, openai::chat, openai::completion,
        embeddings::openai, embeddings::ollama, embeddings::ollama_older,
        anthropic::messages, anthropic::count_tokens, tokens::tokenize, tokens::detokenize,
        ollama::chat, ollama::generate, ollama::tags, ollama::show, ollama::processes, ollama::version,
        native::infer, native::cancel,
        control::health, control::status, control::nodes, control::deployments,
        control::catalog, control::shutdown, control::metrics,
        workers::list, workers::show, workers::stop, workers::logs, workers::heartbeat,
    ),
    components(schemas(queen_contract::Assigned, worker_contract::StreamEvent, diagnostics::Narration)),
    modifiers(&Tokens)
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for name in ["api_key", "control_token", "node_token"] {
            components.add_security_scheme(
                name,
                SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
            );
        }
    }
}
