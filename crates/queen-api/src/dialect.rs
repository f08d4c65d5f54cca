//! Error formats: every response to a request for a route has the format that the clients of
//! its dialect parse, whether a handler, a guard or a limit produced it.

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use diagnostics::Diagnostic;
use http::{HeaderName, HeaderValue, header};
use openai_gateway::{
    anthropic::AnthropicErrorBody, ollama::OllamaErrorBody, openai::OpenAiErrorBody,
};
use queen_contract::HEADER_REQUEST_ID;

/// An API whose errors have a format of their own. All other routes have the format of all other
/// parts of rbee, which is OpenAI's with rbee's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

impl Dialect {
    /// Translates the errors of all routes of `router`.
    pub(crate) fn translate_errors(self, router: Router) -> Router {
        router.layer(middleware::from_fn(
            move |request: Request, next: Next| async move {
                self.translate(next.run(request).await)
            },
        ))
    }

    pub(crate) fn translate(self, mut response: Response) -> Response {
        // Error responses carry their error as an extension.
        if let Some(error) = response.extensions_mut().remove::<Diagnostic>()
            && let Ok(body) = self.error_body(error)
        {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(body);
        }
        if self == Self::Anthropic
            && let Some(id) = response.headers().get(HEADER_REQUEST_ID)
        {
            let id: HeaderValue = id.clone();
            let name = HeaderName::from_static("request-id");
            response.headers_mut().insert(name, id);
        }
        response
    }

    fn error_body(self, error: Diagnostic) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::OpenAi => serde_json::to_vec(&OpenAiErrorBody::from(error)),
            Self::Ollama => serde_json::to_vec(&OllamaErrorBody::from(error)),
            Self::Anthropic => serde_json::to_vec(&AnthropicErrorBody::from(error)),
        }
    }
}
