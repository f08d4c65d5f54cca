//! Questions with one answer.

use std::sync::atomic::Ordering::SeqCst;

use diagnostics::{Code, Diagnostic};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::{
    fake_worker::{Behaviour, FakeWorker},
    world::{MODEL, Queen, eventually},
};

fn tokenize() -> Value {
    json!({"model": MODEL, "input": {"prompt": "hi"}})
}

#[tokio::test]
async fn tokens_come_from_a_worker_that_is_named() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
    let answer = queen.post_raw("/v1/tokenize", &tokenize()).await;
    assert_eq!(answer.headers()["x-rbee-worker"], "w-0");
    assert!(answer.headers().contains_key("x-rbee-request-id"));
    assert_eq!(
        answer.json::<Value>().await.unwrap(),
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
    queen.idle().await;
}

#[tokio::test]
async fn another_worker_is_asked_when_one_is_lost_and_a_refusal_is_told() {
    let queen = Queen::alone().await;
    // The one with more room is asked first.
    let lost = FakeWorker::start("w-0", 1, 4).await;
    lost.behave(Behaviour::Refuse(Diagnostic::new(Code::Internal, "broken")));
    let second = FakeWorker::start("w-1", 1, 1).await;
    for worker in [&lost, &second] {
        worker.beat(&queen).await;
    }
    let answer = queen.post_raw("/v1/tokenize", &tokenize()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-rbee-worker"], "w-1");
    assert_eq!(lost.sent.load(SeqCst), 1);
    for worker in [&lost, &second] {
        worker.behave(Behaviour::Refuse(
            Diagnostic::new(Code::InvalidRequest, "no").param("input"),
        ));
    }
    let (status, error) = queen.post("/v1/tokenize", &tokenize()).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("input")));
    assert!(error["error"]["correlation_id"].is_string());
    queen.idle().await;
}

#[tokio::test]
async fn a_question_ends_with_its_deadline_and_with_its_asker() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.behave(Behaviour::Hang { tokens: 0 });
    worker.beat(&queen).await;
    let soon = Timestamp::now() + 200.milliseconds();
    let request = queen.http.post(format!("{}/v1/tokenize", queen.url));
    let request = request.header("x-request-deadline", soon.to_string());
    let answer = request.json(&tokenize()).send().await.unwrap();
    assert_eq!(answer.status(), 408);
    queen.idle().await;
    let body = tokenize();
    tokio::select! {
        answer = queen.post("/v1/tokenize", &body) => panic!("{answer:?}"),
        () = eventually("the worker is asked", async || (worker.active() == 1).then_some(())) => {}
    }
    queen.idle().await;
    eventually("the worker is free", async || {
        (worker.active() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn vectors_in_every_edges_shape() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
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
    let older = json!({"model": MODEL, "prompt": "a"});
    let (_, body) = queen.post("/api/embeddings", &older).await;
    assert_eq!(body, json!({"embedding": [0.0, 1.0]}));
    let many = json!({"model": MODEL, "input": "a", "dimensions": 3});
    let (status, error) = queen.post("/v1/embeddings", &many).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("dimensions"))
    );
    queen.idle().await;
}
