//! Reasoning in the requests and responses of all dialects.

use serde_json::{Value, json};
use worker_contract::{
    FinishReason, InferInput, ReasoningOptions, Role, TokenEvent, TokenizeRequest,
};

use crate::{
    ParsedRequest, anthropic, ollama,
    openai::{self, OpenAiEndpoint},
    testing::{context, scored, token, written},
};

fn chat(fields: Value) -> Value {
    let mut body = json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}],
    });
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            body[name] = value;
        }
    }
    body
}

fn openai(fields: Value) -> ParsedRequest {
    openai::parse(OpenAiEndpoint::ChatCompletions, &chat(fields), &context()).unwrap()
}

fn ollama(endpoint: ollama::OllamaEndpoint, fields: Value) -> ParsedRequest {
    ollama::parse(endpoint, &chat(fields), &context()).unwrap()
}

fn anthropic(fields: Value) -> ParsedRequest {
    anthropic::parse(&chat(fields), &context()).unwrap()
}

/// Two tokens of reasoning, then two of the answer.
fn tokens() -> Vec<TokenEvent> {
    let thought = |text: &str| TokenEvent {
        reasoning: text.into(),
        ..token("")
    };
    vec![
        thought("h"),
        thought("m"),
        token(""),
        token("y"),
        token("es"),
    ]
}

fn response(parsed: ParsedRequest) -> String {
    String::from_utf8(written(parsed.writer, tokens(), FinishReason::Stop)).unwrap()
}

fn document(parsed: ParsedRequest) -> Value {
    serde_json::from_str(&response(parsed)).unwrap()
}

#[test]
fn openai_has_reasoning_under_both_names() {
    let message = &document(openai(json!({})))["choices"][0]["message"];
    assert_eq!(message["content"], "yes");
    assert_eq!(message["reasoning_content"], "hm");
    assert_eq!(message["reasoning"], "hm");
    let streamed = response(openai(json!({"stream": true})));
    for part in [
        r#""delta":{"reasoning_content":"h","reasoning":"h"},"logprobs":null,"finish_reason":null}]"#,
        r#""delta":{"reasoning_content":"m","reasoning":"m"}"#,
        r#""delta":{"content":"y"}"#,
    ] {
        assert!(streamed.contains(part), "{part} not in {streamed}");
    }
}

#[test]
fn openai_hides_reasoning_on_request() {
    for hide in [
        json!({"include_reasoning": false}),
        json!({"reasoning": {"exclude": true}}),
        json!({"include_reasoning": false, "stream": true}),
    ] {
        let written = response(openai(hide));
        assert!(!written.contains("reasoning_content"), "{written}");
        assert!(
            written.contains("yes") || written.contains("\"es\""),
            "{written}"
        );
    }
}

/// Tokens of "hm" as reasoning and "yes" as text, with marks and an end token.
fn scored_tokens() -> Vec<TokenEvent> {
    let thought = |text: &str| TokenEvent {
        reasoning: text.into(),
        ..scored("", text)
    };
    vec![
        scored("", "<think>"),
        thought("h"),
        thought("m"),
        scored("", "</think>"),
        scored("", "\n\n"),
        // Text that could have been a stop sequence.
        scored("", "y"),
        scored("yes", "es"),
        scored("", "end"),
    ]
}

fn score_tokens(scores: &Value) -> Vec<&str> {
    let scores = scores.as_array().unwrap().iter();
    scores.map(|s| s["token"].as_str().unwrap()).collect()
}

#[test]
fn log_probabilities_are_those_of_the_content() {
    for extra in [json!({}), json!({"include_reasoning": false})] {
        let mut fields = extra;
        fields["logprobs"] = json!(true);
        let parsed = openai(fields.clone());
        let whole = written(parsed.writer, scored_tokens(), FinishReason::Stop);
        let document: Value = serde_json::from_slice(&whole).unwrap();
        let scores = &document["choices"][0]["logprobs"]["content"];
        assert_eq!(score_tokens(scores), ["y", "es"], "{fields}");
        fields["stream"] = json!(true);
        let parsed = openai(fields);
        let stream = written(parsed.writer, scored_tokens(), FinishReason::Stop);
        let stream = String::from_utf8(stream).unwrap();
        for token in ["h", "m", "<think>", "</think>", "end"] {
            assert!(
                !stream.contains(&format!(r#""token":"{token}""#)),
                "{stream}"
            );
        }
        assert!(stream.contains(r#""token":"y""#), "{stream}");
    }
}

#[test]
fn reasoning_without_an_answer_has_no_log_probabilities() {
    for reason in [FinishReason::Length, FinishReason::Stop] {
        let tokens = scored_tokens().into_iter().take(4).collect();
        let parsed = openai(json!({"logprobs": true}));
        let whole = written(parsed.writer, tokens, reason);
        let document: Value = serde_json::from_slice(&whole).unwrap();
        let scores = &document["choices"][0]["logprobs"]["content"];
        assert_eq!(scores, &json!([]), "{reason:?}");
    }
}

#[test]
fn ollama_has_thinking() {
    use ollama::OllamaEndpoint::{Chat, Generate};
    let whole = document(ollama(Chat, json!({"stream": false})));
    assert_eq!(
        whole["message"],
        json!({"role": "assistant", "content": "yes", "thinking": "hm"})
    );
    let whole = document(ollama(Generate, json!({"stream": false, "prompt": "a"})));
    assert_eq!(
        (&whole["response"], &whole["thinking"]),
        (&json!("yes"), &json!("hm"))
    );
    let lines = response(ollama(Chat, json!({})));
    let lines: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        lines[0]["message"],
        json!({"role": "assistant", "content": "", "thinking": "h"})
    );
    assert_eq!(
        lines[2]["message"],
        json!({"role": "assistant", "content": "y"})
    );
}

#[test]
fn anthropic_has_thinking_blocks_if_they_are_enabled() {
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let enabled = json!({"max_tokens": 2000, "thinking": thinking});
    let content = &document(anthropic(enabled))["content"];
    assert_eq!(content[0]["type"], "thinking");
    assert_eq!(content[0]["thinking"], "hm");
    assert!(
        content[0]["signature"]
            .as_str()
            .is_some_and(|s| !s.is_empty())
    );
    assert_eq!(content[1], json!({"type": "text", "text": "yes"}));
    for hidden in [json!({}), json!({"thinking": {"type": "disabled"}})] {
        let content = &document(anthropic(hidden))["content"];
        assert_eq!(*content, json!([{"type": "text", "text": "yes"}]));
    }
    let streamed = response(anthropic(
        json!({"stream": true, "thinking": {"type": "adaptive"}}),
    ));
    let parts = [
        r#""content_block":{"type":"thinking","thinking":"","signature":""}"#,
        r#"{"type":"thinking_delta","thinking":"h"}"#,
        r#"{"type":"thinking_delta","thinking":"m"}"#,
        r#"{"type":"signature_delta","signature":"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#""content_block":{"type":"text","text":""}"#,
        r#"{"type":"text_delta","text":"y"}"#,
    ];
    let positions: Vec<Option<usize>> = parts.iter().map(|part| streamed.find(part)).collect();
    assert!(
        positions.iter().all(Option::is_some) && positions.is_sorted(),
        "{streamed}"
    );
}

#[test]
fn anthropic_thinking_becomes_options() {
    for (fields, enabled, effort, max_tokens) in [
        (
            json!({"output_config": {"effort": "high"}}),
            None,
            None,
            None,
        ),
        (
            json!({"max_tokens": 32000, "thinking": {"type": "enabled", "budget_tokens": 31999}}),
            Some(true),
            None,
            Some(31999),
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            Some(true),
            Some("high"),
            None,
        ),
        (
            json!({"thinking": {"type": "disabled"}}),
            Some(false),
            None,
            None,
        ),
    ] {
        let expected = ReasoningOptions {
            enabled,
            effort: effort.map(str::to_owned),
            max_tokens,
            ..ReasoningOptions::default()
        };
        assert_eq!(
            anthropic(fields.clone()).request.reasoning,
            expected,
            "{fields}"
        );
        let count = anthropic::parse_token_count(&chat(fields)).unwrap().request;
        let TokenizeRequest { reasoning, .. } = count;
        assert_eq!(reasoning, expected);
    }
    for (thinking, param) in [
        (json!({"type": "enabled"}), "thinking.budget_tokens"),
        (
            json!({"type": "enabled", "budget_tokens": 0}),
            "thinking.budget_tokens",
        ),
        (
            json!({"type": "enabled", "budget_tokens": 1023}),
            "thinking.budget_tokens",
        ),
        (
            json!({"type": "enabled", "budget_tokens": 2000}),
            "thinking.budget_tokens",
        ),
        (json!({"type": "other"}), "thinking.type"),
    ] {
        let fields = chat(json!({"max_tokens": 2000, "thinking": thinking}));
        let error = anthropic::parse(&fields, &context()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param));
    }
}

/// Reasoning of the assistant reaches the template, that of other roles does not.
#[test]
fn earlier_reasoning_is_part_of_its_message() {
    let turns = |name: &str| {
        json!({"messages": [
            {"role": "user", "content": "a", name: "x"},
            {"role": "assistant", "content": "b", name: "hm"},
            {"role": "user", "content": "c"},
        ]})
    };
    for parsed in [
        openai(turns("reasoning_content")),
        openai(turns("reasoning")),
        ollama(ollama::OllamaEndpoint::Chat, turns("thinking")),
    ] {
        let InferInput::Messages(messages) = parsed.request.input else {
            panic!("no messages");
        };
        let reasoning: Vec<_> = messages.iter().map(|m| m.reasoning.as_deref()).collect();
        assert_eq!(reasoning, [None, Some("hm"), None]);
        assert_eq!(messages[1].role, Role::Assistant);
    }
}
