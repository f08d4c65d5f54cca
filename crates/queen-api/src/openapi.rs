use openapi_schema::{IntegerBounds, SharedErrors};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{
    anthropic, binaries, catalog, control, decisions, deployments, embeddings, joining, native,
    node_models, nodes, ollama, ollama_store, openai, openai_responses, policy, tokens, workers,
};

/// Returns the OpenAPI document of the queen's interface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    version = "3.2.0",
    info(title = "rbee queen", description = "Inference on the nodes of a queen, and their control."),
    paths(
        openai::models, openai::model, openai::chat, openai::completion,
        openai_responses::create, openai_responses::input_tokens,
        openai_responses::compact, openai_responses::show, openai_responses::remove,
        embeddings::openai, embeddings::ollama, embeddings::ollama_legacy,
        anthropic::messages, anthropic::count_tokens, tokens::tokenize, tokens::detokenize,
        ollama::alive, ollama::chat, ollama::generate, ollama::tags, ollama::show,
        ollama::processes, ollama::version,
        ollama_store::pull, ollama_store::remove, ollama_store::copy,
        native::infer, native::cancel,
        control::health, control::status, deployments::list, deployments::deploy, deployments::undeploy, control::preflight,
        control::shutdown, control::metrics,
        decisions::list, decisions::about, policy::show, policy::test,
        nodes::list, nodes::add, nodes::show, nodes::update, nodes::remove, nodes::set_gpu_yield, nodes::set_power, nodes::sleep, nodes::wake,
        nodes::install, nodes::upgrade, nodes::uninstall, nodes::logs,
        joining::list, joining::invite, joining::revoke, joining::join, joining::link,
        catalog::list, catalog::pull, catalog::verify, catalog::cancel_job, catalog::job_events,
        catalog::show, catalog::remove, catalog::update, catalog::prune, catalog::alias,
        catalog::backup, catalog::restore,
        binaries::list, binaries::show, binaries::packages, binaries::package,
        binaries::provision, binaries::remove,
        binaries::roll_back,
        node_models::manifest, node_models::content,
        workers::engines, workers::list, workers::spawn, workers::show, workers::stop, workers::logs, workers::heartbeat,
    ),
    // Those that only responses and parameters refer to, which the handlers' attributes do not
    // register.
    components(schemas(
        crate::responses::ErrorOfClient,
        diagnostics::ErrorBody,
        hive_contract::JobEvent,
        input_validation::NodeName, input_validation::RequestId, input_validation::WorkerId,
        openai_gateway::anthropic::AnthropicErrorBody,
        openai_gateway::anthropic::AnthropicEvent,
        openai_gateway::anthropic::AnthropicMessage,
        openai_gateway::anthropic::AnthropicTokenCount,
        openai_gateway::ollama::OllamaChatLine,
        openai_gateway::ollama::OllamaChatResponse,
        openai_gateway::ollama::OllamaEmbedResponse,
        openai_gateway::ollama::OllamaEmbeddingsResponse,
        openai_gateway::ollama::OllamaErrorBody,
        openai_gateway::ollama::OllamaGenerateLine,
        openai_gateway::ollama::OllamaGenerateResponse,
        openai_gateway::ollama::OllamaPullLine,
        openai_gateway::openai::ChatCompletion,
        openai_gateway::openai::ChatCompletionEvent,
        openai_gateway::openai::EmbeddingsResponse,
        openai_gateway::openai::TextCompletion,
        openai_gateway::openai::TextCompletionEvent,
        openai_gateway::responses::ResponseDocument,
        openai_gateway::responses::ResponseEvent,
        openai_gateway::responses::ResponseTokenCount,
        queen_contract::InferEvent,
        queen_contract::NodeCallEvent,
        worker_contract::DetokenizeResponse,
        worker_contract::TokenizeResponse,
    )),
    security((), ("api_key" = []), ("x_api_key" = []), ("control_token" = [])),
    modifiers(&Tokens, &IntegerBounds, &SharedErrors)
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, description) in [
            (
                "api_key",
                "Key for inference. Not required if the queen was started without one",
            ),
            (
                "control_token",
                "Token for the control interface, which inference accepts as well",
            ),
            (
                "node_token",
                "Token of a node, for its connection, the heartbeats of its workers and its copies of models",
            ),
            ("invitation", "Secret of an invitation"),
        ] {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description))
                .build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        let header = ApiKeyValue::with_description(
            "x-api-key",
            "The same key, as Anthropic's clients send it",
        );
        components.add_security_scheme("x_api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}
