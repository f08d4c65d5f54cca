use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Admitted, Answer, Token};
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
            let asked = request
                .headers()
                .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
                .cloned();
            let mut response = if request.method() == Method::OPTIONS {
                StatusCode::NO_CONTENT.into_response()
            } else {
                next.run(request).await
            };
            allow(&mut response, origin, asked);
            response
        }
    }))
}

/// Tells the browser that the page may read the answer. The headers that a page asks for are
/// allowed whatever they are: clients send ever new ones, and none of them opens anything.
fn allow(response: &mut Response, origin: HeaderValue, asked: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        asked.unwrap_or_else(|| HeaderValue::from_static("authorization, content-type")),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-rbee-worker, x-rbee-node, x-rbee-request-id, x-rbee-seed, x-rbee-queue-ms, \
             request-id, retry-after, x-should-retry",
        ),
    );
}

/// What origins let in on loopback: those of web pages their hosts, others only themselves.
pub fn admitted(origins: &[String]) -> Result<Admitted, Diagnostic> {
    let mut admitted = Admitted::default();
    for origin in origins {
        match parts(origin) {
            Some(("http" | "https", host)) => admitted.hosts.push(host.to_owned()),
            Some(_) => admitted.origins.push(origin.clone()),
            None => {
                return Err(Diagnostic::new(
                    Code::ConfigInvalid,
                    format!("not an origin: \"{}\"", diagnostics::excerpt(origin, 80)),
                )
                .hint(
                    "an origin is `https://app.example`, `http://app.example:3000` or `app://name`",
                ));
            }
        }
    }
    Ok(admitted)
}

/// Scheme and host of an origin.
fn parts(origin: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = origin.split_once("://")?;
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let of_authority = |c: char| c.is_ascii_graphic() && !"/?#@,*".contains(c);
    let host = authority.split(':').next()?;
    let whole = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(of_scheme)
        && authority.chars().all(of_authority)
        && !host.is_empty();
    whole.then_some((scheme, host))
}

#[cfg(test)]
mod tests {
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
        ];
        let admitted = admitted(&origins.map(str::to_owned)).unwrap();
        assert_eq!(admitted.hosts, ["app.example", "page.example"]);
        assert_eq!(admitted.origins, origins[2..]);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in [
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
            let error = admitted(&[wrong.to_owned()]).unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid, "{wrong}");
        }
    }
}
