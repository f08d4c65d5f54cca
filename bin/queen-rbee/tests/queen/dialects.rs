//! The APIs of Ollama and Anthropic.

use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};
use worker_contract::InferInput;

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{API_KEY, MODEL, Queen, chat, message},
};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the names of the events of a stream.
fn event_names(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect()
}

#[tokio::test]
async fn ollama_streams_lines_unless_the_request_says_otherwise() {
    let (queen, worker) = Queen::with_worker(2).await;
    let mut body = chat(true);
    body.as_object_mut().unwrap().remove("stream");
    let response = queen.post_raw("/api/chat", &body).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    for name in [
        "x-rbee-worker",
        "x-rbee-node",
        "x-rbee-seed",
        "x-rbee-request-id",
    ] {
        assert!(response.headers().contains_key(name), "{name}");
    }
    let lines = lines(&response.text().await.unwrap());
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
    let (status, response) = queen.post("/api/generate", &body).await;
    assert_eq!((status, &response["response"]), (200, &json!("0.1.2.3.4.")));
    assert_eq!(worker.requests()[1].max_tokens, Some(7));
}

#[tokio::test]
async fn ollama_accepts_json_of_any_content_type() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let body = format!(r#"{{"model": "{MODEL}", "prompt": "hi", "stream": false}}"#);
    let request = queen.http.post(format!("{}/api/generate", queen.url));
    let form = request.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(queen.send(form.body(body)).await.0, 200);
}

/// Returns the messages of the errors in a response, whatever its dialect.
fn error_messages(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|json| {
            let error = &json["error"];
            let message = error.as_str().or_else(|| error["message"].as_str());
            message.map(str::to_owned)
        })
        .collect()
}

#[tokio::test]
async fn errors_about_a_constraint_name_the_field_of_the_clients_api() {
    let (queen, worker) = Queen::with_worker(2).await;
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
            for behavior in [
                Behavior::Refuse(impossible()),
                Behavior::ErrorAt {
                    tokens: 2,
                    error: impossible(),
                },
            ] {
                worker.behave(behavior);
                let text = queen.post_raw(path, &body).await.text().await.unwrap();
                let expected = [format!("`{field}`: no text satisfies it")];
                assert_eq!(error_messages(&text), expected, "{path}, {name}: {text}");
                assert!(!text.contains("constraint"), "{path}, {name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn ollama_lists_and_shows_models() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let (_, tags) = queen.get("/api/tags").await;
    assert_eq!(tags["models"][0]["name"], MODEL);
    let (_, running) = queen.get("/api/ps").await;
    assert_eq!(running["models"][0]["context_length"], 512);
    // Copilot in VS Code requires at least 0.6.4.
    assert_eq!(queen.get("/api/version").await.1["version"], "0.13.0");
    let (status, shown) = queen.post("/api/show", &json!({"model": MODEL})).await;
    assert_eq!(
        (status, &shown["capabilities"]),
        (200, &json!(["completion"]))
    );
    let (status, error) = queen.post("/api/show", &json!({"model": "nope"})).await;
    assert_eq!((status, &error["code"]), (404, &json!("MODEL_NOT_FOUND")));
    let root = queen.http.head(&queen.url).send().await.unwrap();
    assert_eq!(root.status(), 200);
}

#[tokio::test]
async fn anthropic_responds_with_a_message_or_with_events() {
    let (queen, worker) = Queen::with_worker(2).await;
    let response = queen.post_raw("/v1/messages", &message(false)).await;
    assert_eq!(
        response.headers()["request-id"],
        response.headers()["x-rbee-request-id"]
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        body["content"],
        json!([{"type": "text", "text": "0.1.2.3.4."}])
    );
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(body["usage"]["output_tokens"], 5);
    assert_eq!(worker.requests()[0].max_tokens, Some(9));
    let response = queen.post_raw("/v1/messages", &message(true)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let names = event_names(&text);
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(names[names.len() - 2..], ["message_delta", "message_stop"]);
}

#[tokio::test]
async fn a_request_of_claude_code_is_accepted() {
    let (queen, worker) = Queen::with_worker(2).await;
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
    let response = queen
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
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert_eq!(event_names(&text).last(), Some(&"message_stop"));
    let InferInput::Messages(messages) = worker.requests()[0].input.clone() else {
        panic!("no messages")
    };
    let contents: Vec<_> = messages.iter().map(|m| m.content.as_str()).collect();
    assert_eq!(contents, ["You are an agent.", "list", "", "a\nb"]);
}

#[tokio::test]
async fn invalid_requests_have_errors_of_their_api() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let (status, error) = queen.post("/api/chat", &json!({"model": 7})).await;
    assert_eq!(status, 400);
    assert!(error["error"].is_string(), "{error}");
    let mut unknown = message(false);
    unknown["model"] = json!("gpt-4");
    let (status, error) = queen.post("/v1/messages", &unknown).await;
    assert_eq!((status, &error["type"]), (404, &json!("error")));
    assert_eq!(error["error"]["type"], "not_found_error");
    assert_eq!(error["error"]["code"], "MODEL_NOT_FOUND");
    let request = queen.http.post(format!("{}/v1/messages", queen.url));
    let request = request.header("content-type", "application/json");
    let (_, error) = queen.send(request.body("{")).await;
    assert_eq!(error["error"]["type"], "invalid_request_error");
    let foreign = queen.http.get(format!("{}/api/tags", queen.url));
    let foreign = foreign.header("origin", "https://evil.example");
    let (status, error) = queen.send(foreign).await;
    assert_eq!((status, &error["code"]), (403, &json!("ORIGIN_FORBIDDEN")));
    assert!(error["error"].is_string(), "{error}");
}

#[tokio::test]
async fn an_error_after_the_first_token_ends_the_stream_or_is_the_response() {
    let (queen, worker) = Queen::with_worker(2).await;
    worker.behave(Behavior::ErrorAt {
        tokens: 2,
        error: Diagnostic::new(Code::DeadlineExceeded, "too late"),
    });
    let response = queen.post_raw("/api/chat", &chat(true)).await;
    let last = lines(&response.text().await.unwrap()).pop().unwrap();
    let error = last["error"].as_str().unwrap();
    assert!(error.contains("too late"), "{error}");
    let response = queen.post_raw("/v1/messages", &message(true)).await;
    let text = response.text().await.unwrap();
    assert_eq!(event_names(&text).last(), Some(&"error"));
    let [error] = &error_messages(&text)[..] else {
        panic!("{text}")
    };
    assert!(error.contains("too late"), "{error}");
    let (status, error) = queen.post("/v1/messages", &message(false)).await;
    assert_eq!(
        (status, &error["error"]["details"]["partial_text"]),
        (408, &json!("0.1."))
    );
    let (status, error) = queen.post("/api/chat", &chat(false)).await;
    assert_eq!(
        (status, &error["details"]["partial_text"]),
        (408, &json!("0.1."))
    );
    worker.behave(Behavior::Complete { tokens: 1 });
    assert_eq!(queen.post("/api/chat", &chat(false)).await.0, 200);
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_request() {
    let (queen, worker) = Queen::with_worker(2).await;
    worker.behave(Behavior::Hang { tokens: 2 });
    for path in ["/api/chat", "/v1/messages"] {
        for stream in [true, false] {
            let body = message(stream);
            let response = queen.post_raw(path, &body);
            if stream {
                drop(response.await);
            } else {
                tokio::select! {
                    response = response => panic!("{response:?}"),
                    () = worker.until_active(1) => {}
                }
            }
            queen.idle().await;
            worker.until_active(0).await;
        }
    }
    assert_eq!(queen.counts().await.cancelled, 4);
}

#[tokio::test]
async fn the_api_key_may_be_in_the_header_of_anthropics_clients() {
    let queen = Queen::with_api_key().await;
    let worker = FakeWorker::start("w-0", 1, 2).await;
    worker.send_heartbeat(&queen).await;
    let send = async |path: &str, key: &str| {
        let request = queen.http.post(format!("{}{path}", queen.url));
        let request = request.header("x-api-key", key);
        queen.send(request.json(&message(false))).await
    };
    for path in ["/v1/messages", "/api/chat", "/v1/chat/completions"] {
        assert_eq!(send(path, API_KEY).await.0, 200, "{path}");
    }
    for (key, code) in [("sk-wrong", "INVALID_API_KEY"), ("", "MISSING_API_KEY")] {
        let (status, body) = send("/v1/messages", key).await;
        let error = &body["error"];
        assert_eq!((status, &error["code"]), (401, &json!(code)));
        assert_eq!(error["type"], "authentication_error");
        let (status, error) = send("/api/chat", key).await;
        assert_eq!((status, &error["code"]), (401, &json!(code)));
    }
}

#[tokio::test]
async fn clients_of_anthropic_get_models_in_their_format() {
    let (queen, _worker) = Queen::with_worker(1).await;
    let get = |path: &str| {
        let request = queen.http.get(format!("{}{path}", queen.url));
        queen.send(request.header("anthropic-version", "2023-06-01"))
    };
    let (status, list) = get("/v1/models?limit=20").await;
    assert_eq!(status, 200, "{list}");
    let model = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["id"] == MODEL)
        .unwrap();
    assert_eq!(
        (&model["type"], &model["display_name"]),
        (&json!("model"), &json!(MODEL))
    );
    let created: jiff::Timestamp = model["created_at"].as_str().unwrap().parse().unwrap();
    assert!(created <= jiff::Timestamp::now());
    assert_eq!(list["has_more"], false);
    assert_eq!(list["first_id"], list["data"][0]["id"]);
    let last = list["data"].as_array().unwrap().last().unwrap();
    assert_eq!(list["last_id"], last["id"]);
    let (status, one) = get(&format!("/v1/models/{MODEL}")).await;
    assert_eq!((status, &one), (200, model));
    let (status, error) = get("/v1/models/none").await;
    assert_eq!((status, &error["type"]), (404, &json!("error")));
    assert_eq!(error["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn every_line_of_ollamas_stream_has_its_own_time() {
    let (queen, _worker) = Queen::with_worker(1).await;
    let before = jiff::Timestamp::now();
    let response = queen.post_raw("/api/chat", &chat(true)).await;
    let text = response.text().await.unwrap();
    let times: Vec<jiff::Timestamp> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["created_at"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(times[0] >= before);
    assert!(
        times.is_sorted() && times.first() < times.last(),
        "{times:?}"
    );
}

#[tokio::test]
async fn a_limit_beyond_the_context_is_noted_by_the_clients_name() {
    let (queen, _worker) = Queen::with_worker(1).await;
    for (path, field, body) in [
        (
            "/v1/messages",
            "max_tokens",
            json!({"max_tokens": 9_000_000}),
        ),
        (
            "/api/chat",
            "options.num_predict",
            json!({"options": {"num_predict": 9_000_000}}),
        ),
    ] {
        let mut sent = chat(false);
        for (name, value) in body.as_object().unwrap() {
            sent[name] = value.clone();
        }
        let response = queen.post_raw(path, &sent).await;
        let notes = response.headers()["x-rbee-notes"].to_str().unwrap();
        let note = format!("`{field}` is 9000000, but the context leaves ");
        assert!(notes.contains(&note), "{notes}");
    }
}

#[tokio::test]
async fn a_path_or_a_url_is_told_how_a_file_is_named() {
    let queen = Queen::without_hive().await;
    for (model, hint) in [
        ("/models/a.gguf", "`file:/path/model.gguf`"),
        ("./a.gguf", "`file:/path/model.gguf`"),
        ("A.GGUF", "`file:/path/model.gguf`"),
        ("https://models.example/a.gguf", "a URL is no model"),
        ("a", "`rbee-keeper model list`"),
    ] {
        let mut body = chat(false);
        body["model"] = json!(model);
        let (status, error) = queen.post("/v1/chat/completions", &body).await;
        assert_eq!(status, 404, "{error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(hint), "{model}: {message}");
    }
}
