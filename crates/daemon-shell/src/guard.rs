use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use diagnostics::Diagnostic;
use http::{HeaderMap, StatusCode, Uri, header};

use crate::{ErrorResponse, Token, errors, extract::BodyLimit};

/// Requires the bearer token on every route of `router`.
pub fn require_token(router: Router, token: Arc<Token>) -> Router {
    router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let token = token.clone();
        async move {
            match check_bearer(request.headers(), &token) {
                Ok(()) => next.run(request).await,
                Err(diagnostic) => ErrorResponse(diagnostic).into_response(),
            }
        }
    }))
}

fn check_bearer(headers: &HeaderMap, token: &Token) -> Result<(), Diagnostic> {
    if token.matches(require_bearer(headers)?) {
        Ok(())
    } else {
        Err(errors::invalid_token())
    }
}

/// Returns the bearer token of a request, if it has one.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the bearer token of a request; fails with `MISSING_API_KEY`.
pub fn require_bearer(headers: &HeaderMap) -> Result<&str, Diagnostic> {
    bearer_token(headers).ok_or_else(errors::missing_token)
}

/// Callers that [`loopback_only`] admits in addition to those of this machine.
#[derive(Debug, Clone, Default)]
pub struct Admitted {
    /// Host names that requests may be sent to.
    pub hosts: Vec<String>,
    /// Complete origins of pages and apps.
    pub origins: Vec<String>,
}

/// Admits only callers of this machine. Rejects a `Host` that is neither a loopback name nor
/// `admitted`, as after DNS rebinding, and an `Origin` that is neither that host nor `admitted`.
///
/// A browser sends simple requests of a page without asking first, also those of a page that
/// another program of this machine serves.
pub fn loopback_only(router: Router, admitted: Admitted) -> Router {
    let admitted = Arc::new(admitted);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let admitted = admitted.clone();
        async move {
            match check_local(request.headers(), request.uri(), &admitted) {
                Ok(()) => next.run(request).await,
                Err(error) => {
                    tracing::warn!(hint = error.hint, "refused a request: {}", error.message);
                    ErrorResponse(error).into_response()
                }
            }
        }
    }))
}

fn check_local(headers: &HeaderMap, uri: &Uri, admitted: &Admitted) -> Result<(), Diagnostic> {
    // HTTP/2 sends the host in the URI instead of the header.
    let host = headers
        .get(header::HOST)
        .map(|v| v.to_str().unwrap_or("?"))
        .or_else(|| uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or("");
    if !is_local(host, &admitted.hosts) {
        return Err(errors::host_not_local(host));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        let is_own = matches!(origin.split_once("://"),
            Some(("http" | "https", authority)) if authority.eq_ignore_ascii_case(host));
        if !is_own && !admitted.origins.iter().any(|known| known == origin) {
            return Err(errors::origin_not_admitted(origin));
        }
    }
    Ok(())
}

fn is_local(authority: &str, extra: &[String]) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
        || extra.iter().any(|e| e.eq_ignore_ascii_case(host))
}

/// Completes a router with JSON errors for unknown routes and methods and a limit on bodies.
pub fn finish(router: Router, body_limit_bytes: usize) -> Router {
    let not_found = |uri: Uri| async move { ErrorResponse(errors::no_route(uri.path())) };
    limit_requests(router.fallback(not_found), body_limit_bytes)
}

/// Adds JSON errors for unknown methods and a limit on bodies.
pub fn limit_requests(router: Router, body_limit_bytes: usize) -> Router {
    router
        .layer(middleware::from_fn(method_not_allowed))
        .layer(middleware::from_fn(
            move |mut request: Request, next: Next| {
                request.extensions_mut().insert(BodyLimit(body_limit_bytes));
                next.run(request)
            },
        ))
        .layer(DefaultBodyLimit::max(body_limit_bytes))
}

async fn method_not_allowed(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut error = ErrorResponse(errors::method_not_allowed(&method, &path)).into_response();
    if let Some(allow) = allow {
        error.headers_mut().insert(header::ALLOW, allow);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JsonBody;
    use axum::{body::Body, routing::post};
    use std::collections::BTreeMap;

    use http::Request as HttpRequest;
    use tower::ServiceExt as _;

    fn app() -> Router {
        let routes = Router::new().route(
            "/x",
            post(
                |JsonBody(v): JsonBody<BTreeMap<String, u8>>| async move { format!("{}", v.len()) },
            ),
        );
        let admitted = Admitted {
            hosts: vec!["page.example".into()],
            origins: vec!["app://notes.example".into(), "https://page.example".into()],
        };
        finish(loopback_only(routes, admitted), 64)
    }

    async fn status(request: HttpRequest<Body>) -> (u16, String) {
        let response = app().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn json(body: impl Into<Body>) -> HttpRequest<Body> {
        HttpRequest::post("/x")
            .header("host", "127.0.0.1:1")
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap()
    }

    #[tokio::test]
    async fn an_invalid_body_has_its_status_and_code() {
        assert_eq!(status(json(r#"{"a":1,"b":2}"#)).await, (200, "2".into()));
        // Editors of Windows begin files with a byte order mark.
        assert_eq!(
            status(json("\u{feff}{\"a\":1,\"b\":2}")).await,
            (200, "2".into())
        );
        for (body, expected, code) in [
            (b"{\"a\":".to_vec(), 400, "INVALID_REQUEST"),
            (b"[]".to_vec(), 400, "INVALID_REQUEST"),
            (b"{\"\xff\":1}".to_vec(), 400, "INVALID_REQUEST"),
            (vec![b' '; 65], 413, "BODY_TOO_LARGE"),
        ] {
            let (status, text) = status(json(body)).await;
            assert_eq!(status, expected, "{text}");
            assert!(text.contains(code), "{text}");
        }
        let mut other = json(r#"{"a":1}"#);
        other.headers_mut().remove("content-type");
        assert_eq!(status(other).await.0, 415);
    }

    #[tokio::test]
    async fn rejects_other_hosts_and_pages() {
        for (header, value, expected) in [
            ("host", "localhost:8500", 200),
            ("host", "[::1]:8500", 200),
            ("host", "evil.example:8500", 403),
            ("host", "127.0.0.1.evil.example", 403),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            // Pages that other programs of this machine serve.
            ("origin", "http://localhost:3000", 403),
            ("origin", "http://127.0.0.1", 403),
            ("origin", "http://127.0.0.1:2", 403),
            ("origin", "file://", 403),
            // The page would be the server's own.
            ("origin", "http://127.0.0.1:1", 200),
            ("host", "page.example:8500", 200),
            ("origin", "https://page.example", 200),
            ("origin", "https://page.example:8443", 403),
            ("origin", "http://page.example", 403),
            ("origin", "app://notes.example", 200),
            ("origin", "app://notes.example.evil.example", 403),
            ("origin", "http://notes.example", 403),
            // A page of that name could send it after DNS rebinding.
            ("host", "notes.example:8500", 403),
        ] {
            let mut request = json(r#"{"a":1}"#);
            request.headers_mut().insert(header, value.parse().unwrap());
            assert_eq!(status(request).await.0, expected, "{header}: {value}");
        }
    }

    #[tokio::test]
    async fn unknown_routes_and_methods_are_json_errors() {
        let get = HttpRequest::get("/x").header("host", "localhost");
        let (code, text) = status(get.body(Body::empty()).unwrap()).await;
        assert_eq!(code, 405);
        assert!(text.contains("METHOD_NOT_ALLOWED"), "{text}");
        let get = HttpRequest::get("/y%1b").header("host", "localhost");
        let (code, text) = status(get.body(Body::empty()).unwrap()).await;
        assert_eq!(code, 404);
        assert!(text.contains("NOT_FOUND"), "{text}");
    }

    #[tokio::test]
    async fn a_wrong_key_and_a_missing_key_have_different_codes() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::load_or_create(&dir.path().join("t")).unwrap();
        let app = require_token(
            Router::new().route("/x", post(|| async { "in" })),
            Arc::new(token.clone()),
        );
        for (value, expected, code) in [
            (None, 401, "MISSING_API_KEY"),
            (Some("Bearer nope".to_owned()), 401, "INVALID_API_KEY"),
            (Some(format!("Bearer {}", token.expose())), 200, "in"),
            (Some(format!("bearer {}", token.expose())), 200, "in"),
        ] {
            let mut request = HttpRequest::post("/x");
            if let Some(value) = value {
                request = request.header("authorization", value);
            }
            let response = app
                .clone()
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            assert_eq!(response.status().as_u16(), expected);
            let body = axum::body::to_bytes(response.into_body(), 4096)
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains(code), "{text}");
        }
    }
}
