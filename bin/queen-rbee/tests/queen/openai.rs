use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};

use crate::{
    fake_worker::{Behaviour, FakeWorker},
    world::{MODEL, Queen, chat},
};

async fn queen() -> (Queen, std::sync::Arc<FakeWorker>) {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.beat(&queen).await;
    (queen, worker)
}

/// The JSON of each event of a stream; the end mark is null.
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
async fn a_whole_chat_answer_and_its_headers() {
    let (queen, _worker) = queen().await;
    let answer = queen.post_raw("/v1/chat/completions", &chat(false)).await;
    assert_eq!(answer.status(), 200);
    for (name, value) in [
        ("x-rbee-worker", "w-0"),
        ("x-rbee-node", "local"),
        ("x-rbee-seed", "77"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    let id = answer.headers()["x-rbee-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(answer.headers().contains_key("x-rbee-queue-ms"));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["id"], format!("chatcmpl-{id}"));
    assert_eq!(body["choices"][0]["message"]["content"], "0.1.2.3.4.");
    assert_eq!(body["usage"]["total_tokens"], 8);
}

#[tokio::test]
async fn a_stream_with_usage() {
    let (queen, _worker) = queen().await;
    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = queen.post_raw("/v1/chat/completions", &body).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events = events(&answer.text().await.unwrap());
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
async fn text_completion_whole_and_streamed() {
    let (queen, worker) = queen().await;
    let (status, body) = queen
        .post(
            "/v1/completions",
            &json!({"model": MODEL, "prompt": "a", "max_tokens": 9}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["text"], "0.1.2.3.4.");
    assert_eq!(worker.seen()[0].max_tokens, Some(9));
    let answer = queen
        .post_raw(
            "/v1/completions",
            &json!({"model": MODEL, "prompt": "a", "stream": true}),
        )
        .await;
    let events = events(&answer.text().await.unwrap());
    assert_eq!(events[0]["choices"][0]["text"], "0.");
    assert_eq!(events.last(), Some(&Value::Null));
}

#[tokio::test]
async fn models_are_listed_and_unknown_ones_are_not_found() {
    let (queen, _worker) = queen().await;
    let get = async |path: &str| {
        let answer = queen
            .http
            .get(format!("{}{path}", queen.url))
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let (_, list) = get("/v1/models").await;
    assert_eq!(list["data"][0]["id"], MODEL);
    assert_eq!(
        get(&format!("/v1/models/{MODEL}")).await.1["object"],
        "model"
    );
    assert_eq!(get("/v1/models/nope").await.0, 404);
    let mut body = chat(false);
    body["model"] = json!("gpt-4");
    let (status, error) = queen.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 404);
    assert_eq!(error["error"]["code"], "MODEL_NOT_FOUND");
    assert_eq!(error["error"]["param"], "model");
    assert!(
        error["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("/v1/models")
    );
}

#[tokio::test]
async fn bad_requests_have_their_status_and_the_queen_goes_on() {
    let (queen, _worker) = queen().await;
    let url = format!("{}/v1/chat/completions", queen.url);
    let send = async |kind: &str, body: Vec<u8>| {
        let request = queen
            .http
            .post(&url)
            .header("content-type", kind)
            .body(body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let error: Value = answer.json().await.unwrap();
        (status, error["error"]["code"].as_str().unwrap().to_owned())
    };
    let json_type = "application/json";
    for (kind, body, status, code) in [
        (json_type, b"{\"model\": ".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"\xff\xfe".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"[]".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, b"{}".to_vec(), 400, "INVALID_REQUEST"),
        (json_type, vec![b' '; 10 << 20], 413, "BODY_TOO_LARGE"),
        ("text/plain", b"{}".to_vec(), 415, "UNSUPPORTED_MEDIA_TYPE"),
    ] {
        assert_eq!(send(kind, body).await, (status, code.to_owned()));
    }
    let mut tools = chat(false);
    tools["functions"] = json!([{"name": "f"}]);
    let (status, body) = queen.post("/v1/chat/completions", &tools).await;
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
async fn an_error_after_the_start_comes_in_the_stream_or_as_the_answer() {
    let (queen, worker) = queen().await;
    worker.behave(Behaviour::ErrorAt {
        tokens: 2,
        error: Diagnostic::new(Code::DeadlineExceeded, "too late"),
    });
    let answer = queen.post_raw("/v1/chat/completions", &chat(true)).await;
    assert_eq!(answer.status(), 200);
    let events = events(&answer.text().await.unwrap());
    assert_eq!(events.last().unwrap()["error"]["code"], "DEADLINE_EXCEEDED");
    let (status, body) = queen.post("/v1/chat/completions", &chat(false)).await;
    assert_eq!(status, 408);
    assert_eq!(body["error"]["details"]["partial_text"], "0.1.");
}

#[tokio::test]
async fn with_a_key_inference_needs_it() {
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let key_file = home.path().join("api.key");
    std::fs::write(&key_file, "sk-0123456789abcdef\n").unwrap();
    let queen = Queen::start(
        home,
        &[
            "--no-local-hive",
            "--api-key-file",
            key_file.to_str().unwrap(),
        ],
    )
    .await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.beat(&queen).await;
    let url = format!("{}/v1/chat/completions", queen.url);
    let send = async |key: Option<&str>| {
        let mut request = queen.http.post(&url).json(&chat(false));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            answer.json::<Value>().await.unwrap()["error"]["code"].clone(),
        )
    };
    assert_eq!(send(None).await, (401, json!("MISSING_API_KEY")));
    assert_eq!(
        send(Some("sk-wrong")).await,
        (401, json!("INVALID_API_KEY"))
    );
    assert_eq!(send(Some("sk-0123456789abcdef")).await, (200, Value::Null));
}

#[tokio::test]
async fn web_pages_stay_out_unless_their_origin_is_let_in() {
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let page = "https://app.example";
    let app = "app://notes.example";
    let queen = Queen::start(
        home,
        &[
            "--no-local-hive",
            "--cors-origin",
            page,
            "--cors-origin",
            app,
        ],
    )
    .await;
    let ask = async |origin: &str, method: reqwest::Method| {
        let url = format!("{}/v1/models", queen.url);
        let request = queen.http.request(method, url).header("origin", origin);
        request.send().await.unwrap()
    };
    let get = reqwest::Method::GET;
    for foreign in ["https://evil.example", "http://notes.example", "null"] {
        assert_eq!(ask(foreign, get.clone()).await.status(), 403, "{foreign}");
    }
    for origin in [page, app] {
        let answer = ask(origin, get.clone()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["access-control-allow-origin"], origin);
        let exposed = answer.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap();
        assert!(exposed.contains("retry-after") && exposed.contains("request-id"));
        let url = format!("{}/v1/models", queen.url);
        let preflight = queen.http.request(reqwest::Method::OPTIONS, url);
        let preflight = preflight
            .header("origin", origin)
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
    let rebound = queen.http.get(format!("{}/v1/models", queen.url));
    let answer = rebound.header("host", "notes.example").send().await;
    assert_eq!(answer.unwrap().status(), 403);
}
