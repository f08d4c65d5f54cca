//! Calls with a single response: tokenization and embeddings.

use diagnostics::{Code, Diagnostic};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{MODEL, Queen},
};

fn tokenize() -> Value {
    json!({"model": MODEL, "input": {"prompt": "hi"}})
}

#[tokio::test]
async fn tokenize_reports_its_worker_and_count_tokens_counts() {
    let (queen, _worker) = Queen::with_worker(1).await;
    let response = queen.post_raw("/v1/tokenize", &tokenize()).await;
    assert_eq!(response.headers()["x-rbee-worker"], "w-0");
    assert!(response.headers().contains_key("x-rbee-request-id"));
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({"tokens": [1, 2, 3], "count": 3})
    );
    let count = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let (status, body) = queen.post("/v1/messages/count_tokens", &count).await;
    assert_eq!((status, body), (200, json!({"input_tokens": 3})));
    let (status, error) = queen.post("/v1/tokenize", &json!({"model": MODEL})).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (400, &json!("INVALID_REQUEST"))
    );
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(hint.contains(r#""input": {"prompt": "text"}"#), "{hint}");
    queen.idle().await;
}

#[tokio::test]
async fn a_call_is_repeated_on_another_worker_unless_it_is_invalid() {
    let queen = Queen::without_hive().await;
    // The worker with the most free slots is called first.
    let broken = FakeWorker::start("w-0", 1, 4).await;
    broken.behave(Behavior::Refuse(Diagnostic::new(Code::Internal, "broken")));
    let second = FakeWorker::start("w-1", 1, 1).await;
    for worker in [&broken, &second] {
        worker.send_heartbeat(&queen).await;
    }
    let response = queen.post_raw("/v1/tokenize", &tokenize()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-rbee-worker"], "w-1");
    assert_eq!((broken.tokenize_calls(), second.tokenize_calls()), (1, 1));
    for worker in [&broken, &second] {
        worker.behave(Behavior::Refuse(
            Diagnostic::new(Code::InvalidRequest, "no").param("input"),
        ));
    }
    let (status, error) = queen.post("/v1/tokenize", &tokenize()).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("input")));
    assert!(error["error"]["correlation_id"].is_string());
    assert_eq!(broken.tokenize_calls() + second.tokenize_calls(), 3);
    queen.idle().await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_when_its_client_disconnects() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Hang { tokens: 0 });
    let soon = Timestamp::now() + 200.milliseconds();
    let request = queen.http.post(format!("{}/v1/tokenize", queen.url));
    let request = request.header("x-request-deadline", soon.to_string());
    let (status, error) = queen.send(request.json(&tokenize())).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (408, &json!("DEADLINE_EXCEEDED"))
    );
    queen.idle().await;
    worker.until_active(0).await;
    let body = tokenize();
    tokio::select! {
        response = queen.post("/v1/tokenize", &body) => panic!("{response:?}"),
        () = worker.until_active(1) => {}
    }
    queen.idle().await;
    worker.until_active(0).await;
}

#[tokio::test]
async fn embeddings_have_the_format_of_each_api() {
    let (queen, _worker) = Queen::with_worker(1).await;
    let two = json!({"model": MODEL, "input": ["a", "b"]});
    let (status, body) = queen.post("/v1/embeddings", &two).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"][1]["embedding"], json!([1.0, 1.0]));
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 6, "total_tokens": 6})
    );
    let (_, body) = queen.post("/api/embed", &two).await;
    assert_eq!(body["embeddings"], json!([[0.0, 1.0], [1.0, 1.0]]));
    assert_eq!(body["prompt_eval_count"], 6);
    let one = json!({"model": MODEL, "prompt": "a"});
    let (_, body) = queen.post("/api/embeddings", &one).await;
    assert_eq!(body, json!({"embedding": [0.0, 1.0]}));
    let unsupported = json!({"model": MODEL, "input": "a", "dimensions": 3});
    let (status, error) = queen.post("/v1/embeddings", &unsupported).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("dimensions"))
    );
    queen.idle().await;
}
