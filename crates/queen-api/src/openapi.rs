use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use crate::{anthropic, control, embeddings, native, ollama, openai, tokens, workers};

/// Returns the OpenAPI document of the queen's interface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "rbee queen", description = "Inference on the nodes of a queen, and their control."),
    paths(
        openai::models, openai::model, openai::chat, openai::completion,
        embeddings::openai, embeddings::ollama, embeddings::ollama_legacy,
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
