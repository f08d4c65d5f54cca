use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
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
    components(schemas(worker_contract::WorkerHeartbeat, worker_contract::FatalLine)),
    security(("token" = [])),
    modifiers(&Token)
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
