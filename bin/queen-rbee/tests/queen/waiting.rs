//! Streams whose request waits: for a busy worker, or for a model that loads.

use std::sync::Arc;

use futures_util::StreamExt as _;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{LIMIT, Queen, chat, eventually, message},
};

/// A queen with a short grace, and a worker whose only slot a request occupies.
async fn busy_queen() -> (Queen, Arc<FakeWorker>, Response) {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let queen = Queen::start(home, &["--no-local-hive", "--header-grace-ms", "20"]).await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.send_heartbeat(&queen).await;
    worker.behave(Behavior::Hang { tokens: 0 });
    let running = queen.post_raw("/v1/chat/completions", &chat(true)).await;
    worker.until_active(1).await;
    worker.behave(Behavior::Complete { tokens: 2 });
    (queen, worker, running)
}

/// Returns the first chunk of a body.
async fn first_chunk(response: &mut Response) -> String {
    let chunk = timeout(LIMIT, response.chunk()).await.expect("a chunk");
    String::from_utf8(chunk.unwrap().unwrap().to_vec()).unwrap()
}

fn id(response: &Response) -> String {
    let id = response.headers()["x-rbee-request-id"].to_str();
    id.unwrap().to_owned()
}

#[tokio::test]
async fn headers_and_a_comment_are_sent_while_the_worker_is_busy() {
    let (queen, _worker, running) = busy_queen().await;
    for (path, body) in [
        ("/v1/chat/completions", chat(true)),
        (
            "/v1/completions",
            json!({"model": "mock:a=1", "prompt": "hi", "stream": true}),
        ),
    ] {
        let mut response = queen.post_raw(path, &body).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        for unknown in ["x-rbee-worker", "x-rbee-seed", "x-rbee-queue-ms"] {
            assert!(!response.headers().contains_key(unknown), "{unknown}");
        }
        let chunk = first_chunk(&mut response).await;
        assert!(
            chunk.starts_with(": all workers are busy; position "),
            "{chunk}"
        );
        assert!(!chunk.contains("data: "), "{chunk}");
    }
    drop(running);
    queen.idle().await;
}

#[tokio::test]
async fn a_stream_that_waited_is_complete() {
    let (queen, _worker, running) = busy_queen().await;
    let response = queen.post_raw("/v1/chat/completions", &chat(true)).await;
    let anthropic = queen.post_raw("/v1/messages", &message(true)).await;
    let ollama = queen.post_raw("/api/chat", &chat(true)).await;
    drop(running);
    let text = response.text().await.unwrap();
    assert!(text.contains("\"role\":\"assistant\""), "{text}");
    assert!(text.contains("\"content\":\"1.\""), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let text = anthropic.text().await.unwrap();
    let ping = text.find("event: ping\ndata: {\"type\":\"ping\"}\n\n");
    assert!(ping < text.find("event: message_start"), "{text}");
    assert!(
        ping.is_some() && text.contains("event: message_stop"),
        "{text}"
    );
    let text = ollama.text().await.unwrap();
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert!(text.contains("\"done\":true"), "{text}");
}

#[tokio::test]
async fn an_error_after_the_headers_is_an_event() {
    let (queen, _worker, _running) = busy_queen().await;
    for (path, event) in [
        ("/v1/chat/completions", "data: {\"error\":{"),
        ("/v1/messages", "event: error\ndata: {\"type\":\"error\""),
        ("/api/chat", "{\"error\":\""),
    ] {
        let response = queen.post_raw(path, &message(true)).await;
        assert_eq!(response.status(), 200, "{path}");
        queen.cancel(&id(&response).parse().unwrap()).await;
        let text = response.text().await.unwrap();
        assert!(text.contains(event), "{path}: {text}");
        assert!(text.contains("the request was cancelled"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_while_it_waits_leaves_the_queue() {
    let (queen, _worker, _running) = busy_queen().await;
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        let response = queen.post_raw(path, &message(true)).await;
        assert_eq!(queen.counts().await.waiting, 1, "{path}");
        drop(response.bytes_stream().boxed());
        eventually("no request is waiting", async || {
            (queen.counts().await.waiting == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_document_keeps_its_status_however_long_it_waits() {
    let (queen, worker, running) = busy_queen().await;
    let waiting = async { queen.post("/v1/chat/completions", &chat(false)).await };
    let fails = async {
        eventually("a request is waiting", async || {
            (queen.counts().await.waiting == 1).then_some(())
        })
        .await;
        worker.behave(Behavior::Refuse(diagnostics::Diagnostic::new(
            diagnostics::Code::InvalidRequest,
            "no",
        )));
        drop(running);
    };
    let ((status, _), ()) = tokio::join!(waiting, fails);
    assert_eq!(status, 400);
}
