//! The worker's HTTP interface, in this process and over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod support;

use diagnostics::Code;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use rest_client::CallError;
use serde_json::{Value, json};
use support::{HANG, config, runtime, serve, serving};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use worker_contract::{InferInput, InferRequest, StreamEvent, WorkerStatus};
use worker_service::Worker;

fn request(id: &str) -> InferRequest {
    InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hello".into()))
}

fn code(response: &Value) -> &str {
    response["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn stream_has_the_events_of_the_contract_and_the_text_of_the_document() {
    let worker = serving("length=40").await;
    let stream = worker
        .client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    let events: Vec<StreamEvent> = stream.map(Result::unwrap).collect().await;
    let names: Vec<&str> = events.iter().map(StreamEvent::name).collect();
    assert_eq!(
        (names[0], &names[names.len() - 2..]),
        ("started", &["metrics", "end"][..])
    );
    assert!(
        names[1..names.len() - 2]
            .iter()
            .all(|name| *name == "token")
    );
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            StreamEvent::Token(token) => Some(token.t.as_str()),
            _ => None,
        })
        .collect();

    let unstreamed = InferRequest {
        stream: false,
        ..request("a")
    };
    let document = worker.client.infer(&unstreamed).await.unwrap();
    assert_eq!((document.text.len(), document.tokens.len()), (40, 41));
    assert_eq!(document.text, text);
    assert_eq!(document.usage.completion_tokens, 41);
}

#[tokio::test]
async fn invalid_requests_get_error_responses() {
    let worker = serving("context=128").await;
    let good = json!({"request_id": "a", "input": {"prompt": "x"}});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string().into_bytes()
    };
    let mut no_input = good.clone();
    no_input.as_object_mut().unwrap().remove("input");
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"{\"request_id\": ".to_vec(), 400, "INVALID_REQUEST"),
        (b"[]".to_vec(), 400, "INVALID_REQUEST"),
        (b"\xff\xfe".to_vec(), 400, "INVALID_REQUEST"),
        (no_input.to_string().into_bytes(), 400, "INVALID_REQUEST"),
        (with("request_id", json!("a b")), 400, "INVALID_REQUEST"),
        (with("input", json!({"prompt": 5})), 400, "INVALID_REQUEST"),
        (with("input", json!({"prompt": ""})), 400, "INVALID_REQUEST"),
        (with("max_tokens", json!(0)), 400, "INVALID_REQUEST"),
        (with("max_tokens", json!(-1)), 400, "INVALID_REQUEST"),
        (with("max_tokens", json!("many")), 400, "INVALID_REQUEST"),
        (
            with("max_tokens", json!(128)),
            400,
            "CONTEXT_LENGTH_EXCEEDED",
        ),
        (
            with("sampling", json!({"temperature": -1})),
            400,
            "INVALID_REQUEST",
        ),
        (with("stop", json!([""])), 400, "INVALID_REQUEST"),
        (with("logprobs", json!(21)), 400, "INVALID_REQUEST"),
        (
            with("deadline", json!("2020-01-01T00:00:00Z")),
            408,
            "DEADLINE_EXCEEDED",
        ),
        (with("deadline", json!("soon")), 400, "INVALID_REQUEST"),
        (vec![b' '; 10 << 20], 413, "BODY_TOO_LARGE"),
    ];
    for (body, status, expected) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let (found, response) = worker.post("/v1/infer", body).await;
        assert_eq!(
            (found, code(&response)),
            (status, expected),
            "{shown}: {response}"
        );
    }
    let plain = worker
        .call(Method::POST, "/v1/infer")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 415);
    assert_eq!(
        worker
            .call(Method::GET, "/v1/infer")
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        worker
            .call(Method::GET, "/v1/none")
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    let invalid_id = worker
        .call(Method::DELETE, "/v1/infer/a%20b")
        .send()
        .await
        .unwrap();
    assert_eq!(invalid_id.status(), 400);
    // The worker still serves.
    let (status, _) = worker.post("/v1/infer", with("stream", json!(false))).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn every_documented_route_exists_and_only_health_is_public() {
    let worker = serving("").await;
    let document = serde_json::to_value(worker_service::openapi()).unwrap();
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes += 1;
            let method: Method = method.to_uppercase().parse().unwrap();
            let url = format!("{}{}", worker.base, path.replace("{request_id}", "a"));
            let no_token = worker.http.request(method.clone(), &url).send();
            let wrong_token = worker
                .http
                .request(method.clone(), &url)
                .bearer_auth("wrong");
            let expected = if path == "/health" { 200 } else { 401 };
            assert_eq!(
                no_token.await.unwrap().status(),
                expected,
                "{method} {path}"
            );
            assert_eq!(
                wrong_token.send().await.unwrap().status(),
                expected,
                "{method} {path}"
            );
        }
    }
    assert_eq!(routes, 11);
    assert!(!worker.worker.shutdown().is_cancelled());
}

#[tokio::test]
async fn loading_worker_listens_and_refuses_requests() {
    let worker = serve(Worker::loading(config())).await;
    worker.worker.set_load_progress(3, 10);
    assert_eq!(worker.client.health().await.unwrap().generation.0, 3);
    let ready = worker.call(Method::GET, "/ready").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: Value = serde_json::from_str(&ready.text().await.unwrap()).unwrap();
    assert_eq!(
        ready,
        json!({
            "ready": false, "status": "starting", "loading": {"done": 3, "total": 10}
        })
    );
    let Err(CallError::Response(503, error)) = worker.client.infer(&request("a")).await else {
        panic!("the request was accepted");
    };
    assert_eq!(error.code, Code::NotReady);
    assert_eq!(worker.client.info().await.unwrap().context_length, 0);

    worker
        .worker
        .set_loaded(std::sync::Arc::new(runtime("slots=2,context=64")));
    assert_eq!(
        worker
            .call(Method::GET, "/ready")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let info = worker.client.info().await.unwrap();
    assert_eq!(
        (info.status, info.context_length, info.slots_free),
        (WorkerStatus::Ready, 64, 2)
    );
    assert_eq!(info.pid, std::process::id());
    assert!(info.memory_bytes > 0);
}

#[tokio::test]
async fn requests_beyond_the_slots_are_refused() {
    let worker = serving("slots=1,tokens_per_second=50,length=4000").await;
    let held = worker
        .client
        .infer_stream(&request("held"), HeaderMap::new())
        .await
        .unwrap();
    let mut held = Box::pin(held);
    held.next().await.unwrap().unwrap();
    assert_eq!(
        worker.client.info().await.unwrap().status,
        WorkerStatus::Busy
    );
    let unstreamed = InferRequest {
        stream: false,
        ..request("b")
    };
    let Err(CallError::Response(503, error)) = worker.client.infer(&unstreamed).await else {
        panic!("the request was accepted");
    };
    assert_eq!(error.code, Code::AllSlotsBusy);
    let same = worker
        .post("/v1/infer", serde_json::to_vec(&request("held")).unwrap())
        .await;
    assert_eq!(same.0, 503, "busy slots are checked before the id");
    // Closing the stream frees the slot for the next request.
    drop(held);
    worker.idle().await;
    let short = InferRequest {
        max_tokens: Some(2),
        ..unstreamed
    };
    worker.client.infer(&short).await.unwrap();
}

#[tokio::test]
async fn cancel_is_idempotent_and_ends_the_stream() {
    let worker = serving("slots=2,tokens_per_second=50,length=4000").await;
    let id = "a".parse().unwrap();
    let stream = worker
        .client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    let mut stream = Box::pin(stream);
    stream.next().await.unwrap().unwrap();
    let same = worker
        .post("/v1/infer", serde_json::to_vec(&request("a")).unwrap())
        .await;
    assert_eq!((same.0, code(&same.1)), (409, "DUPLICATE_REQUEST"));
    worker.client.cancel(&id).await.unwrap();
    worker.client.cancel(&id).await.unwrap();
    let last = stream
        .map(Result::unwrap)
        .collect::<Vec<_>>()
        .await
        .pop()
        .unwrap();
    assert!(matches!(last, StreamEvent::Error(e) if e.code == Code::Cancelled));
    worker.idle().await;
}

#[tokio::test]
async fn cancelled_document_request_gets_status_499() {
    let worker = serving("slots=1,tokens_per_second=50,length=4000").await;
    let unstreamed = InferRequest {
        stream: false,
        ..request("a")
    };
    let mut changes = worker.worker.service().unwrap().changes();
    let (response, ()) = tokio::join!(worker.client.infer(&unstreamed), async {
        let runtime = worker.worker.service().unwrap();
        changes
            .wait_for(|_| runtime.status().slots_free == 0)
            .await
            .unwrap();
        runtime.cancel(&unstreamed.request_id);
    });
    assert!(matches!(response, Err(CallError::Response(499, e)) if e.code == Code::Cancelled));
}

#[tokio::test]
async fn client_that_disconnects_before_the_document_frees_the_slot() {
    let worker = serving("slots=1,tokens_per_second=50,length=4000").await;
    let mut changes = worker.worker.service().unwrap().changes();
    let body = serde_json::to_string(&InferRequest {
        stream: false,
        ..request("a")
    })
    .unwrap();
    let mut socket = TcpStream::connect(worker.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "POST /v1/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        worker.token.expose(),
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let runtime = worker.worker.service().unwrap();
    let slot_used = changes.wait_for(|_| runtime.status().slots_free == 0);
    tokio::time::timeout(HANG, slot_used)
        .await
        .unwrap()
        .unwrap();
    drop(socket);
    worker.idle().await;
    assert_eq!(runtime.counts().cancelled, 1);
}

#[tokio::test]
async fn slow_reader_receives_all_events() {
    let worker = serving("slots=2,length=3900,context=4096").await;
    // The output is larger than all buffers, so the worker must wait for the reader.
    let stream = worker
        .client
        .infer_stream(&request("slow"), HeaderMap::new())
        .await
        .unwrap();
    let unstreamed = InferRequest {
        stream: false,
        ..request("quick")
    };
    let quick = worker.client.infer(&unstreamed).await.unwrap();
    let events: Vec<StreamEvent> = stream.map(Result::unwrap).collect().await;
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            StreamEvent::Token(token) => Some(token.t.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, quick.text);
    assert!(matches!(events.last(), Some(StreamEvent::End(_))));
}

#[tokio::test]
async fn draining_worker_refuses_new_requests_and_finishes_running_ones() {
    let worker = serving("slots=2,tokens_per_second=200,length=30").await;
    let stream = worker
        .client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    worker.client.drain().await.unwrap();
    worker.client.drain().await.unwrap();
    assert_eq!(
        worker.client.info().await.unwrap().status,
        WorkerStatus::Draining
    );
    assert_eq!(
        worker
            .call(Method::GET, "/ready")
            .send()
            .await
            .unwrap()
            .status(),
        503
    );
    let Err(CallError::Response(503, error)) = worker.client.infer(&request("b")).await else {
        panic!("the request was accepted");
    };
    assert_eq!(error.code, Code::Draining);
    let last = stream
        .map(Result::unwrap)
        .collect::<Vec<_>>()
        .await
        .pop()
        .unwrap();
    assert!(matches!(last, StreamEvent::End(_)));
}

#[tokio::test]
async fn text_and_tokens_are_converted_both_ways() {
    let worker = serving("").await;
    let body = json!({"input": {"prompt": "bé"}}).to_string();
    let (status, response) = worker.post("/v1/tokenize", body).await;
    assert_eq!(
        (status, response),
        (200, json!({"tokens": [98, 195, 169], "count": 3}))
    );
    let (status, response) = worker
        .post("/v1/detokenize", r#"{"tokens": [98, 195, 169, 256]}"#)
        .await;
    assert_eq!((status, response), (200, json!({"text": "bé"})));
    let (status, response) = worker
        .post(
            "/v1/tokenize",
            r#"{"input": {"prompt": "b"}, "tools": [{"name": "f"}]}"#,
        )
        .await;
    assert_eq!(
        (status, &response["error"]["param"]),
        (400, &json!("tools"))
    );
    let (status, _) = worker
        .post("/v1/tokenize", r#"{"input": {"tokens": [999]}}"#)
        .await;
    assert_eq!(status, 400);
    let (status, response) = worker
        .post("/v1/detokenize", r#"{"tokens": [98, 999]}"#)
        .await;
    assert_eq!(
        (status, &response["error"]["param"]),
        (400, &json!("tokens"))
    );
}

#[tokio::test]
async fn metrics_count_requests_and_tokens() {
    let worker = serving("slots=2,length=20").await;
    let last_step = async || worker.client.info().await.unwrap().last_step_ms;
    assert_eq!(last_step().await, None);
    let document = worker
        .client
        .infer(&InferRequest {
            stream: false,
            ..request("a")
        })
        .await;
    assert_eq!(document.unwrap().tokens.len(), 21);
    assert!(last_step().await.is_some());
    let text = worker.client.metrics().await.unwrap();
    for line in [
        "rbee_worker_tokens_generated_total 21",
        "rbee_worker_prompt_tokens_total 5",
        "rbee_worker_requests_total{outcome=\"completed\"} 1",
        "rbee_worker_requests_total{outcome=\"cancelled\"} 0",
        "rbee_worker_slots 2",
        "rbee_worker_slots_free 2",
        "rbee_worker_kv_cache_used_tokens 0",
        "rbee_worker_first_token_seconds_count 1",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[tokio::test]
async fn time_to_first_token_is_observed_for_every_request() {
    let worker = serving("slots=2,length=1").await;
    for n in 0..20 {
        let streamed = request(&format!("r{n}"));
        let stream = worker.client.infer_stream(&streamed, HeaderMap::new());
        stream.await.unwrap().for_each(|_| async {}).await;
    }
    let text = worker.client.metrics().await.unwrap();
    let count = "rbee_worker_first_token_seconds_count 20";
    assert!(text.lines().any(|line| line == count), "{text}");
}

#[tokio::test]
async fn serves_many_clients_some_of_which_disconnect() {
    // More slots than clients, because a closed stream is detected with a delay.
    let worker = std::sync::Arc::new(serving("slots=80,length=50,context=128").await);
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..20 {
        let worker = worker.clone();
        tasks.spawn(async move {
            let mut completed = 0;
            for round in 0..10 {
                let stream = worker
                    .client
                    .infer_stream(&request(&format!("c{client}-{round}")), HeaderMap::new())
                    .await
                    .unwrap();
                let mut stream = Box::pin(stream);
                if (client + round) % 4 == 0 {
                    stream.next().await.unwrap().unwrap();
                    drop(stream);
                    continue;
                }
                let events: Vec<StreamEvent> = stream.map(Result::unwrap).collect().await;
                assert_eq!(events.iter().filter(|e| e.is_terminal()).count(), 1);
                assert!(matches!(events.last(), Some(StreamEvent::End(_))));
                completed += 1;
            }
            completed
        });
    }
    let completed: u64 = tasks.join_all().await.into_iter().sum();
    worker.idle().await;
    let counts = worker.worker.service().unwrap().counts();
    assert_eq!(completed, 150);
    assert_eq!(counts.completed + counts.cancelled, 200, "{counts:?}");
    assert!(counts.completed >= 150 && counts.failed == 0, "{counts:?}");
}
