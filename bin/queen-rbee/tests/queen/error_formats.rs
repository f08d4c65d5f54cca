//! Every error has the format of its route's API, whatever part of the queen produced it.

use reqwest::Method;
use serde_json::Value;

use crate::harness::{API_KEY, MODEL, Queen, message};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    OpenAi,
    Ollama,
    Anthropic,
}

/// Returns the format of an error and its code. Panics if it is in no format.
fn parse(body: &Value) -> (Format, &str) {
    let is_error = |fields: &Value| fields["code"].is_string() && fields["message"].is_string();
    if body["type"] == "error" && body["error"]["type"].is_string() && is_error(&body["error"]) {
        (Format::Anthropic, body["error"]["code"].as_str().unwrap())
    } else if body["error"].is_string() && is_error(body) {
        (Format::Ollama, body["code"].as_str().unwrap())
    } else if body["type"].is_null() && is_error(&body["error"]) {
        let error = &body["error"];
        // OpenAI's API has OpenAI's codes; rbee's own is in the details.
        let code = error["details"].get("code").unwrap_or(&error["code"]);
        (Format::OpenAi, code.as_str().unwrap())
    } else {
        panic!("in no format: {body}")
    }
}

/// Paths that exist for POST only, with the format of their errors.
const KNOWN: [(&str, Format); 9] = [
    ("/v1/chat/completions", Format::OpenAi),
    ("/v1/embeddings", Format::OpenAi),
    ("/v1/infer", Format::OpenAi),
    ("/v1/tokenize", Format::OpenAi),
    ("/api/chat", Format::Ollama),
    ("/api/show", Format::Ollama),
    ("/api/embed", Format::Ollama),
    ("/v1/messages", Format::Anthropic),
    ("/v1/messages/count_tokens", Format::Anthropic),
];

/// Paths that do not exist.
const UNKNOWN: [(&str, Format); 12] = [
    ("/nothing", Format::OpenAi),
    ("/api", Format::OpenAi),
    ("/apiary", Format::OpenAi),
    ("/v1/nothing", Format::OpenAi),
    ("/v1/chat/completions/nothing", Format::OpenAi),
    ("/v1/messagesandmore", Format::OpenAi),
    ("/api/", Format::Ollama),
    ("/api/nothing", Format::Ollama),
    ("/api/chat/nothing", Format::Ollama),
    ("/v1/messages/", Format::Anthropic),
    ("/v1/messages/nothing", Format::Anthropic),
    ("/v1/messages/count_tokens/nothing", Format::Anthropic),
];

/// A request with a valid key and a valid body for every API.
fn request(queen: &Queen, method: Method, path: &str) -> reqwest::RequestBuilder {
    let mut body = message(false);
    body["model"] = MODEL.into();
    queen
        .http
        .request(method, format!("{}{path}", queen.url))
        .bearer_auth(API_KEY)
        .json(&body)
}

#[tokio::test]
async fn an_unknown_path_is_not_found_with_or_without_a_key() {
    let queen = Queen::with_api_key().await;
    for (path, format) in UNKNOWN {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let without_key = queen
                .http
                .request(method.clone(), format!("{}{path}", queen.url));
            for request in [request(&queen, method.clone(), path), without_key] {
                let (status, body) = queen.send(request).await;
                assert_eq!(status, 404, "{method} {path}: {body}");
                assert_eq!(parse(&body), (format, "NOT_FOUND"), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_method_has_the_format_of_the_path() {
    let queen = Queen::with_api_key().await;
    for (path, format) in KNOWN {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let (status, body) = queen.send(request(&queen, method.clone(), path)).await;
            assert_eq!(status, 405, "{method} {path}: {body}");
            let expected = (format, "METHOD_NOT_ALLOWED");
            assert_eq!(parse(&body), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_refused_host_has_the_format_of_the_path() {
    let queen = Queen::with_api_key().await;
    for (path, format) in KNOWN.into_iter().chain(UNKNOWN) {
        for method in [Method::GET, Method::POST] {
            let request = request(&queen, method.clone(), path);
            let request = request.header("host", "evil.example");
            let (status, body) = queen.send(request).await;
            assert_eq!(status, 403, "{method} {path}: {body}");
            let expected = (format, "ORIGIN_FORBIDDEN");
            assert_eq!(parse(&body), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_missing_or_invalid_key_has_the_format_of_the_path() {
    let queen = Queen::with_api_key().await;
    for (path, format) in KNOWN {
        for (key, code) in [
            (None, "MISSING_API_KEY"),
            (Some("sk-wrong"), "INVALID_API_KEY"),
        ] {
            let mut request = queen.http.post(format!("{}{path}", queen.url));
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let (status, body) = queen.send(request.json(&message(false))).await;
            assert_eq!(status, 401, "{path}: {body}");
            assert_eq!(parse(&body), (format, code), "{path}");
        }
    }
}

#[tokio::test]
async fn an_invalid_body_has_the_format_of_the_path() {
    let queen = Queen::with_api_key().await;
    for (path, format) in KNOWN {
        let send = async |body: Vec<u8>| {
            let request = queen.http.post(format!("{}{path}", queen.url));
            let request = request.bearer_auth(API_KEY);
            let request = request.header("content-type", "application/json");
            queen.send(request.body(body)).await
        };
        let (status, body) = send(b"{".to_vec()).await;
        assert_eq!(status, 400, "{path}: {body}");
        assert_eq!(parse(&body), (format, "INVALID_REQUEST"), "{path}");
        let (status, body) = send(vec![b' '; 5 << 20]).await;
        assert_eq!(status, 413, "{path}: {body}");
        assert_eq!(parse(&body), (format, "BODY_TOO_LARGE"), "{path}");
    }
}
