//! Ollama's and Anthropic's APIs over a worker that does what the test says.

use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};
use worker_contract::InferInput;

use crate::{
    fake_worker::{Behaviour, FakeWorker},
    world::{MODEL, Queen, chat, eventually},
};

async fn queen() -> (Queen, std::sync::Arc<FakeWorker>) {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.beat(&queen).await;
    (queen, worker)
}

fn message(stream: bool) -> Value {
    let mut body = chat(stream);
    body["max_tokens"] = json!(9);
    body
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn get(queen: &Queen, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", queen.url);
    let answer = queen.http.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn ollama_answers_in_lines_unless_told_otherwise() {
    let (queen, worker) = queen().await;
    let mut body = chat(true);
    body.as_object_mut().unwrap().remove("stream");
    let answer = queen.post_raw("/api/chat", &body).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    for name in [
        "x-rbee-worker",
        "x-rbee-node",
        "x-rbee-seed",
        "x-rbee-request-id",
    ] {
        assert!(answer.headers().contains_key(name), "{name}");
    }
    let lines = lines(&answer.text().await.unwrap());
    let text: String = lines
        .iter()
        .filter_map(|line| line["message"]["content"].as_str())
        .collect();
    assert_eq!(text, "0.1.2.3.4.");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["done"], &last["eval_count"]),
        (&json!(true), &json!(5))
    );

    let body = json!({"model": MODEL, "prompt": "hi", "stream": false,
        "options": {"num_predict": 7, "temperature": 0}});
    let (status, answer) = queen.post("/api/generate", &body).await;
    assert_eq!((status, &answer["response"]), (200, &json!("0.1.2.3.4.")));
    assert_eq!(worker.seen()[1].max_tokens, Some(7));
}

#[tokio::test]
async fn ollama_reads_json_whatever_it_is_called() {
    let (queen, _worker) = queen().await;
    let body = format!(r#"{{"model": "{MODEL}", "prompt": "hi", "stream": false}}"#);
    let request = queen.http.post(format!("{}/api/generate", queen.url));
    let form = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Whoever made a constraint is told of it by the name of their own field, in the middle of a
/// stream as at its beginning.
#[tokio::test]
async fn a_constraint_is_told_of_by_the_clients_own_field() {
    let (queen, worker) = queen().await;
    let impossible = || {
        Diagnostic::new(Code::InvalidRequest, "`constraint`: no text satisfies it")
            .param("constraint")
    };
    let schema = json!({"type": "object"});
    for (path, name, form, field) in [
        (
            "/v1/chat/completions",
            "response_format",
            json!({"type": "json_object"}),
            "response_format",
        ),
        (
            "/v1/chat/completions",
            "guided_json",
            schema.clone(),
            "guided_json",
        ),
        ("/api/chat", "format", schema.clone(), "format"),
        (
            "/v1/messages",
            "output_config",
            json!({"format": {"type": "json_schema", "schema": schema}}),
            "output_config.format",
        ),
    ] {
        for stream in [false, true] {
            let mut body = message(stream);
            body[name] = form.clone();
            for behaviour in [
                Behaviour::Refuse(impossible()),
                Behaviour::ErrorAt {
                    tokens: 2,
                    error: impossible(),
                },
            ] {
                worker.behave(behaviour);
                let text = queen.post_raw(path, &body).await.text().await.unwrap();
                let told = format!("`{field}`: no text satisfies it");
                assert!(text.contains(&told), "{path}, {name}: {text}");
                assert!(!text.contains("constraint"), "{path}, {name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn ollama_lists_shows_and_counts_models() {
    let (queen, _worker) = queen().await;
    let (_, tags) = get(&queen, "/api/tags").await;
    assert_eq!(tags["models"][0]["name"], MODEL);
    let (_, running) = get(&queen, "/api/ps").await;
    assert_eq!(running["models"][0]["context_length"], 512);
    // Copilot in VS Code wants at least 0.6.4.
    assert_eq!(get(&queen, "/api/version").await.1["version"], "0.13.0");
    let (status, shown) = queen.post("/api/show", &json!({"model": MODEL})).await;
    assert_eq!(
        (status, &shown["capabilities"]),
        (200, &json!(["completion"]))
    );
    let (status, error) = queen.post("/api/show", &json!({"model": "nope"})).await;
    assert_eq!((status, &error["code"]), (404, &json!("MODEL_NOT_FOUND")));
    let alive = queen.http.head(&queen.url).send().await.unwrap();
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn anthropic_whole_and_streamed() {
    let (queen, worker) = queen().await;
    let answer = queen.post_raw("/v1/messages", &message(false)).await;
    assert_eq!(
        answer.headers()["request-id"],
        answer.headers()["x-rbee-request-id"]
    );
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body["content"],
        json!([{"type": "text", "text": "0.1.2.3.4."}])
    );
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(body["usage"]["output_tokens"], 5);
    assert_eq!(worker.seen()[0].max_tokens, Some(9));
    let answer = queen.post_raw("/v1/messages", &message(true)).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let names: Vec<_> = text
        .lines()
        .filter_map(|l| l.strip_prefix("event: "))
        .collect();
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(names[names.len() - 2..], ["message_delta", "message_stop"]);
}

#[tokio::test]
async fn claude_code_is_answered() {
    let (queen, worker) = queen().await;
    let cache = json!({"type": "ephemeral"});
    let body = json!({
        "model": MODEL, "max_tokens": 32000, "stream": true, "temperature": 1,
        "system": [{"type": "text", "text": "You are an agent.", "cache_control": cache}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "list", "cache_control": cache}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
                "is_error": false, "cache_control": cache,
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        ],
        "tools": [{"name": "Bash", "description": "d", "input_schema": {"type": "object"},
            "cache_control": cache, "eager_input_streaming": true}],
        "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "u"}, "service_tier": "auto",
    });
    let answer = queen
        .http
        .post(format!("{}/v1/messages?beta=true", queen.url))
        .header("anthropic-version", "2023-06-01")
        .header(
            "anthropic-beta",
            "claude-code-20250219,interleaved-thinking-2025-05-14",
        )
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("message_stop"));
    let InferInput::Messages(messages) = worker.seen()[0].input.clone() else {
        panic!("no messages")
    };
    let said: Vec<_> = messages.iter().map(|m| m.content.as_str()).collect();
    assert_eq!(said, ["You are an agent.", "list", "", "a\nb"]);
}

#[tokio::test]
async fn errors_are_told_in_the_edges_own_shape() {
    let (queen, worker) = queen().await;
    let (status, error) = queen.post("/api/chat", &json!({"model": 7})).await;
    assert_eq!(status, 400);
    assert!(error["error"].is_string(), "{error}");
    let mut unknown = message(false);
    unknown["model"] = json!("gpt-4");
    let (status, error) = queen.post("/v1/messages", &unknown).await;
    assert_eq!((status, &error["type"]), (404, &json!("error")));
    assert_eq!(error["error"]["type"], "not_found_error");
    assert_eq!(error["error"]["code"], "MODEL_NOT_FOUND");
    // A body that nobody reads, a method and a path that are not there, a foreign page.
    let request = queen.http.post(format!("{}/v1/messages", queen.url));
    let answer = request.header("content-type", "application/json").body("{");
    let error: Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert_eq!(get(&queen, "/v1/messages").await.1["type"], "error");
    assert!(get(&queen, "/api/nothing").await.1["error"].is_string());
    let foreign = queen.http.get(format!("{}/api/tags", queen.url));
    let answer = foreign
        .header("origin", "https://evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    assert!(answer.json::<Value>().await.unwrap()["error"].is_string());

    worker.behave(Behaviour::ErrorAt {
        tokens: 2,
        error: Diagnostic::new(Code::DeadlineExceeded, "too late"),
    });
    let answer = queen.post_raw("/api/chat", &chat(true)).await;
    let last = lines(&answer.text().await.unwrap()).pop().unwrap();
    assert_eq!(last["error"], "too late");
    let text = queen.post_raw("/v1/messages", &message(true)).await;
    let text = text.text().await.unwrap();
    assert!(
        text.trim_end().lines().rev().nth(1) == Some("event: error"),
        "{text}"
    );
    let (status, error) = queen.post("/v1/messages", &message(false)).await;
    assert_eq!(
        (status, &error["error"]["details"]["partial_text"]),
        (408, &json!("0.1."))
    );
    let mut whole = chat(false);
    let (status, error) = queen.post("/api/chat", &whole).await;
    assert_eq!(
        (status, &error["details"]["partial_text"]),
        (408, &json!("0.1."))
    );

    worker.behave(Behaviour::Answer { tokens: 1 });
    whole["stream"] = json!(false);
    assert_eq!(queen.post("/api/chat", &whole).await.0, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let (queen, worker) = queen().await;
    for path in ["/api/chat", "/v1/messages"] {
        for stream in [true, false] {
            worker.behave(Behaviour::Hang { tokens: 2 });
            let mut body = message(stream);
            body["model"] = json!(MODEL);
            let asking = queen.post_raw(path, &body);
            if stream {
                drop(asking.await);
            } else {
                tokio::select! {
                    answer = asking => panic!("{answer:?}"),
                    () = eventually("the worker has it", async || (worker.active() == 1).then_some(())) => {}
                }
            }
            queen.idle().await;
            eventually("the worker is free", async || {
                (worker.active() == 0).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn anthropics_header_carries_the_key() {
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let key_file = home.path().join("api.key");
    std::fs::write(&key_file, "sk-0123456789abcdef\n").unwrap();
    let key_file = key_file.to_str().unwrap();
    let queen = Queen::start(
        std::sync::Arc::clone(&home),
        &["--no-local-hive", "--api-key-file", key_file],
    )
    .await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.beat(&queen).await;
    let send = async |path: &str, key: Option<&str>| {
        let request = queen.http.post(format!("{}{path}", queen.url));
        let mut request = request.json(&message(false));
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let answer = request.send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let (status, error) = send("/v1/messages", None).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (401, &json!("authentication_error"))
    );
    let (status, error) = send("/v1/messages", Some("sk-wrong")).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (401, &json!("INVALID_API_KEY"))
    );
    assert_eq!(
        send("/v1/messages", Some("sk-0123456789abcdef")).await.0,
        200
    );
    let (status, error) = send("/api/chat", None).await;
    assert_eq!((status, &error["code"]), (401, &json!("MISSING_API_KEY")));
}
