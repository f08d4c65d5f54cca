use diagnostics::Code;
use serde_json::{Value, json};
use worker_contract::{FinishReason, ToolChoice};

use super::*;
use crate::testing::{call, context, end, more, scored, started, token};

fn head(endpoint: OpenAiEndpoint) -> ResponseHead {
    let model = "builtin:haiku".to_owned();
    ResponseHead::new(endpoint, model, &ToolChoice::Auto, &context())
}

fn chat(include_usage: bool, logprobs: bool) -> ChunkWriter {
    let head = head(OpenAiEndpoint::ChatCompletions);
    ChunkWriter::new(head, include_usage, logprobs, 1)
}

fn completion(include_usage: bool, logprobs: bool, choices: u32) -> ChunkWriter {
    let head = head(OpenAiEndpoint::Completions);
    ChunkWriter::new(head, include_usage, logprobs, choices)
}

/// Returns the JSON of each event; `[DONE]` is null.
fn events(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes)
        .unwrap()
        .split_terminator("\n\n")
        .map(|event| match event.strip_prefix("data: ").unwrap() {
            "[DONE]" => Value::Null,
            json => serde_json::from_str(json).unwrap(),
        })
        .collect()
}

fn chat_chunk(choice: &Value) -> Value {
    json!({
        "id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 7,
        "model": "builtin:haiku", "system_fingerprint": "fp", "choices": [choice],
    })
}

#[test]
fn a_chat_stream_has_openais_format() {
    let mut writer = chat(false, false);
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    writer.token(0, token("a \"b\"\n"), &mut out);
    writer.token(0, token(""), &mut out);
    assert!(writer.end(0, &end(FinishReason::Stop), &mut out));
    let head = r#"data: {"id":"chatcmpl-r1","object":"chat.completion.chunk","created":7,"model":"builtin:haiku","system_fingerprint":"fp","choices":[{"index":0,"#;
    let expected = [
        head,
        r#""delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n",
        head,
        r#""delta":{"content":"a \"b\"\n"},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n",
        head,
        r#""delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
}

#[test]
fn usage_comes_in_a_last_chunk_without_choices() {
    let mut writer = completion(true, false, 1);
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    writer.token(0, token("x"), &mut out);
    assert!(writer.end(0, &end(FinishReason::Length), &mut out));
    let chunk = |choices: Value, usage: Value| {
        json!({
            "id": "cmpl-r1", "object": "text_completion", "created": 7, "model": "builtin:haiku",
            "system_fingerprint": "fp", "choices": choices, "usage": usage,
        })
    };
    assert_eq!(
        events(&out),
        [
            chunk(
                json!([{"index": 0, "text": "x", "logprobs": null, "finish_reason": null}]),
                Value::Null
            ),
            chunk(
                json!([{"index": 0, "text": "", "logprobs": null, "finish_reason": "length"}]),
                Value::Null
            ),
            chunk(
                json!([]),
                json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0}})
            ),
            Value::Null,
        ]
    );
}

#[test]
fn logprobs_of_tokens_without_text_come_with_the_next_text() {
    let mut writer = chat(false, true);
    let mut out = Vec::new();
    writer.token(0, scored("", "h"), &mut out);
    assert_eq!(out, b"");
    writer.token(0, scored("hi", "i"), &mut out);
    writer.token(0, scored("", "</s>"), &mut out);
    assert!(writer.end(0, &end(FinishReason::Stop), &mut out));
    let one = |text: &str| {
        json!({"token": text, "logprob": -0.5, "bytes": text.as_bytes(), "top_logprobs":
            [{"token": text, "logprob": -0.5, "bytes": text.as_bytes()}]})
    };
    assert_eq!(
        events(&out),
        [
            chat_chunk(
                &json!({"index": 0, "delta": {"content": "hi"}, "finish_reason": null,
                "logprobs": {"content": [one("h"), one("i")], "refusal": null}})
            ),
            chat_chunk(
                &json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"})
            ),
            Value::Null,
        ]
    );
}

#[test]
fn logprobs_have_the_bytes_of_partial_characters() {
    let mut writer = chat(false, true);
    let mut out = Vec::new();
    let part = |t: &str, bytes: &[u8]| {
        let mut event = scored(t, "\u{fffd}");
        if let Some(logprob) = &mut event.logprob {
            logprob.bytes = bytes.to_vec();
        }
        event
    };
    writer.token(0, part("", &[0xc3]), &mut out);
    writer.token(0, part("é", &[0xa9]), &mut out);
    let content = events(&out)[0]["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(content[0]["bytes"], json!([0xc3]));
    assert_eq!(content[1]["bytes"], json!([0xa9]));
}

#[test]
fn completion_logprobs_are_parallel_arrays_with_offsets() {
    let mut writer = completion(false, true, 1);
    let mut out = Vec::new();
    writer.token(0, scored("hé", "hé"), &mut out);
    writer.token(0, scored("y", "y"), &mut out);
    writer.token(0, scored("", "z"), &mut out);
    assert!(writer.end(0, &end(FinishReason::Length), &mut out));
    let logprobs: Vec<_> = events(&out)
        .iter()
        .map(|event| event["choices"][0]["logprobs"].clone())
        .collect();
    let one = |text: &str, offset: u32| json!({"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5}], "text_offset": [offset]});
    assert_eq!(
        logprobs,
        [
            one("hé", 0),
            one("y", 2),
            one("z", 3),
            Value::Null,
            Value::Null
        ]
    );
}

#[test]
fn an_error_has_the_format_of_other_error_responses() {
    let mut out = Vec::new();
    let error = Diagnostic::new(Code::WorkerCrashed, "worker haiku-0 on local exited");
    chat(false, false).error(error, &mut out);
    assert_eq!(
        events(&out),
        [
            json!({"error": {"type": "server_error", "code": "WORKER_CRASHED", "param": null,
            "message": "worker haiku-0 on local exited", "details": {"code": "WORKER_CRASHED"}}})
        ]
    );
}

#[test]
fn call_pieces_become_deltas() {
    let mut writer = chat(false, false);
    let mut out = Vec::new();
    writer.token(0, call("So: ", 0, "f", ""), &mut out);
    writer.token(0, more(0, "{\"a\":"), &mut out);
    writer.token(0, call("", 1, "g", "{}"), &mut out);
    assert!(writer.end(0, &end(FinishReason::ToolCalls), &mut out));
    let delta = |delta: &Value| {
        chat_chunk(&json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}))
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
            chat_chunk(
                &json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "tool_calls"})
            ),
            Value::Null,
        ]
    );
}

#[test]
fn every_choice_of_a_chat_starts_with_its_role() {
    let head = head(OpenAiEndpoint::ChatCompletions);
    let mut writer = ChunkWriter::new(head, false, false, 2);
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    let role = |index: u32| {
        chat_chunk(
            &json!({"index": index, "logprobs": null, "finish_reason": null,
            "delta": {"role": "assistant", "content": "", "refusal": null}}),
        )
    };
    assert_eq!(events(&out), [role(0), role(1)]);
}

#[test]
fn chunks_have_the_index_of_their_choice_and_the_last_choice_ends_the_stream() {
    let mut writer = completion(true, true, 2);
    let mut out = Vec::new();
    writer.token(1, scored("", "h"), &mut out);
    writer.token(0, scored("a", "a"), &mut out);
    assert!(!writer.end(0, &end(FinishReason::Stop), &mut out));
    writer.token(1, scored("hi", "i"), &mut out);
    assert!(writer.end(1, &end(FinishReason::Length), &mut out));
    let events = events(&out);
    let choices: Vec<(&Value, &Value, &Value)> = events
        .iter()
        .filter(|event| !event["choices"][0].is_null())
        .map(|event| &event["choices"][0])
        .map(|c| (&c["index"], &c["text"], &c["finish_reason"]))
        .collect();
    assert_eq!(
        choices,
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
