use openapi_schema::{IntegerBounds, SharedErrors};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    version = "3.2.0",
    info(
        title = "rbee worker",
        description = "The interface of every rbee worker, whoever implements it."
    ),
    paths(
        crate::lifecycle::health,
        crate::lifecycle::ready,
        crate::lifecycle::info,
        crate::lifecycle::drain,
        crate::lifecycle::shutdown,
        crate::metrics::metrics,
        crate::infer::infer,
        crate::infer::cancel,
        crate::embed::embed,
        crate::tokenize::tokenize,
        crate::tokenize::detokenize,
    ),
    // Those that only responses refer to, and what a worker sends.
    components(schemas(
        diagnostics::ErrorBody,
        worker_contract::FatalLine,
        worker_contract::StreamEvent,
        worker_contract::WorkerHeartbeat,
    )),
    security(("token" = [])),
    modifiers(&Token, &IntegerBounds, &SharedErrors)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of the node"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}
