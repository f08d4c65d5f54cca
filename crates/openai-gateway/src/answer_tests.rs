use serde_json::{Value, json};
use worker_contract::FinishReason;

use super::*;
use crate::testing::{end, envelope, scored, token};

#[test]
fn whole_answers_are_what_openai_sends() {
    for edge in [Edge::Chat, Edge::Completion] {
        let mut answer = Answer::new(false);
        answer.token(&token("a"));
        answer.token(&token("b"));
        let bytes = answer
            .finish(edge, &envelope(), &end(FinishReason::Stop))
            .unwrap();
        let (id, object, choice) = match edge {
            Edge::Chat => (
                "chatcmpl-r1",
                "chat.completion",
                json!({"index": 0, "message": {"role": "assistant", "content": "ab", "refusal": null},
                    "logprobs": null, "finish_reason": "stop"}),
            ),
            Edge::Completion => (
                "cmpl-r1",
                "text_completion",
                json!({"index": 0, "text": "ab", "logprobs": null, "finish_reason": "stop"}),
            ),
        };
        assert_eq!(
            serde_json::from_slice::<Value>(&bytes).unwrap(),
            json!({
                "id": id, "object": object, "created": 7, "model": "builtin:haiku",
                "system_fingerprint": "fp", "choices": [choice],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 1}},
            })
        );
    }
}

#[test]
fn probabilities_leave_out_what_the_text_leaves_out() {
    let mut answer = Answer::new(true);
    answer.token(&scored("", "h"));
    answer.token(&scored("hi", "i"));
    answer.token(&scored("", "</s>"));
    let bytes = answer
        .finish(Edge::Completion, &envelope(), &end(FinishReason::Stop))
        .unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["choices"][0]["logprobs"]["tokens"], json!(["h", "i"]));
    assert_eq!(body["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
}
