//! Errors in the shape that an API's clients read, whoever answers them: a handler, the
//! guard of the keys, or the one of foreign pages.

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use diagnostics::Diagnostic;
use http::{HeaderName, HeaderValue, header};
use openai_gateway::{anthropic::AnthropicErrorBody, ollama::OllamaErrorBody};
use queen_contract::HEADER_REQUEST_ID;

#[derive(Debug, Clone, Copy)]
enum Dialect {
    Ollama,
    Anthropic,
}

impl Dialect {
    /// Whose path it is; OpenAI's shape is that of all others.
    fn of(path: &str) -> Option<Self> {
        if path.starts_with("/api/") {
            Some(Self::Ollama)
        } else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Some(Self::Anthropic)
        } else {
            None
        }
    }

    fn error(self, error: Diagnostic) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Ollama => serde_json::to_vec(&OllamaErrorBody::from(error)),
            Self::Anthropic => serde_json::to_vec(&AnthropicErrorBody::from(error)),
        }
    }
}

/// Lets every route answer errors in its own API's shape.
pub fn speak(router: Router) -> Router {
    router.layer(middleware::from_fn(|request: Request, next: Next| async {
        let dialect = Dialect::of(request.uri().path());
        let response = next.run(request).await;
        match dialect {
            Some(dialect) => translate(dialect, response),
            None => response,
        }
    }))
}

fn translate(dialect: Dialect, mut response: Response) -> Response {
    // An answered error has itself beside its body.
    if let Some(error) = response.extensions_mut().remove::<Diagnostic>()
        && let Ok(body) = dialect.error(error)
    {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
    if let (Dialect::Anthropic, Some(id)) = (dialect, response.headers().get(HEADER_REQUEST_ID)) {
        // Where Anthropic's clients look for it.
        let id: HeaderValue = id.clone();
        let name = HeaderName::from_static("request-id");
        response.headers_mut().insert(name, id);
    }
    response
}
