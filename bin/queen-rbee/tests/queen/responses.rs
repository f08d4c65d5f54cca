//! OpenAI's Responses API.

use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};
use worker_contract::{InferInput, Message, Role};

use crate::{
    fake_worker::Behavior,
    harness::{MODEL, Queen},
};

const PATH: &str = "/v1/responses";

fn body(stream: bool) -> Value {
    json!({"model": MODEL, "input": "hi", "instructions": "be brief", "stream": stream})
}

/// Returns the data of all events.
fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn a_response_is_a_document_or_a_stream_of_events() {
    let (queen, worker) = Queen::with_worker(2).await;
    let (status, document) = queen.post(PATH, &body(false)).await;
    assert_eq!(status, 200, "{document}");
    assert_eq!(document["status"], "completed");
    assert_eq!(document["output"][0]["content"][0]["text"], "0.1.2.3.4.");
    assert_eq!(document["usage"]["output_tokens"], 5);

    let response = queen.post_raw(PATH, &body(true)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let events = events(&response.text().await.unwrap());
    let deltas = events.iter().filter_map(|event| event["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), "0.1.2.3.4.");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(
        last["response"]["output"][0]["content"],
        document["output"][0]["content"]
    );
    let expected = [
        Message::new(Role::System, "be brief"),
        Message::new(Role::User, "hi"),
    ];
    assert_eq!(
        worker.requests()[0].input,
        InferInput::Messages(expected.to_vec())
    );
}

#[tokio::test]
async fn an_error_after_the_first_token_is_a_failed_response() {
    let (queen, worker) = Queen::with_worker(2).await;
    worker.behave(Behavior::ErrorAt {
        tokens: 2,
        error: Diagnostic::new(Code::DeadlineExceeded, "too late"),
    });
    let response = queen.post_raw(PATH, &body(true)).await;
    let events = events(&response.text().await.unwrap());
    let [.., error, failed] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(error["type"], "error");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("too late"), "{message}");
    assert_eq!(failed["type"], "response.failed");
    let (status, error) = queen.post(PATH, &body(false)).await;
    let partial = &error["error"]["details"]["partial_text"];
    assert_eq!((status, partial), (408, &json!("0.1.")));
}

#[tokio::test]
async fn what_is_ignored_is_in_the_notes() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let mut body = body(false);
    body["store"] = json!(true);
    let response = queen.post_raw(PATH, &body).await;
    let notes = response.headers()["x-rbee-notes"].to_str().unwrap();
    assert!(notes.contains("`store`"), "{notes}");
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["store"], false);
}

#[tokio::test]
async fn responses_are_not_stored() {
    let (queen, _worker) = Queen::with_worker(2).await;
    let url = format!("{}{PATH}/resp_1", queen.url);
    for request in [queen.http.get(&url), queen.http.delete(&url)] {
        let (status, body) = queen.send(request).await;
        assert_eq!(status, 404);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("responses are not stored"), "{message}");
    }
    let mut body = body(false);
    body["previous_response_id"] = json!("resp_1");
    let (status, error) = queen.post(PATH, &body).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("previous_response_id"))
    );
}

#[tokio::test]
async fn the_tokens_of_an_input_are_counted() {
    let (queen, worker) = Queen::with_worker(1).await;
    let (status, count) = queen.post("/v1/responses/input_tokens", &body(false)).await;
    assert_eq!(status, 200, "{count}");
    assert_eq!(
        count,
        json!({"object": "response.input_tokens", "input_tokens": 3})
    );
    let refused = Diagnostic::new(Code::InvalidRequest, "no").param("messages");
    worker.behave(Behavior::Refuse(refused));
    let (status, error) = queen.post("/v1/responses/input_tokens", &body(false)).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("input")));
}

#[tokio::test]
async fn a_compaction_is_refused_with_what_is_supported() {
    let queen = Queen::without_hive().await;
    let (status, error) = queen.post("/v1/responses/compact", &body(false)).await;
    assert_eq!(status, 404, "{error}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("`POST /v1/responses`"), "{message}");
}
