use serde_json::{Value, json};
use worker_contract::{FinishReason, ToolChoice};

use super::*;
use crate::testing::{call, context, end, more, scored, token};

fn writer(endpoint: OpenAiEndpoint, logprobs: bool, choices: u32) -> DocumentWriter {
    let model = "builtin:haiku".to_owned();
    let head = ResponseHead::new(endpoint, model, &ToolChoice::Auto, &context());
    DocumentWriter::new(head, logprobs, choices)
}

/// Returns the document of a response whose only choice has these tokens.
fn document(mut writer: DocumentWriter, tokens: Vec<TokenEvent>) -> Value {
    let mut out = Vec::new();
    for token in tokens {
        writer.token(0, token, &mut out);
    }
    assert_eq!(out, b"", "a document is written when it is complete");
    assert!(writer.end(0, &end(FinishReason::Stop), &mut out));
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_document_has_openais_format() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0}});
    assert_eq!(
        document(
            writer(OpenAiEndpoint::ChatCompletions, false, 1),
            vec![token("a"), token("b")]
        ),
        json!({"id": "chatcmpl-r1", "object": "chat.completion", "created": 7,
            "model": "builtin:haiku", "system_fingerprint": "fp", "usage": usage,
            "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "ab", "refusal": null}}]})
    );
    assert_eq!(
        document(
            writer(OpenAiEndpoint::Completions, false, 1),
            vec![token("a"), token("b")]
        ),
        json!({"id": "cmpl-r1", "object": "text_completion", "created": 7,
            "model": "builtin:haiku", "system_fingerprint": "fp", "usage": usage,
            "choices": [{"index": 0, "text": "ab", "logprobs": null, "finish_reason": "stop"}]})
    );
}

#[test]
fn logprobs_omit_tokens_without_text_at_the_end() {
    let tokens = vec![scored("", "h"), scored("hi", "i"), scored("", "</s>")];
    let document = document(writer(OpenAiEndpoint::Completions, true, 1), tokens);
    assert_eq!(
        document["choices"][0]["logprobs"],
        json!({"tokens": ["h", "i"], "token_logprobs": [-0.5, -0.5],
            "top_logprobs": [{"h": -0.5}, {"i": -0.5}], "text_offset": [0, 1]})
    );
}

#[test]
fn call_pieces_are_joined_and_content_is_null_without_text() {
    let mut writer = writer(OpenAiEndpoint::ChatCompletions, false, 2);
    let mut out = Vec::new();
    writer.token(0, call("", 0, "f", "{\"a\""), &mut out);
    writer.token(1, call("Let me see.", 0, "g", "{}"), &mut out);
    writer.token(0, more(0, ":1}"), &mut out);
    writer.token(0, call("", 1, "g", "{}"), &mut out);
    assert!(!writer.end(1, &end(FinishReason::ToolCalls), &mut out));
    assert!(writer.end(0, &end(FinishReason::ToolCalls), &mut out));
    let body: Value = serde_json::from_slice(&out).unwrap();
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
    let mut writer = writer(OpenAiEndpoint::Completions, false, 3);
    let mut out = Vec::new();
    for (choice, text) in [(2, "c"), (0, "a"), (1, "b")] {
        assert_eq!(out, b"", "choices are left");
        writer.token(choice, token(text), &mut out);
        let mut event = end(FinishReason::Stop);
        // The other choices find the prompt in the cache.
        event.usage.cached_tokens = if choice == 0 { 1 } else { 3 };
        assert_eq!(writer.end(choice, &event, &mut out), choice == 1);
    }
    let body: Value = serde_json::from_slice(&out).unwrap();
    let choice = |index: u32, text: &str| json!({"index": index, "text": text, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(
        body["choices"],
        json!([choice(0, "a"), choice(1, "b"), choice(2, "c")])
    );
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0}})
    );
}

#[test]
fn the_partial_text_is_that_of_the_first_choice() {
    let mut writer = writer(OpenAiEndpoint::ChatCompletions, false, 2);
    let mut out = Vec::new();
    assert_eq!(writer.partial_text(), "");
    for (choice, text) in [(0, "a"), (1, "x"), (0, "b")] {
        writer.token(choice, token(text), &mut out);
    }
    assert_eq!(writer.partial_text(), "ab");
}
