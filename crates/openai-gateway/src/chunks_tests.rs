use diagnostics::Code;
use serde_json::{Value, json};
use worker_contract::FinishReason;

use super::*;
use crate::testing::{end, envelope, events, scored, token};

fn writer(edge: Edge, include_usage: bool, logprobs: bool) -> ChunkWriter {
    ChunkWriter::new(edge, &envelope(), include_usage, logprobs)
}

fn chunk(choice: &Value) -> Value {
    json!({
        "id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 7,
        "model": "builtin:haiku", "system_fingerprint": "fp", "choices": [choice],
    })
}

#[test]
fn a_chat_stream_is_what_openai_sends() {
    let mut writer = writer(Edge::Chat, false, false);
    let mut out = Vec::new();
    writer.start(&mut out);
    writer.token(&token("a \"b\"\n"), &mut out);
    writer.token(&token(""), &mut out);
    writer.end(&end(FinishReason::Stop), &mut out);
    assert_eq!(
        events(&out),
        [
            chunk(
                &json!({"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null},
                "logprobs": null, "finish_reason": null})
            ),
            chunk(&json!({"index": 0, "delta": {"content": "a \"b\"\n"},
                "logprobs": null, "finish_reason": null})),
            chunk(&json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"})),
            Value::Null,
        ]
    );
}

#[test]
fn usage_comes_in_a_last_chunk_without_choices() {
    let mut writer = writer(Edge::Completion, true, false);
    let mut out = Vec::new();
    writer.start(&mut out);
    writer.token(&token("x"), &mut out);
    writer.end(&end(FinishReason::Length), &mut out);
    let events = events(&out);
    let head = |choices: Value, usage: Value| {
        json!({
            "id": "cmpl-r1", "object": "text_completion", "created": 7, "model": "builtin:haiku",
            "system_fingerprint": "fp", "choices": choices, "usage": usage,
        })
    };
    assert_eq!(
        events,
        [
            head(
                json!([{"index": 0, "text": "x", "logprobs": null, "finish_reason": null}]),
                Value::Null
            ),
            head(
                json!([{"index": 0, "text": "", "logprobs": null, "finish_reason": "length"}]),
                Value::Null
            ),
            head(
                json!([]),
                json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 1}})
            ),
            Value::Null,
        ]
    );
}

#[test]
fn held_back_tokens_bring_their_probabilities_along_and_the_end_token_none() {
    let mut writer = writer(Edge::Chat, false, true);
    let mut out = Vec::new();
    writer.token(&scored("", "h"), &mut out);
    writer.token(&scored("hi", "i"), &mut out);
    writer.token(&scored("", "</s>"), &mut out);
    writer.end(&end(FinishReason::Stop), &mut out);
    let events = events(&out);
    assert_eq!(events.len(), 3, "{events:?}");
    let one = |text: &str| {
        json!({"token": text, "logprob": -0.5, "bytes": text.as_bytes(), "top_logprobs":
            [{"token": text, "logprob": -0.5, "bytes": text.as_bytes()}]})
    };
    assert_eq!(
        events[0]["choices"][0]["logprobs"],
        json!({"content": [one("h"), one("i")], "refusal": null})
    );
    assert_eq!(events[0]["choices"][0]["delta"]["content"], "hi");
}

#[test]
fn completion_probabilities_are_parallel_lists_with_offsets() {
    let mut writer = writer(Edge::Completion, false, true);
    let mut out = Vec::new();
    writer.token(&scored("hé", "hé"), &mut out);
    writer.token(&scored("y", "y"), &mut out);
    writer.token(&scored("", "z"), &mut out);
    writer.end(&end(FinishReason::Length), &mut out);
    let events = events(&out);
    assert_eq!(
        events[1]["choices"][0]["logprobs"]["text_offset"],
        json!([2])
    );
    assert_eq!(
        events[2]["choices"][0]["logprobs"],
        json!({"tokens": ["z"], "token_logprobs": [-0.5], "top_logprobs": [{"z": -0.5}],
            "text_offset": [3]})
    );
}

#[test]
fn an_error_in_a_stream_has_the_one_shape() {
    let mut out = Vec::new();
    let error = Diagnostic::new(Code::WorkerCrashed, "worker haiku-0 on local ended");
    writer(Edge::Chat, false, false).error(error, &mut out);
    assert_eq!(
        events(&out),
        [
            json!({"error": {"type": "server_error", "code": "WORKER_CRASHED",
            "message": "worker haiku-0 on local ended"}})
        ]
    );
}
