use diagnostics::{Code, Diagnostic};
use proptest::prelude::*;
use serde_json::{Value, json};
use worker_contract::{FinishReason, TokenEvent};

use super::request::parse;
use crate::{
    ResponseWriter,
    testing::{any_tokens, call, context, end, more, scored, started, token, written},
};

fn writer(fields: &Value) -> Box<dyn ResponseWriter> {
    let mut body = json!({"model": "m", "input": "hi"});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    parse(&body, &context()).unwrap().writer
}

fn reasoned(text: &str) -> TokenEvent {
    TokenEvent {
        reasoning: text.into(),
        ..token("")
    }
}

fn document(fields: &Value, tokens: Vec<TokenEvent>, reason: FinishReason) -> Value {
    serde_json::from_slice(&written(writer(fields), tokens, reason)).unwrap()
}

/// Returns the data of all events, whose names are checked.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let blocks: Vec<_> = text.split_terminator("\n\n").collect();
    let parsed = blocks.iter().enumerate().map(|(i, block)| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
        assert_eq!(data["sequence_number"], i);
        data
    });
    parsed.collect()
}

fn streamed(fields: Value, tokens: Vec<TokenEvent>, reason: FinishReason) -> Vec<Value> {
    let mut fields = fields;
    fields["stream"] = json!(true);
    events(&written(writer(&fields), tokens, reason))
}

fn types(events: &[Value]) -> Vec<&str> {
    let types = events.iter().map(|event| event["type"].as_str().unwrap());
    types
        .map(|t| t.strip_prefix("response.").unwrap_or(t))
        .collect()
}

#[test]
fn a_document_has_the_items_in_order() {
    let tokens = vec![
        reasoned("w"),
        reasoned("hy"),
        token("a"),
        token("b"),
        call("", 0, "f", "{"),
        more(0, "}"),
        call("", 1, "g", "{}"),
    ];
    let document = document(
        &json!({"instructions": "i", "metadata": {"k": "v"}, "user": "u"}),
        tokens,
        FinishReason::Stop,
    );
    assert_eq!(
        document["output"],
        json!([
            {"type": "reasoning", "id": "rs_r1_0", "status": "completed", "summary": [],
             "content": [{"type": "reasoning_text", "text": "why"}]},
            {"type": "message", "id": "msg_r1_1", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_r1_2", "call_id": "id0", "name": "f",
             "arguments": "{}", "status": "completed"},
            {"type": "function_call", "id": "fc_r1_3", "call_id": "id1", "name": "g",
             "arguments": "{}", "status": "completed"},
        ])
    );
    for (field, value) in [
        ("id", json!("resp_r1")),
        ("object", json!("response")),
        ("created_at", json!(7)),
        ("status", json!("completed")),
        ("error", json!(null)),
        ("incomplete_details", json!(null)),
        ("instructions", json!("i")),
        ("metadata", json!({"k": "v"})),
        ("user", json!("u")),
        ("store", json!(false)),
        ("previous_response_id", json!(null)),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("text", json!({"format": {"type": "text"}})),
        (
            "usage",
            json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1},
            "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5}),
        ),
    ] {
        assert_eq!(document[field], value, "{field}");
    }
}

#[test]
fn a_stream_has_openais_sequence_of_events() {
    let tokens = vec![
        reasoned("why"),
        token("a"),
        token("b"),
        call("", 0, "f", ""),
        more(0, "{}"),
    ];
    let events = streamed(json!({}), tokens, FinishReason::ToolCalls);
    assert_eq!(
        types(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[0]["response"]["usage"], json!(null));
    assert_eq!(
        events[8],
        json!({"type": "response.output_item.added", "sequence_number": 8, "output_index": 1,
            "item": {"type": "message", "id": "msg_r1_1", "status": "in_progress",
                     "role": "assistant", "content": []}})
    );
    assert_eq!(
        events[10],
        json!({"type": "response.output_text.delta", "sequence_number": 10,
            "item_id": "msg_r1_1", "output_index": 1, "content_index": 0, "delta": "a",
            "logprobs": []})
    );
    assert_eq!(
        events[12],
        json!({"type": "response.output_text.done", "sequence_number": 12,
            "item_id": "msg_r1_1", "output_index": 1, "content_index": 0, "text": "ab",
            "logprobs": []})
    );
    assert_eq!(
        events[17],
        json!({"type": "response.function_call_arguments.done", "sequence_number": 17,
            "item_id": "fc_r1_2", "output_index": 2, "name": "f", "arguments": "{}"})
    );
    let response = &events[19]["response"];
    assert_eq!(response["status"], "completed");
    let done: Vec<_> = [7, 14, 18]
        .iter()
        .map(|i| events[*i]["item"].clone())
        .collect();
    assert_eq!(response["output"], json!(done));
}

#[test]
fn a_requested_summary_is_the_reasoning() {
    let fields = json!({"reasoning": {"effort": "low", "summary": "auto"}});
    let tokens = || vec![reasoned("wh"), reasoned("y"), token("a")];
    let document = document(&fields, tokens(), FinishReason::Stop);
    assert_eq!(document["reasoning"], fields["reasoning"]);
    assert_eq!(
        document["output"][0]["summary"],
        json!([{"type": "summary_text", "text": "why"}])
    );
    assert_eq!(document["output"][0]["content"], json!([]));
    let events = streamed(fields, tokens(), FinishReason::Stop);
    assert_eq!(
        types(&events)[2..9],
        [
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
        ]
    );
    assert_eq!(events[6]["summary_index"], 0);
    assert_eq!(events[6]["text"], "why");
}

#[test]
fn an_output_that_is_cut_off_is_incomplete() {
    let document = document(&json!({}), vec![token("a")], FinishReason::Length);
    assert_eq!(document["status"], "incomplete");
    assert_eq!(
        document["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    assert_eq!(document["output"][0]["status"], "incomplete");
    let events = streamed(json!({}), vec![token("a")], FinishReason::Length);
    assert_eq!(types(&events).last(), Some(&"incomplete"));
}

#[test]
fn an_empty_output_is_an_empty_message() {
    let document = document(&json!({}), Vec::new(), FinishReason::Stop);
    assert_eq!(document["output"][0]["content"][0]["text"], "");
    assert_eq!(document["output"].as_array().unwrap().len(), 1);
}

#[test]
fn logprobs_are_reported_with_the_text() {
    let fields = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 1});
    let tokens = || vec![scored("", "h"), scored("hi", "i"), scored("", "</s>")];
    let document = document(&fields, tokens(), FinishReason::Stop);
    let logprobs = &document["output"][0]["content"][0]["logprobs"];
    let texts: Vec<_> = logprobs
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["token"])
        .collect();
    assert_eq!(texts, ["h", "i"]);
    let events = streamed(fields, tokens(), FinishReason::Stop);
    assert_eq!(&events[4]["logprobs"], logprobs);
    assert_eq!(&events[5]["logprobs"], logprobs);
}

#[test]
fn an_error_ends_a_stream_as_a_failed_response() {
    let mut writer = writer(&json!({"stream": true}));
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    writer.token(0, token("a"), &mut out);
    let error = Diagnostic::new(Code::WorkerCrashed, "it crashed").param("input");
    writer.error(error, &mut out);
    let events = events(&out);
    assert_eq!(types(&events)[5..], ["error", "failed"]);
    assert_eq!(events[5]["message"], "it crashed");
    assert_eq!(events[5]["param"], "input");
    assert_eq!(events[5]["code"], events[5]["error"]["code"]);
    let response = &events[6]["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(
        response["error"],
        json!({"code": "server_error", "message": "it crashed"})
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
}

#[test]
fn the_partial_text_is_that_of_the_messages() {
    let mut writer = writer(&json!({}));
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    for token in [
        reasoned("r"),
        token("a"),
        call("", 0, "f", "{}"),
        token("b"),
    ] {
        writer.token(0, token, &mut out);
    }
    assert_eq!(writer.partial_text(), "ab");
    assert_eq!(out, b"");
}

proptest! {
    /// The deltas of a stream are the document, and so are the items of its last event.
    #[test]
    fn stream_and_document_have_the_same_output(tokens in any_tokens()) {
        let whole = document(&json!({}), tokens.clone(), FinishReason::Stop);
        let events = streamed(json!({}), tokens, FinishReason::Stop);
        prop_assert_eq!(&events.last().unwrap()["response"], &whole);
        let mut texts = vec![String::new(); whole["output"].as_array().unwrap().len()];
        for event in &events {
            if let Some(delta) = event["delta"].as_str() {
                let index = event["output_index"].as_u64().unwrap() as usize;
                prop_assert_eq!(&event["item_id"], &whole["output"][index]["id"]);
                texts[index].push_str(delta);
            }
        }
        for (text, item) in texts.iter().zip(whole["output"].as_array().unwrap()) {
            let expected = match item["type"].as_str().unwrap() {
                "message" => &item["content"][0]["text"],
                _ => &item["arguments"],
            };
            prop_assert_eq!(text, expected.as_str().unwrap());
        }
        let ended = end(FinishReason::Stop);
        prop_assert_eq!(&whole["usage"]["output_tokens"], ended.usage.completion_tokens);
    }
}
