//! Access by web pages and apps of other origins.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Admitted, ErrorResponse};
use diagnostics::Diagnostic;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::errors::invalid_origin;

/// Response headers that pages may read.
const EXPOSED_HEADERS: &str = "x-rbee-worker, x-rbee-node, x-rbee-request-id, x-rbee-seed, \
                               x-rbee-queue-ms, x-rbee-sampling, x-rbee-notes, request-id, \
                               retry-after, x-should-retry";

/// Origin of files that an app shows. Browsers send `null` for files.
const FILES: &str = "file://";

/// Origins of web pages and apps that may call the API from a browser.
#[derive(Debug, Clone, Default)]
pub struct CorsOrigins {
    origins: Vec<String>,
    local: Admitted,
}

impl CorsOrigins {
    /// Checks the origins. Fails with [`ConfigInvalid`](diagnostics::Code::ConfigInvalid).
    pub fn parse(origins: Vec<String>) -> Result<Self, Diagnostic> {
        let mut local = Admitted::default();
        for origin in &origins {
            match scheme_and_host(origin) {
                // Apps own their names in no network, so a page could.
                Some(("http" | "https", host)) => local.hosts.push(host.to_owned()),
                Some(_) => {}
                None if origin == FILES => {}
                None => return Err(invalid_origin(origin)),
            }
        }
        local.origins.clone_from(&origins);
        Ok(Self { origins, local })
    }

    /// Returns what a queen on a loopback address admits: these origins, and requests to the hosts
    /// of web pages.
    pub(crate) fn local(&self) -> Admitted {
        self.local.clone()
    }
}

/// Lets pages of these origins read responses. Browsers keep pages of other origins out, whose
/// preflight requests are refused.
pub(crate) fn allow_origins(router: Router, allowed: &CorsOrigins) -> Router {
    let origins = Arc::new(allowed.origins.clone());
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let origins = Arc::clone(&origins);
        async move {
            let Some(origin) = allowed_origin(request.headers(), &origins) else {
                return match preflight_origin(&request) {
                    Some(origin) => refuse(origin),
                    None => next.run(request).await,
                };
            };
            let requested_headers = request
                .headers()
                .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
                .cloned();
            let mut response = if request.method() == Method::OPTIONS {
                StatusCode::NO_CONTENT.into_response()
            } else {
                next.run(request).await
            };
            allow(&mut response, origin, requested_headers);
            response
        }
    }))
}

fn allowed_origin(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let allowed = origins.iter().any(|o| o.as_bytes() == origin.as_bytes());
    allowed.then(|| origin.clone())
}

/// Returns the origin of a page whose browser asks whether the page may send a request.
fn preflight_origin(request: &Request) -> Option<&str> {
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let origin = headers.get(header::ORIGIN).filter(|_| is_preflight)?;
    Some(origin.to_str().unwrap_or("?"))
}

fn refuse(origin: &str) -> Response {
    let error = daemon_shell::origin_not_admitted(origin);
    tracing::warn!(
        hint = error.hint,
        "refused a preflight request: {}",
        error.message
    );
    ErrorResponse(error).into_response()
}

/// Adds the headers that let the page read the response. All request headers that the page
/// announces are allowed: clients keep adding new ones, and none of them grants access.
fn allow(response: &mut Response, origin: HeaderValue, requested_headers: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        requested_headers
            .unwrap_or_else(|| HeaderValue::from_static("authorization, content-type")),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED_HEADERS),
    );
}

fn scheme_and_host(origin: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = origin.split_once("://")?;
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let in_authority = |c: char| c.is_ascii_graphic() && !"/?#@,*".contains(c);
    let host = authority.split(':').next()?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(in_scheme)
        && authority.chars().all(in_authority)
        && !host.is_empty();
    valid.then_some((scheme, host))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn only_web_pages_have_hosts() {
        let origins = [
            "https://app.example",
            "http://page.example:3000",
            "app://obsidian.md",
            "chrome-extension://abcdef",
            "vscode-webview://1f-2e",
            "tauri://localhost",
            "file://",
        ];
        let local = CorsOrigins::parse(origins.map(str::to_owned).to_vec())
            .unwrap()
            .local();
        assert_eq!(local.hosts, ["app.example", "page.example"]);
        assert_eq!(local.origins, origins);
    }

    #[test]
    fn an_invalid_origin_is_refused() {
        for invalid in [
            "",
            "null",
            "*",
            "app.example",
            "https://",
            "https://:80",
            "https://*",
            "file:///home",
            "app://a/b",
            "app://a b",
            "1x://a",
            "a b://c",
            "://a",
            "https://me@app.example",
        ] {
            let error = CorsOrigins::parse(vec![invalid.to_owned()]).unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid, "{invalid}");
        }
    }
}
