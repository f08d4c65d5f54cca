//! Paths that do not exist. Most of them come from clients with a wrong base URL.

use axum::response::{IntoResponse as _, Response};
use daemon_shell::{ErrorResponse, no_route};
use diagnostics::Diagnostic;
use http::{HeaderMap, Uri, header};

use crate::dialect::Dialect;

/// Routes by the end of their path. If several match, the first is meant.
const ROUTES: [(&str, Option<Dialect>); 15] = [
    ("chat/completions", None),
    ("completions", None),
    ("api/chat", Some(Dialect::Ollama)),
    ("api/generate", Some(Dialect::Ollama)),
    ("api/tags", Some(Dialect::Ollama)),
    ("api/show", Some(Dialect::Ollama)),
    ("api/ps", Some(Dialect::Ollama)),
    ("api/version", Some(Dialect::Ollama)),
    ("api/embed", Some(Dialect::Ollama)),
    ("api/embeddings", Some(Dialect::Ollama)),
    ("embeddings", None),
    ("responses", None),
    ("models", None),
    ("messages/count_tokens", Some(Dialect::Anthropic)),
    ("messages", Some(Dialect::Anthropic)),
];

/// Responds to a request for a route that does not exist, in the error format of the client
/// that probably sent it, and tells it the right URL.
pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let error = no_route(uri.path());
    let Some((route, dialect)) = intended(uri.path()) else {
        return ErrorResponse(error).into_response();
    };
    let host = host(&headers, &uri).unwrap_or("HOST:PORT");
    let error = with_right_url(error, host, route, dialect);
    let mut response = ErrorResponse(error).into_response();
    if let Some(dialect) = dialect {
        dialect.translate(response)
    } else {
        // The routes of other dialects would translate it.
        response.extensions_mut().remove::<Diagnostic>();
        response
    }
}

/// Returns the route whose path ends like this one.
fn intended(path: &str) -> Option<(&'static str, Option<Dialect>)> {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let ends_with = |route: &str| {
        let route: Vec<&str> = route.split('/').collect();
        segments.ends_with(&route)
    };
    let found = ROUTES.into_iter().find(|(route, _)| ends_with(route));
    // The name of a model follows `models`.
    found.or_else(|| {
        let lists = segments.contains(&"models");
        lists.then_some(("models", None))
    })
}

fn with_right_url(
    error: Diagnostic,
    host: &str,
    route: &str,
    dialect: Option<Dialect>,
) -> Diagnostic {
    let prefix = match dialect {
        None | Some(Dialect::OpenAi | Dialect::Anthropic) => "/v1",
        Some(Dialect::Ollama) => "",
    };
    // Clients of Anthropic append the version themselves.
    let base = match dialect {
        None | Some(Dialect::OpenAi) => "/v1",
        Some(Dialect::Anthropic | Dialect::Ollama) => "",
    };
    error.hint(format!(
        "use http://{host}{base} as the base URL; the endpoint is http://{host}{prefix}/{route}"
    ))
}

/// Returns the address that the client used, if it can be repeated without escapes.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(http::uri::Authority::as_str))
        .filter(|host| (1..=260).contains(&host.len()) && host.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn a_path_means_the_route_at_its_end() {
        for (path, expected) in [
            ("/v1/chat/completions/", Some(("chat/completions", None))),
            ("/v1/v1/chat/completions", Some(("chat/completions", None))),
            ("/chat/completions", Some(("chat/completions", None))),
            ("/api/v1/chat/completions", Some(("chat/completions", None))),
            ("/openai/v1/responses", Some(("responses", None))),
            ("/v1//completions", Some(("completions", None))),
            ("/models/builtin:haiku", Some(("models", None))),
            ("/v1/api/chat", Some(("api/chat", Some(Dialect::Ollama)))),
            (
                "/api/api/embeddings",
                Some(("api/embeddings", Some(Dialect::Ollama))),
            ),
            (
                "/v1/v1/messages",
                Some(("messages", Some(Dialect::Anthropic))),
            ),
            (
                "/messages/count_tokens",
                Some(("messages/count_tokens", Some(Dialect::Anthropic))),
            ),
            ("/chat", None),
            ("/v1/nothing", None),
            ("/v1/chat/completions/nothing", None),
            ("/messagesandmore", None),
        ] {
            assert_eq!(intended(path), expected, "{path}");
        }
    }

    #[test]
    fn the_hint_has_the_base_url_of_the_client() {
        let hint = |route: &str, dialect| {
            let error = Diagnostic::new(Code::NotFound, "no");
            with_right_url(error, "h:1", route, dialect).hint.unwrap()
        };
        assert_eq!(
            hint("models", None),
            "use http://h:1/v1 as the base URL; the endpoint is http://h:1/v1/models"
        );
        assert_eq!(
            hint("messages", Some(Dialect::Anthropic)),
            "use http://h:1 as the base URL; the endpoint is http://h:1/v1/messages"
        );
        assert_eq!(
            hint("api/chat", Some(Dialect::Ollama)),
            "use http://h:1 as the base URL; the endpoint is http://h:1/api/chat"
        );
    }

    #[test]
    fn a_host_that_is_no_address_is_not_repeated() {
        let uri = Uri::from_static("/x");
        for (value, expected) in [("h.example:1", true), ("[::1]:8500", true), ("a\"b", false)] {
            let headers = HeaderMap::from_iter([(header::HOST, value.parse().unwrap())]);
            assert_eq!(host(&headers, &uri).is_some(), expected, "{value}");
        }
    }
}
