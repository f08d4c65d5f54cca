use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Answer, Token};
use diagnostics::{Code, Diagnostic};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// Where Anthropic's clients send their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Asks for one of several keys on every route of `router`.
pub fn require_any(router: Router, tokens: Vec<Arc<Token>>) -> Router {
    let tokens = Arc::new(tokens);
    router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let tokens = Arc::clone(&tokens);
        async move {
            match check(request.headers(), &tokens) {
                Ok(()) => next.run(request).await,
                Err(error) => Answer(error).into_response(),
            }
        }
    }))
}

fn check(headers: &HeaderMap, tokens: &[Arc<Token>]) -> Result<(), Diagnostic> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION)
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token);
    let presented = bearer
        .or_else(|| text(API_KEY))
        .map(str::trim)
        .filter(|token| !token.is_empty());
    match presented {
        None => Err(Diagnostic::new(
            Code::MissingApiKey,
            "this endpoint needs an API key and none was sent",
        )
        .hint("send `Authorization: Bearer KEY`; the key is in the queen's `--api-key-file`")),
        // Every token is compared, so that the time tells nothing.
        Some(presented) if tokens.iter().fold(false, |ok, t| ok | t.matches(presented)) => Ok(()),
        Some(_) => Err(
            Diagnostic::new(Code::InvalidApiKey, "the API key is not valid")
                .hint("the key is in the queen's `--api-key-file`"),
        ),
    }
}

/// Lets pages of these origins read answers; without any, browsers keep foreign pages out.
pub fn cors(router: Router, origins: Vec<String>) -> Router {
    if origins.is_empty() {
        return router;
    }
    let origins = Arc::new(origins);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let origins = Arc::clone(&origins);
        async move {
            let origin = request
                .headers()
                .get(header::ORIGIN)
                .filter(|origin| origins.iter().any(|o| o.as_bytes() == origin.as_bytes()))
                .cloned();
            let Some(origin) = origin else {
                return next.run(request).await;
            };
            let mut response = if request.method() == Method::OPTIONS {
                StatusCode::NO_CONTENT.into_response()
            } else {
                next.run(request).await
            };
            allow(&mut response, origin);
            response
        }
    }))
}

fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "authorization, x-api-key, anthropic-version, anthropic-beta, content-type, \
             x-request-deadline, traceparent",
        ),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-rbee-worker, x-rbee-node, x-rbee-request-id, x-rbee-seed, x-rbee-queue-ms",
        ),
    );
}

/// The host names in origins: requests of these pages are let through on loopback.
pub fn hosts(origins: &[String]) -> Result<Vec<String>, Diagnostic> {
    origins
        .iter()
        .map(|origin| {
            let host = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                .filter(|rest| !rest.is_empty() && !rest.contains('/'))
                .and_then(|rest| rest.split(':').next());
            host.map(str::to_owned).ok_or_else(|| {
                Diagnostic::new(
                    Code::ConfigInvalid,
                    format!("not an origin: \"{}\"", diagnostics::excerpt(origin, 80)),
                )
                .hint("an origin is `https://app.example` or `http://app.example:3000`")
            })
        })
        .collect()
}
