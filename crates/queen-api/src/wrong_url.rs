//! Paths that do not exist. Most of them come from clients with a wrong base URL.

use axum::response::{IntoResponse as _, Response};
use daemon_shell::{ErrorResponse, no_route};
use diagnostics::Diagnostic;
use http::{HeaderMap, Uri, header};

use crate::dialect::Dialect::{self, Anthropic, Ollama, OpenAi};

/// Routes by the end of their path. If several match, the first is meant.
const ROUTES: [(&str, Dialect); 16] = [
    ("chat/completions", OpenAi),
    ("completions", OpenAi),
    ("api/chat", Ollama),
    ("api/generate", Ollama),
    ("api/tags", Ollama),
    ("api/show", Ollama),
    ("api/ps", Ollama),
    ("api/version", Ollama),
    ("api/embed", Ollama),
    ("api/embeddings", Ollama),
    ("embeddings", OpenAi),
    ("responses/input_tokens", OpenAi),
    ("responses", OpenAi),
    ("models", OpenAi),
    ("messages/count_tokens", Anthropic),
    ("messages", Anthropic),
];
/// Least similarity of a path to the route that was probably meant.
const SIMILAR: f64 = 0.75;

/// Responds to a request for a route that does not exist, in the error format of the client
/// that probably sent it, and tells it the right URL or the nearest route.
pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let error = no_route(uri.path());
    let client = Dialect::of_client(&headers);
    let Some((route, dialect)) = intended(uri.path()) else {
        let error = match similar(uri.path()) {
            Some((route, dialect)) => {
                let path = path_of(route, dialect);
                error.hint(format!("did you mean {path}?"))
            }
            None => error,
        };
        let response = ErrorResponse(error).into_response();
        return match client.or_else(|| dialect_of(uri.path())) {
            Some(dialect) => dialect.translate(response),
            None => response,
        };
    };
    let host = host(&headers, &uri).unwrap_or("HOST:PORT");
    let error = with_right_url(error, host, route, dialect);
    let response = ErrorResponse(error).into_response();
    client.unwrap_or(dialect).translate(response)
}

/// Returns the dialect to whose routes a path would belong.
fn dialect_of(path: &str) -> Option<Dialect> {
    let below = |prefix: &str| path.starts_with(prefix);
    if below("/v1/messages/") {
        Some(Anthropic)
    } else if below("/v1/") {
        Some(OpenAi)
    } else {
        below("/api/").then_some(Ollama)
    }
}

/// Returns the route whose path ends like this one.
fn intended(path: &str) -> Option<(&'static str, Dialect)> {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let ends_with = |route: &str| {
        let route: Vec<&str> = route.split('/').collect();
        segments.ends_with(&route)
    };
    let found = ROUTES.into_iter().find(|(route, _)| ends_with(route));
    // The name of a model follows `models`.
    found.or_else(|| {
        let lists = segments.contains(&"models");
        lists.then_some(("models", OpenAi))
    })
}

/// Returns the route whose path is spelled like this one.
fn similar(path: &str) -> Option<(&'static str, Dialect)> {
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    // The measure takes time in proportion to the product of the lengths.
    if path.len() > 60 {
        return None;
    }
    let routes = ROUTES.into_iter().map(|(route, dialect)| {
        let similarity = strsim::normalized_damerau_levenshtein(&path, &path_of(route, dialect));
        (similarity, (route, dialect))
    });
    let (similarity, route) = routes.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (similarity >= SIMILAR).then_some(route)
}

fn path_of(route: &str, dialect: Dialect) -> String {
    match dialect {
        OpenAi | Anthropic => format!("/v1/{route}"),
        Ollama => format!("/{route}"),
    }
}

fn with_right_url(error: Diagnostic, host: &str, route: &str, dialect: Dialect) -> Diagnostic {
    // Clients of Anthropic append the version themselves.
    let base = match dialect {
        OpenAi => "/v1",
        Anthropic | Ollama => "",
    };
    let path = path_of(route, dialect);
    error.hint(format!(
        "use http://{host}{base} as the base URL; the endpoint is http://{host}{path}"
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
            ("/v1/chat/completions/", Some(("chat/completions", OpenAi))),
            (
                "/v1/v1/chat/completions",
                Some(("chat/completions", OpenAi)),
            ),
            ("/chat/completions", Some(("chat/completions", OpenAi))),
            (
                "/api/v1/chat/completions",
                Some(("chat/completions", OpenAi)),
            ),
            ("/openai/v1/responses", Some(("responses", OpenAi))),
            ("/v1//completions", Some(("completions", OpenAi))),
            ("/models/builtin:haiku", Some(("models", OpenAi))),
            ("/v1/api/chat", Some(("api/chat", Ollama))),
            ("/api/api/embeddings", Some(("api/embeddings", Ollama))),
            ("/v1/v1/messages", Some(("messages", Anthropic))),
            (
                "/messages/count_tokens",
                Some(("messages/count_tokens", Anthropic)),
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
    fn a_misspelled_path_means_the_nearest_route() {
        for (path, expected) in [
            ("/v1/chat/completion", Some("chat/completions")),
            ("/v1/chat/compeltions", Some("chat/completions")),
            ("/v1/Models", Some("models")),
            ("/v1/message", Some("messages")),
            ("/v1/embedding", Some("embeddings")),
            ("/api/generat", Some("api/generate")),
            ("/api/tag", Some("api/tags")),
            ("/v1/response", Some("responses")),
            ("/v1/audio/speech", None),
            ("/favicon.ico", None),
            ("/", None),
        ] {
            assert_eq!(similar(path).map(|(route, _)| route), expected, "{path}");
        }
        assert_eq!(similar(&"/v1/models".repeat(1000)), None);
    }

    #[test]
    fn the_hint_has_the_base_url_of_the_client() {
        let hint = |route: &str, dialect| {
            let error = Diagnostic::new(Code::NotFound, "no");
            with_right_url(error, "h:1", route, dialect).hint.unwrap()
        };
        assert_eq!(
            hint("models", OpenAi),
            "use http://h:1/v1 as the base URL; the endpoint is http://h:1/v1/models"
        );
        assert_eq!(
            hint("messages", Anthropic),
            "use http://h:1 as the base URL; the endpoint is http://h:1/v1/messages"
        );
        assert_eq!(
            hint("api/chat", Ollama),
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
