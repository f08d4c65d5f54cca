use std::sync::Arc;

use axum::{
    Router,
    routing::{any, delete, get, post, put},
};
use daemon_shell::{Token, loopback_only, require_token};
use worker_contract::limits;

use crate::{
    Api, CorsOrigins, anthropic, binaries, catalog, control,
    cors::allow_origins,
    decisions, deployments,
    dialect::{Dialect, name_allowed_methods},
    embeddings,
    guards::{require_api_key, require_node_token},
    joining, native, node_models, nodes, ollama, ollama_store, openai, openai_responses, policy,
    tokens, workers, wrong_url,
};

/// Maximum size of a body on routes without a guard.
const PUBLIC_BODY_BYTES: usize = 16 * 1024;

/// Who may call the queen.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Key for inference; `None` leaves inference open.
    pub api_key: Option<Arc<Token>>,
    /// Token for the control interface. It is accepted for inference as well.
    pub control_token: Arc<Token>,
    pub cors_origins: CorsOrigins,
    /// Accept only requests that were sent to a loopback name, and none from other pages.
    pub loopback_only: bool,
}

/// Creates the router of all routes.
///
/// Every route belongs to a dialect, and everything that responds for it (handler, guard,
/// limits) writes errors in the format of that dialect.
pub fn router(api: &Arc<Api>, config: ApiConfig) -> Router {
    let guards = Guards {
        api: Arc::clone(api),
        config,
    };
    let default = guards
        .inference(native_routes())
        .merge(guards.control(control_routes()))
        .merge(guards.node(node_routes()))
        .merge(guards.public(public_routes()))
        .route("/health", get(control::health))
        .route("/", get(ollama::alive));
    let default = default.fallback(wrong_url::not_found);
    let openai = guards.inference(openai_routes());
    let ollama = unknown_below("/api/", guards.inference(ollama_routes()));
    let anthropic = unknown_below("/v1/messages/", guards.inference(anthropic_routes()));
    let all = Router::new()
        .merge(guards.finish(default))
        .merge(Dialect::OpenAi.translate_errors(guards.finish(openai)))
        .merge(Dialect::Ollama.translate_errors(guards.finish(ollama)))
        .merge(Dialect::Anthropic.translate_errors(guards.finish(anthropic)));
    name_allowed_methods(all)
}

/// Adds routes for all unknown paths that begin with `prefix`.
fn unknown_below(prefix: &str, router: Router) -> Router {
    router
        .route(prefix, any(wrong_url::not_found))
        .route(&format!("{prefix}{{*path}}"), any(wrong_url::not_found))
}

fn openai_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completion))
        .route("/v1/responses", post(openai_responses::create))
        .route(
            "/v1/responses/input_tokens",
            post(openai_responses::input_tokens),
        )
        .route("/v1/responses/compact", post(openai_responses::compact))
        .route(
            "/v1/responses/{id}",
            get(openai_responses::show).delete(openai_responses::remove),
        )
        .route("/v1/embeddings", post(embeddings::openai))
}

fn native_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/tokenize", post(tokens::tokenize))
        .route("/v1/detokenize", post(tokens::detokenize))
        .route("/v1/infer", post(native::infer))
        .route("/v1/infer/{id}", delete(native::cancel))
        .route("/metrics", get(control::metrics))
}

fn ollama_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/show", post(ollama::show))
        .route("/api/ps", get(ollama::processes))
        .route("/api/pull", post(ollama_store::pull))
        .route("/api/delete", delete(ollama_store::remove))
        .route("/api/copy", post(ollama_store::copy))
        .route("/api/version", get(ollama::version))
        .route("/api/embed", post(embeddings::ollama))
        .route("/api/embeddings", post(embeddings::ollama_legacy))
}

fn anthropic_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
}

fn control_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/status", get(control::status))
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/decisions/{about}", get(decisions::about))
        .route("/v1/policy", get(policy::show))
        .route("/v1/policy/test", post(policy::test))
        .route("/v1/nodes", get(nodes::list).post(nodes::add))
        .route(
            "/v1/nodes/{name}",
            get(nodes::show).put(nodes::update).delete(nodes::remove),
        )
        .route("/v1/nodes/{name}/yield", put(nodes::set_gpu_yield))
        .route("/v1/nodes/{name}/power", put(nodes::set_power))
        .route("/v1/nodes/{name}/sleep", post(nodes::sleep))
        .route("/v1/nodes/{name}/wake", post(nodes::wake))
        .route("/v1/nodes/{name}/hive", delete(nodes::uninstall))
        .route("/v1/nodes/{name}/hive/install", post(nodes::install))
        .route("/v1/nodes/{name}/hive/upgrade", post(nodes::upgrade))
        .route("/v1/nodes/{name}/hive/logs", get(nodes::logs))
        .route("/v1/invitations", get(joining::list).post(joining::invite))
        .route("/v1/invitations/{name}", delete(joining::revoke))
        .route("/v1/preflight", post(control::preflight))
        .route(
            "/v1/deployments",
            get(deployments::list).put(deployments::deploy),
        )
        .route("/v1/deployments/remove", post(deployments::undeploy))
        .route("/v1/worker-binaries", get(binaries::list))
        .route("/v1/worker-binaries/provision", post(binaries::provision))
        .route("/v1/worker-binaries/catalog", get(binaries::packages))
        .route("/v1/worker-binaries/catalog/{id}", get(binaries::package))
        .route(
            "/v1/worker-binaries/{type}",
            get(binaries::show).delete(binaries::remove),
        )
        .route(
            "/v1/worker-binaries/{type}/rollback",
            post(binaries::roll_back),
        )
        .route("/v1/catalog", get(catalog::list))
        .route("/v1/catalog/pull", post(catalog::pull))
        .route("/v1/catalog/verify", post(catalog::verify))
        .route("/v1/catalog/jobs/{id}", delete(catalog::cancel_job))
        .route("/v1/catalog/jobs/{id}/events", get(catalog::job_events))
        .route("/v1/catalog/show", post(catalog::show))
        .route("/v1/catalog/remove", post(catalog::remove))
        .route("/v1/catalog/update", post(catalog::update))
        .route("/v1/catalog/prune", post(catalog::prune))
        .route("/v1/catalog/alias", post(catalog::alias))
        .route("/v1/catalog/backup", post(catalog::backup))
        .route("/v1/catalog/restore", post(catalog::restore))
        .route("/v1/shutdown", post(control::shutdown))
        .route("/v1/engines", get(workers::engines))
        .route("/v1/workers", get(workers::list).post(workers::spawn))
        .route("/v1/workers/{id}", get(workers::show).delete(workers::stop))
        .route("/v1/workers/{id}/logs", get(workers::logs))
}

fn node_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/link", get(joining::link))
        .route("/v1/worker-heartbeats", post(workers::heartbeat))
        .route("/v1/node-models/manifest", post(node_models::manifest))
        .route("/v1/node-models/content", get(node_models::content))
}

/// Routes that check what their callers present themselves.
fn public_routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/join", post(joining::join))
}

struct Guards {
    api: Arc<Api>,
    config: ApiConfig,
}

impl Guards {
    fn inference(&self, routes: Router<Arc<Api>>) -> Router {
        let router = routes.with_state(Arc::clone(&self.api));
        match &self.config.api_key {
            Some(key) => {
                let accepted = vec![Arc::clone(key), Arc::clone(&self.config.control_token)];
                require_api_key(router, accepted)
            }
            None => router,
        }
    }

    fn control(&self, routes: Router<Arc<Api>>) -> Router {
        let router = routes.with_state(Arc::clone(&self.api));
        require_token(router, Arc::clone(&self.config.control_token))
    }

    fn public(&self, routes: Router<Arc<Api>>) -> Router {
        let router = routes.with_state(Arc::clone(&self.api));
        // Everyone can send a body before the secret is checked.
        daemon_shell::limit_requests(router, PUBLIC_BODY_BYTES)
    }

    fn node(&self, routes: Router<Arc<Api>>) -> Router {
        let router = routes.with_state(Arc::clone(&self.api));
        require_node_token(router, self.api.nodes.clone())
    }

    /// Adds what all routes share.
    fn finish(&self, router: Router) -> Router {
        let origins = &self.config.cors_origins;
        let router = daemon_shell::limit_requests(router, limits::MAX_BODY_BYTES);
        let router = allow_origins(router, origins);
        if self.config.loopback_only {
            loopback_only(router, origins.local())
        } else {
            router
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_documented() {
        let source = include_str!("routes.rs");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap();
        // The routes of a dialect that do not exist are not operations.
        let is_fallback =
            |path: &str| path.ends_with("/{*other}") || path.len() > 1 && path.ends_with('/');
        let routed: BTreeSet<String> = source
            .split('"')
            .filter(|text| text.starts_with('/') && !is_fallback(text))
            .map(|path| path.replace("{*id}", "{id}"))
            .collect();
        let document = crate::openapi();
        let documented: BTreeSet<String> = document.paths.paths.into_keys().collect();
        assert_eq!(routed, documented);
    }
}
