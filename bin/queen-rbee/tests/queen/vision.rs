//! Images in messages.

use serde_json::{Value, json};
use worker_contract::{Capability, Image, InferInput};

use crate::{
    fake_worker::FakeWorker,
    harness::{MODEL, Queen},
};

const DATA_URL: &str = "data:image/png;base64,aGk=";

/// A request with an image for each API, by path.
fn requests() -> [(&'static str, Value); 5] {
    let message = |content: Value| json!([{"role": "user", "content": content}]);
    let source = json!({"type": "base64", "media_type": "image/png", "data": "aGk="});
    [
        (
            "/v1/chat/completions",
            json!({"model": MODEL, "messages": message(json!([
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": DATA_URL}}]))}),
        ),
        (
            "/v1/responses",
            json!({"model": MODEL, "input": message(json!([
                {"type": "input_text", "text": "what?"},
                {"type": "input_image", "image_url": DATA_URL}]))}),
        ),
        (
            "/v1/messages",
            json!({"model": MODEL, "max_tokens": 9, "messages": message(json!([
                {"type": "text", "text": "what?"}, {"type": "image", "source": source}]))}),
        ),
        (
            "/api/chat",
            json!({"model": MODEL, "stream": false,
                "messages": [{"role": "user", "content": "what?", "images": ["aGk="]}]}),
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "stream": false, "prompt": "what?", "images": ["aGk="]}),
        ),
    ]
}

#[tokio::test]
async fn images_are_refused_unless_a_worker_announces_vision() {
    let (queen, worker) = Queen::with_worker(2).await;
    for (path, body) in requests() {
        let (status, error) = queen.post(path, &body).await;
        assert_eq!(status, 400, "{path}: {error}");
        let expected = "cannot see images: no worker announces the capability `vision`";
        assert!(error.to_string().contains(expected), "{path}: {error}");
    }
    assert!(worker.requests().is_empty());
}

#[tokio::test]
async fn images_reach_a_worker_that_announces_vision() {
    let (queen, blind) = Queen::with_worker(2).await;
    let worker = FakeWorker::start("w-1", 1, 2).await;
    worker.info.lock().unwrap().capabilities = vec![Capability::Vision];
    worker.send_heartbeat(&queen).await;
    for (path, body) in requests() {
        let (status, response) = queen.post(path, &body).await;
        assert_eq!(status, 200, "{path}: {response}");
    }
    assert!(blind.requests().is_empty());
    let received = worker.requests();
    assert_eq!(received.len(), requests().len());
    for (n, request) in received.iter().enumerate() {
        let InferInput::Messages(messages) = &request.input else {
            panic!("no messages")
        };
        assert_eq!(messages[0].content, "what?");
        let has_type = n < 3;
        let image = Image {
            media_type: has_type.then(|| "image/png".to_owned()),
            data: "aGk=".to_owned(),
        };
        assert_eq!(messages[0].images, [image]);
    }
}
