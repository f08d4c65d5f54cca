//! Error formats: every response to a request for a route has the format that the clients of
//! its dialect parse, whether a handler, a guard or a limit produced it.

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use diagnostics::{Code, Diagnostic, ErrorBody};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use openai_gateway::{
    anthropic::AnthropicErrorBody, ollama::OllamaErrorBody, openai::OpenAiErrorBody,
};
use queen_contract::HEADER_REQUEST_ID;

/// Header that all clients of Anthropic send, and no others.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// An API whose errors have a format of their own. All other routes have the format of all other
/// parts of rbee, which is OpenAI's with rbee's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

impl Dialect {
    /// Translates the errors of all routes of `router`. Clients of Anthropic, which use some of
    /// OpenAI's routes, get their own format.
    pub(crate) fn translate_errors(self, router: Router) -> Router {
        router.layer(middleware::from_fn(
            move |request: Request, next: Next| async move {
                let dialect = Self::of_client(request.headers()).unwrap_or(self);
                dialect.translate(next.run(request).await)
            },
        ))
    }

    /// Returns the dialect that the client's headers tell.
    pub(crate) fn of_client(headers: &HeaderMap) -> Option<Self> {
        headers
            .contains_key(ANTHROPIC_VERSION)
            .then_some(Self::Anthropic)
    }

    pub(crate) fn translate(self, mut response: Response) -> Response {
        // Error responses carry their error as an extension.
        if let Some(error) = response.extensions_mut().remove::<Diagnostic>() {
            if error.code == Code::MethodNotAllowed {
                response.extensions_mut().insert((self, error.clone()));
            }
            if let Ok(body) = self.error_body(error) {
                replace_body(&mut response, body);
            }
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

/// Names the allowed methods in the error about another one. They are known outside of all routes
/// only, where the header is set.
pub(crate) fn name_allowed_methods(router: Router) -> Router {
    let named = Router::new().fallback_service(router);
    named.layer(middleware::from_fn(
        |request: Request, next: Next| async move {
            let mut response = next.run(request).await;
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                add_allowed_methods(&mut response);
            }
            response
        },
    ))
}

fn add_allowed_methods(response: &mut Response) {
    let allow = response.headers().get(header::ALLOW);
    let Some(allowed) = allow.and_then(|allow| allow.to_str().ok()) else {
        return;
    };
    let methods: Vec<&str> = allowed.split(',').map(str::trim).collect();
    let methods = methods.join(", ");
    let complete = |error: Diagnostic| Diagnostic {
        message: format!("{}, only {methods}", error.message),
        hint: None,
        ..error
    };
    let extensions = response.extensions_mut();
    let body = if let Some((dialect, error)) = extensions.remove::<(Dialect, Diagnostic)>() {
        dialect.error_body(complete(error))
    } else if let Some(error) = extensions.remove::<Diagnostic>() {
        serde_json::to_vec(&ErrorBody::from(complete(error)))
    } else {
        return;
    };
    if let Ok(body) = body {
        replace_body(response, body);
    }
}

fn replace_body(response: &mut Response, body: Vec<u8>) {
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}
