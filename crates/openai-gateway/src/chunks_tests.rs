use diagnostics::Code;
use serde_json::{Value, json};
use worker_contract::FinishReason;

use super::*;
use crate::testing::{call, end, envelope, events, more, scored, token};

fn writer(edge: Edge, include_usage: bool, logprobs: bool) -> ChunkWriter {
    ChunkWriter::new(edge, &envelope(), include_usage, logprobs, 1)
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
    writer.start(0, &mut out);
    writer.token(0, &token("a \"b\"\n"), &mut out);
    writer.token(0, &token(""), &mut out);
    writer.end(0, &end(FinishReason::Stop), &mut out);
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
    writer.start(0, &mut out);
    writer.token(0, &token("x"), &mut out);
    writer.end(0, &end(FinishReason::Length), &mut out);
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
    writer.token(0, &scored("", "h"), &mut out);
    writer.token(0, &scored("hi", "i"), &mut out);
    writer.token(0, &scored("", "</s>"), &mut out);
    writer.end(0, &end(FinishReason::Stop), &mut out);
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
fn a_part_of_a_character_brings_its_bytes_along() {
    let mut writer = writer(Edge::Chat, false, true);
    let mut out = Vec::new();
    let part = |t: &str, bytes: &[u8]| {
        let mut event = scored(t, "\u{fffd}");
        if let Some(logprob) = &mut event.logprob {
            logprob.bytes = bytes.to_vec();
        }
        event
    };
    writer.token(0, &part("", &[0xc3]), &mut out);
    writer.token(0, &part("é", &[0xa9]), &mut out);
    let content = events(&out)[0]["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(content[0]["bytes"], json!([0xc3]));
    assert_eq!(content[1]["bytes"], json!([0xa9]));
}

#[test]
fn completion_probabilities_are_parallel_lists_with_offsets() {
    let mut writer = writer(Edge::Completion, false, true);
    let mut out = Vec::new();
    writer.token(0, &scored("hé", "hé"), &mut out);
    writer.token(0, &scored("y", "y"), &mut out);
    writer.token(0, &scored("", "z"), &mut out);
    writer.end(0, &end(FinishReason::Length), &mut out);
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

#[test]
fn calls_are_deltas_as_openai_sends_them() {
    let mut writer = writer(Edge::Chat, false, false);
    let mut out = Vec::new();
    writer.token(0, &call("So: ", 0, "f", ""), &mut out);
    writer.token(0, &more(0, "{\"a\":"), &mut out);
    writer.token(0, &call("", 1, "g", "{}"), &mut out);
    writer.end(0, &end(FinishReason::ToolCalls), &mut out);
    let delta = |delta: &Value| {
        chunk(&json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}))
    };
    assert_eq!(
        events(&out),
        [
            delta(&json!({"content": "So: "})),
            delta(
                &json!({"tool_calls": [{"index": 0, "id": "id0", "type": "function",
                "function": {"name": "f", "arguments": ""}}]})
            ),
            delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]})),
            delta(
                &json!({"tool_calls": [{"index": 1, "id": "id1", "type": "function",
                "function": {"name": "g", "arguments": "{}"}}]})
            ),
            chunk(
                &json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "tool_calls"})
            ),
            Value::Null,
        ]
    );
}

#[test]
fn choices_are_told_apart_and_the_last_one_ends_the_stream() {
    let mut writer = ChunkWriter::new(Edge::Completion, &envelope(), true, true, 2);
    let mut out = Vec::new();
    writer.token(1, &scored("", "h"), &mut out);
    writer.token(0, &scored("a", "a"), &mut out);
    writer.end(0, &end(FinishReason::Stop), &mut out);
    writer.token(1, &scored("hi", "i"), &mut out);
    writer.end(1, &end(FinishReason::Length), &mut out);
    let events = events(&out);
    let seen: Vec<(&Value, &Value, &Value)> = events
        .iter()
        .filter(|event| !event["choices"][0].is_null())
        .map(|event| &event["choices"][0])
        .map(|c| (&c["index"], &c["text"], &c["finish_reason"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&json!(0), &json!("a"), &Value::Null),
            (&json!(0), &json!(""), &json!("stop")),
            (&json!(1), &json!("hi"), &Value::Null),
            (&json!(1), &json!(""), &json!("length")),
        ]
    );
    assert_eq!(
        events[2]["choices"][0]["logprobs"]["tokens"],
        json!(["h", "i"])
    );
    assert_eq!(
        (&events[4]["usage"]["completion_tokens"], events.len()),
        (&json!(4), 6)
    );
    assert_eq!(events[5], Value::Null);
}
