//! OpenAI's API.

use std::sync::Arc;

use diagnostics::{Code, Diagnostic};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{API_KEY, MODEL, Queen, chat, message},
};

/// Returns the JSON of each event of a stream; null for the end mark.
fn events(text: &str) -> Vec<Value> {
    text.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| match data {
            "[DONE]" => Value::Null,
            json => serde_json::from_str(json).unwrap(),
        })
        .collect()
}

#[tokio::test]
async fn a_chat_completion_and_its_headers() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let response = queen.post_raw("/v1/chat/completions", &chat(false)).await;
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("x-rbee-worker", "w-0"),
        ("x-rbee-node", "local"),
        ("x-rbee-seed", "77"),
        ("x-rbee-sampling", "temperature=0.5"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    let id = response.headers()["x-rbee-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(response.headers().contains_key("x-rbee-queue-ms"));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["id"], format!("chatcmpl-{id}"));
    assert_eq!(body["choices"][0]["message"]["content"], "0.1.2.3.4.");
    assert_eq!(body["usage"]["total_tokens"], 8);
}

#[tokio::test]
async fn a_streamed_chat_completion_with_usage() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = queen.post_raw("/v1/chat/completions", &body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let events = events(&response.text().await.unwrap());
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "0.1.2.3.4.");
    let [.., usage, Value::Null] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(usage["usage"]["completion_tokens"], 5);
    assert_eq!(usage["choices"], json!([]));
}

#[tokio::test]
async fn a_text_completion_as_a_document_and_as_a_stream() {
    let (queen, worker) = Queen::with_worker(2).await;
    let (status, body) = queen
        .post(
            "/v1/completions",
            &json!({"model": MODEL, "prompt": "a", "max_tokens": 9}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["text"], "0.1.2.3.4.");
    assert_eq!(worker.requests()[0].max_tokens, Some(9));
    let response = queen
        .post_raw(
            "/v1/completions",
            &json!({"model": MODEL, "prompt": "a", "stream": true}),
        )
        .await;
    let events = events(&response.text().await.unwrap());
    assert_eq!(events[0]["choices"][0]["text"], "0.");
    assert_eq!(events.last(), Some(&Value::Null));
}

#[tokio::test]
async fn models_are_listed_and_unknown_ones_are_not_found() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let (_, list) = queen.get("/v1/models").await;
    assert_eq!(list["data"][0]["id"], MODEL);
    let (_, model) = queen.get(&format!("/v1/models/{MODEL}")).await;
    assert_eq!(model["object"], "model");
    assert_eq!(queen.get("/v1/models/nope").await.0, 404);
    let mut body = chat(false);
    body["model"] = json!("gpt-4");
    let (status, error) = queen.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 404);
    let error = &error["error"];
    assert_eq!(error["code"], "model_not_found");
    assert_eq!(error["details"]["code"], "MODEL_NOT_FOUND");
    assert_eq!(error["param"], "model");
    assert_eq!(
        error["hint"],
        "`rbee-keeper model list` and `GET /v1/models` list the models, for example `builtin:haiku`"
    );
}

#[tokio::test]
async fn invalid_requests_have_their_status_and_the_queen_keeps_serving() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let url = format!("{}/v1/chat/completions", queen.url);
    let send = async |content_type: &str, body: Vec<u8>| {
        let request = queen.http.post(&url).header("content-type", content_type);
        let (status, error) = queen.send(request.body(body)).await;
        let code = &error["error"]["details"]["code"];
        (status, code.as_str().unwrap().to_owned())
    };
    let json_type = "application/json";
    for (content_type, body, status, code) in [
        (json_type, b"{\"model\": ".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"\xff\xfe".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"[]".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"{}".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, vec![b' '; 10 << 20], 413, "BODY_TOO_LARGE"),
        ("text/plain", b"{}".to_vec(), 415, "UNSUPPORTED_MEDIA_TYPE"),
    ] {
        assert_eq!(send(content_type, body).await, (status, code.to_owned()));
    }
    for (body, hint) in [
        (r#"{"model": "\ud83d"}"#, "cut strings between characters"),
        (r#"{"model": "\ud83dx"}"#, "cut strings between characters"),
    ] {
        let request = queen.http.post(&url).header("content-type", json_type);
        let (status, error) = queen.send(request.body(body)).await;
        assert_eq!(status, 400);
        let found = error["error"]["hint"].as_str().unwrap();
        assert!(found.starts_with(hint), "{error}");
    }
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        let request = queen.http.post(format!("{}{path}", queen.url));
        let request = request
            .header("content-encoding", "gzip")
            .json(&message(false));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 415, "{path}");
        assert_eq!(response.headers()["accept-encoding"], "identity");
    }
    let mut functions = chat(false);
    functions["functions"] = json!([{"name": "f"}]);
    let (status, body) = queen.post("/v1/chat/completions", &functions).await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("functions"))
    );
    assert_eq!(
        queen.post("/v1/chat/completions", &chat(false)).await.0,
        200
    );
}

#[tokio::test]
async fn an_error_after_the_first_token_ends_the_stream_or_is_the_response() {
    let (queen, worker) = Queen::with_worker(2).await;
    worker.behave(Behavior::ErrorAt {
        tokens: 2,
        error: Diagnostic::new(Code::DeadlineExceeded, "too late"),
    });
    let response = queen.post_raw("/v1/chat/completions", &chat(true)).await;
    assert_eq!(response.status(), 200);
    let events = events(&response.text().await.unwrap());
    assert_eq!(events.last().unwrap()["error"]["code"], "DEADLINE_EXCEEDED");
    let (status, body) = queen.post("/v1/chat/completions", &chat(false)).await;
    assert_eq!(status, 408);
    assert_eq!(body["error"]["details"]["partial_text"], "0.1.");
}

#[tokio::test]
async fn inference_requires_the_api_key_or_the_control_token() {
    let queen = Queen::with_api_key().await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.send_heartbeat(&queen).await;
    let url = format!("{}/v1/chat/completions", queen.url);
    let send = async |key: Option<&str>| {
        let mut request = queen.http.post(&url).json(&chat(false));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let (status, body) = queen.send(request).await;
        (status, body["error"]["code"].clone())
    };
    assert_eq!(send(None).await, (401, json!("invalid_api_key")));
    assert_eq!(
        send(Some("sk-wrong")).await,
        (401, json!("invalid_api_key"))
    );
    assert_eq!(send(Some(API_KEY)).await, (200, Value::Null));
    let id = "unknown".parse().unwrap();
    queen.control.cancel(&id).await.unwrap();
    assert!(queen.node.cancel(&id).await.is_err());
}

#[tokio::test]
async fn web_pages_of_other_origins_are_refused_unless_configured() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let page = "https://app.example";
    let app = "app://notes.example";
    let origins = [
        "--no-local-hive",
        "--cors-origin",
        page,
        "--cors-origin",
        app,
    ];
    let queen = Queen::start(home, &origins).await;
    let url = format!("{}/v1/models", queen.url);
    let request = |method: Method, origin: &str| {
        let request = queen.http.request(method, &url);
        request.header("origin", origin)
    };
    let own = request(Method::GET, &queen.url).send().await.unwrap();
    assert_eq!(own.status(), 200);
    for origin in [
        "https://evil.example",
        "http://notes.example",
        "null",
        "file://",
        // Another program of this machine.
        "http://localhost:3000",
        "http://127.0.0.1",
    ] {
        let response = request(Method::GET, origin).send().await.unwrap();
        assert_eq!(response.status(), 403, "{origin}");
        // Browsers send it without asking first.
        let simple = queen.http.post(format!("{}/api/generate", queen.url));
        let unload = simple.body(r#"{"model": "mock", "keep_alive": 0}"#);
        let (status, error) = queen.send(unload.header("origin", origin)).await;
        assert_eq!((status, &error["code"]), (403, &json!("ORIGIN_FORBIDDEN")));
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("--cors-origin"), "{hint}");
    }
    for origin in [page, app] {
        let response = request(Method::GET, origin).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        assert_eq!(
            response.headers()["access-control-expose-headers"],
            "x-rbee-worker, x-rbee-node, x-rbee-request-id, x-rbee-seed, x-rbee-queue-ms, \
             x-rbee-sampling, x-rbee-notes, request-id, retry-after, x-should-retry"
        );
        let preflight = request(Method::OPTIONS, origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-stainless-os,x-new")
            .send()
            .await
            .unwrap();
        assert_eq!(preflight.status(), 204);
        assert_eq!(
            preflight.headers()["access-control-allow-headers"],
            "x-stainless-os,x-new"
        );
    }
    // As after DNS rebinding to the host of an app's origin.
    let rebound = queen.http.get(&url).header("host", "notes.example");
    assert_eq!(rebound.send().await.unwrap().status(), 403);
}
