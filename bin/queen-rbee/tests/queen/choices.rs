//! Several answers to one request.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    fake_worker::{Behaviour, FakeWorker},
    world::{Queen, chat, eventually},
};

async fn queen(slots: u32) -> (Queen, std::sync::Arc<FakeWorker>) {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, slots).await;
    worker.beat(&queen).await;
    (queen, worker)
}

fn three(stream: bool) -> Value {
    let mut body = chat(stream);
    body["n"] = json!(3);
    body
}

#[tokio::test]
async fn they_differ_in_name_and_choice_and_share_everything_else() {
    let (queen, worker) = queen(3).await;
    let answer = queen.post_raw("/v1/chat/completions", &three(false)).await;
    let id = answer.headers()["x-rbee-request-id"].clone();
    let body: Value = answer.json().await.unwrap();
    for nth in 0..3 {
        let choice = &body["choices"][nth];
        assert_eq!(choice["index"], nth);
        assert_eq!(choice["message"]["content"], "0.1.2.3.4.");
    }
    assert_eq!(body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(body["usage"]["completion_tokens"], 15);
    assert_eq!(body["usage"]["total_tokens"], 18);

    let mut seen = worker.seen();
    assert_eq!(seen[0].request_id.as_str(), id.to_str().unwrap());
    assert!(seen[0].sampling.seed.is_some());
    let names: HashSet<String> = seen.iter().map(|r| r.request_id.to_string()).collect();
    assert_eq!(names.len(), 3);
    seen.sort_by_key(|request| request.sampling.choice);
    let first = seen[0].clone();
    for (choice, mut request) in (0..).zip(seen) {
        assert_eq!(request.sampling.choice, choice);
        request.sampling.choice = 0;
        request.request_id = first.request_id.clone();
        assert_eq!(request, first);
    }
}

#[tokio::test]
async fn fewer_slots_than_choices_only_take_longer() {
    let (queen, worker) = queen(1).await;
    let answer = queen.post_raw("/v1/chat/completions", &three(true)).await;
    let text = answer.text().await.unwrap();
    assert_eq!(text.matches("\"finish_reason\":\"stop\"").count(), 3);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(worker.seen().len(), 3);
}

#[tokio::test]
async fn the_others_start_when_the_first_has_a_token() {
    let (queen, worker) = queen(3).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let answer = queen.post_raw("/v1/chat/completions", &three(true)).await;
    let all = async || (worker.active() == 3).then_some(());
    eventually("three requests at the worker", all).await;
    assert_eq!(worker.seen()[0].sampling.choice, 0);
    // A client that goes away cancels all.
    drop(answer);
    let none = async || (worker.active() == 0).then_some(());
    eventually("no request at the worker", none).await;
    queen.idle().await;
}

#[tokio::test]
async fn a_request_is_cancelled_whole_though_its_first_answer_has_ended() {
    let (queen, worker) = queen(3).await;
    for stream in [true, false] {
        worker.behave(Behaviour::Answer { tokens: 5 });
        worker.behave_after_first(Behaviour::Hang { tokens: 1 });
        let before = worker.seen().len();
        let body = three(stream);
        let (answer, ()) = tokio::join!(queen.post_raw("/v1/chat/completions", &body), async {
            let left =
                async || (worker.seen().len() == before + 3 && worker.active() == 2).then_some(());
            eventually("two requests at the worker", left).await;
            let first = worker.seen()[before].request_id.clone();
            let url = format!("{}/v1/infer/{first}", queen.url);
            assert_eq!(queen.http.delete(url).send().await.unwrap().status(), 204);
        });
        let text = answer.text().await.unwrap();
        assert_eq!(text.matches("\"code\":\"CANCELLED\"").count(), 1, "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        let none = async || (worker.active() == 0).then_some(());
        eventually("no request at the worker", none).await;
        queen.idle().await;
    }
}

#[tokio::test]
async fn an_error_of_one_ends_all() {
    let (queen, worker) = queen(3).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let answer = queen.post_raw("/v1/chat/completions", &three(true)).await;
    let all = async || (worker.active() == 3).then_some(());
    eventually("three requests at the worker", all).await;
    let last = worker.seen().pop().unwrap().request_id;
    let url = format!("{}/v1/infer/{last}", queen.url);
    queen.http.delete(url).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert_eq!(text.matches("\"code\":\"CANCELLED\"").count(), 1, "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
    let none = async || (worker.active() == 0).then_some(());
    eventually("no request at the worker", none).await;
    queen.idle().await;
}
