//! Requests with several choices.

use std::collections::HashSet;

use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};
use worker_contract::InferInput;

use crate::{
    fake_worker::Behavior,
    harness::{MODEL, Queen, chat, eventually},
};

const PATH: &str = "/v1/chat/completions";

fn three_choices(stream: bool) -> Value {
    let mut body = chat(stream);
    body["n"] = json!(3);
    body
}

fn count_cancelled(text: &str) -> usize {
    text.matches("\"details\":{\"code\":\"CANCELLED\"").count()
}

#[tokio::test]
async fn choices_differ_in_id_and_index_only() {
    let (queen, worker) = Queen::with_worker(3).await;
    let response = queen.post_raw(PATH, &three_choices(false)).await;
    let id = response.headers()["x-rbee-request-id"].clone();
    let body: Value = response.json().await.unwrap();
    for index in 0..3 {
        let choice = &body["choices"][index];
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["content"], "0.1.2.3.4.");
    }
    assert_eq!(body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(body["usage"]["completion_tokens"], 15);
    assert_eq!(body["usage"]["total_tokens"], 18);

    let mut requests = worker.requests();
    assert_eq!(requests[0].request_id.as_str(), id.to_str().unwrap());
    assert!(requests[0].sampling.seed.is_some());
    let ids: HashSet<String> = requests.iter().map(|r| r.request_id.to_string()).collect();
    assert_eq!(ids.len(), 3);
    requests.sort_by_key(|request| request.sampling.choice);
    let first = requests[0].clone();
    for (choice, mut request) in (0..).zip(requests) {
        assert_eq!(request.sampling.choice, choice);
        request.sampling.choice = 0;
        request.request_id = first.request_id.clone();
        assert_eq!(request, first);
    }
}

#[tokio::test]
async fn each_of_several_prompts_has_its_choices_in_order() {
    let (queen, worker) = Queen::with_worker(2).await;
    let body = json!({"model": MODEL, "prompt": ["a", [1, 2]], "n": 2});
    let (status, body) = queen.post("/v1/completions", &body).await;
    assert_eq!(status, 200, "{body}");
    let choices = body["choices"].as_array().unwrap();
    let indices: Vec<_> = choices.iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(body["usage"]["prompt_tokens"], 6);
    assert_eq!(body["usage"]["completion_tokens"], 20);
    let mut requests = worker.requests();
    requests.sort_by_key(|request| request.sampling.choice);
    let inputs: Vec<_> = requests.into_iter().map(|request| request.input).collect();
    let (a, b) = (
        InferInput::Prompt("a".into()),
        InferInput::Tokens(vec![1, 2]),
    );
    assert_eq!(inputs, [a.clone(), a, b.clone(), b]);
}

#[tokio::test]
async fn the_events_of_several_prompts_have_the_index_of_their_choice() {
    let (queen, _worker) = Queen::with_worker(3).await;
    let body = json!({"model": MODEL, "prompt": ["a", "b", "c"], "stream": true});
    let response = queen.post_raw("/v1/completions", &body).await;
    let text = response.text().await.unwrap();
    for index in 0..3 {
        let chunks = text
            .lines()
            .filter(|line| line.contains(&format!("\"index\":{index},")));
        assert_eq!(chunks.count(), 6, "{text}");
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn choices_wait_if_there_are_fewer_slots() {
    let (queen, worker) = Queen::with_worker(1).await;
    let response = queen.post_raw(PATH, &three_choices(true)).await;
    let text = response.text().await.unwrap();
    assert_eq!(text.matches("\"finish_reason\":\"stop\"").count(), 3);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(worker.requests().len(), 3);
}

#[tokio::test]
async fn further_choices_start_after_the_first_token_and_end_when_the_client_disconnects() {
    let (queen, worker) = Queen::with_worker(3).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let response = queen.post_raw(PATH, &three_choices(true)).await;
    worker.until_active(3).await;
    assert_eq!(worker.requests()[0].sampling.choice, 0);
    drop(response);
    worker.until_active(0).await;
    queen.idle().await;
}

#[tokio::test]
async fn cancelling_ends_all_choices_although_the_first_has_completed() {
    let (queen, worker) = Queen::with_worker(3).await;
    for stream in [true, false] {
        worker.behave(Behavior::Complete { tokens: 5 });
        worker.behave_for_other_choices(Behavior::Hang { tokens: 1 });
        let before = worker.requests().len();
        let body = three_choices(stream);
        let (response, ()) = tokio::join!(queen.post_raw(PATH, &body), async {
            eventually("the other two choices run", async || {
                (worker.requests().len() == before + 3 && worker.active() == 2).then_some(())
            })
            .await;
            let first = worker.requests()[before].request_id.clone();
            queen.cancel(&first).await;
        });
        let text = response.text().await.unwrap();
        assert_eq!(count_cancelled(&text), 1, "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        worker.until_active(0).await;
        queen.idle().await;
    }
}

#[tokio::test]
async fn an_error_of_one_choice_ends_all() {
    let (queen, worker) = Queen::with_worker(3).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let response = queen.post_raw(PATH, &three_choices(true)).await;
    worker.until_active(3).await;
    let last = worker.requests().pop().unwrap().request_id;
    queen.cancel(&last).await;
    let text = response.text().await.unwrap();
    assert_eq!(count_cancelled(&text), 1, "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
    worker.until_active(0).await;
    queen.idle().await;
}

#[tokio::test]
async fn an_invalid_prompt_is_refused_before_the_first_one_runs() {
    let (queen, worker) = Queen::with_worker(2).await;
    let refused = Diagnostic::new(Code::InvalidRequest, "`input` is empty").param("input");
    worker.behave(Behavior::Refuse(refused));
    for stream in [false, true] {
        let body = json!({"model": MODEL, "prompt": ["a", ""], "stream": stream});
        let (status, body) = queen.post("/v1/completions", &body).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(body["error"]["param"], "prompt[1]");
        assert_eq!(body["error"]["message"], "`prompt[1]` is empty");
    }
    assert!(worker.requests().is_empty());
}
