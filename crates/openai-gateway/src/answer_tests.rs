use serde_json::{Value, json};
use worker_contract::FinishReason;

use super::*;
use crate::testing::{call, end, envelope, more, scored, token};

#[test]
fn whole_answers_are_what_openai_sends() {
    for edge in [Edge::Chat, Edge::Completion] {
        let mut answer = Answer::new(false, 1);
        answer.token(0, &token("a"));
        answer.token(0, &token("b"));
        assert!(answer.end(0, &end(FinishReason::Stop)));
        let bytes = answer.finish(edge, &envelope()).unwrap();
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
    let mut answer = Answer::new(true, 1);
    answer.token(0, &scored("", "h"));
    answer.token(0, &scored("hi", "i"));
    answer.token(0, &scored("", "</s>"));
    assert!(answer.end(0, &end(FinishReason::Stop)));
    let bytes = answer.finish(Edge::Completion, &envelope()).unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["choices"][0]["logprobs"]["tokens"], json!(["h", "i"]));
    assert_eq!(body["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
}

#[test]
fn calls_are_put_together_and_content_is_null_when_there_is_nothing_else() {
    let mut answer = Answer::new(false, 2);
    answer.token(0, &call("", 0, "f", "{\"a\""));
    answer.token(1, &call("Let me see.", 0, "g", "{}"));
    answer.token(0, &more(0, ":1}"));
    answer.token(0, &call("", 1, "g", "{}"));
    assert!(!answer.end(1, &end(FinishReason::ToolCalls)));
    assert!(answer.end(0, &end(FinishReason::ToolCalls)));
    let bytes = answer.finish(Edge::Chat, &envelope()).unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        body["choices"],
        json!([
            {"index": 0, "message": {"role": "assistant", "content": null, "refusal": null,
                "tool_calls": [call("id0", "f", "{\"a\":1}"), call("id1", "g", "{}")]},
                "logprobs": null, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"role": "assistant", "content": "Let me see.", "refusal": null,
                "tool_calls": [call("id0", "g", "{}")]},
                "logprobs": null, "finish_reason": "tool_calls"},
        ])
    );
}

#[test]
fn the_prompt_of_several_choices_counts_once() {
    let mut answer = Answer::new(false, 3);
    for (choice, text) in [(2, "c"), (0, "a"), (1, "b")] {
        answer.token(choice, &token(text));
        let mut event = end(FinishReason::Stop);
        // The others find the prompt in the cache.
        event.usage.cached_tokens = if choice == 0 { 1 } else { 3 };
        assert_eq!(answer.end(choice, &event), choice == 1);
    }
    let bytes = answer.finish(Edge::Completion, &envelope()).unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let texts: Vec<&Value> = (0..3).map(|n| &body["choices"][n]["text"]).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(body["choices"][2]["index"], 2);
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 1}})
    );
}
