//! Clients with a wrong URL, a wrong method or an origin that is not admitted.

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Queen, chat};

/// Returns the hint of an error in any format.
fn hint(body: &Value) -> &str {
    let error = body.get("error").filter(|error| error.is_object());
    error.unwrap_or(body)["hint"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_wrong_base_url_is_answered_with_the_right_one() {
    let queen = Queen::with_api_key().await;
    for (path, base) in [
        ("/v1/chat/completions/", "/v1"),
        ("/v1/v1/chat/completions", "/v1"),
        ("/chat/completions", "/v1"),
        ("/api/v1/chat/completions", "/v1"),
        ("/openai/v1/embeddings", "/v1"),
        ("/responses", "/v1"),
        ("/v1/v1/models", "/v1"),
        ("/v1/api/chat", ""),
        ("/api/api/generate", ""),
        ("/v1/v1/messages", ""),
        ("/messages", ""),
    ] {
        let (status, body) = queen.post(path, &chat(false)).await;
        assert_eq!(status, 404, "{path}: {body}");
        if base == "/v1" {
            // OpenAI's clients show this only.
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains("as the base URL"), "{message}");
        }
        let expected = format!("use {}{base} as the base URL;", queen.url);
        assert!(hint(&body).starts_with(&expected), "{path}: {body}");
        let of_ollama = path.ends_with("/api/chat") || path.ends_with("/api/generate");
        assert_eq!(body["error"].is_string(), of_ollama, "{path}: {body}");
        let of_anthropic = path.ends_with("/messages");
        assert_eq!(body["type"] == "error", of_anthropic, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_one() {
    let queen = Queen::without_hive().await;
    for (path, method, allowed) in [
        ("/v1/chat/completions", Method::GET, "POST"),
        ("/api/chat", Method::GET, "POST"),
        ("/v1/messages", Method::GET, "POST"),
        ("/v1/models", Method::POST, "GET"),
    ] {
        let request = queen
            .http
            .request(method.clone(), format!("{}{path}", queen.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains(allowed), "{path}: {allow}");
        let body = response.text().await.unwrap();
        let named = format!("{path} does not support {method}, only {allowed}");
        assert!(body.contains(&named), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_refused_page_is_told_the_flag_that_admits_it() {
    let queen = Queen::without_hive().await;
    let preflight = |path: &str, origin: &str| {
        queen
            .http
            .request(Method::OPTIONS, format!("{}{path}", queen.url))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
    };
    for path in ["/v1/chat/completions", "/api/chat", "/v1/messages"] {
        // The first page is served by this machine.
        for origin in ["http://localhost:3000", "https://app.example"] {
            let (status, body) = queen.send(preflight(path, origin)).await;
            assert_eq!(status, 403, "{path}: {body}");
            let flag = format!("`--cors-origin {origin}`");
            assert!(hint(&body).contains(&flag), "{path}: {body}");
        }
    }
    let without_origin = queen
        .http
        .request(Method::OPTIONS, format!("{}/api/chat", queen.url));
    assert_eq!(queen.send(without_origin).await.0, 405);
}

#[tokio::test]
async fn a_refused_host_is_told_how_to_admit_others() {
    let queen = Queen::without_hive().await;
    let request = queen.http.get(format!("{}/v1/models", queen.url));
    let (status, body) = queen.send(request.header("host", "box.lan")).await;
    assert_eq!(status, 403);
    assert!(hint(&body).contains("--api-key-file"), "{body}");
}
