use diagnostics::{Code, Diagnostic};
use proptest::prelude::*;
use serde_json::{Value, json};
use worker_contract::{
    Constraint, EndEvent, FinishReason, InferInput, InferRequest, Message, ReasoningOptions, Role,
    Sampling, SamplingValues, ToolCall, ToolChoice, ToolDefinition,
};

use super::*;
use crate::{
    ParsedRequest, ResponseFormat, ResponseWriter,
    testing::{
        any_json, any_tokens, assert_same, call, context, end, more, started, token, written,
    },
};

fn body() -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = body();
    body[field] = value;
    body
}

fn read(body: &Value) -> Result<ParsedRequest, Diagnostic> {
    parse(body, &context())
}

fn refused(body: &Value) -> (Code, String) {
    let error = read(body).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

fn messages(body: &Value) -> Vec<Message> {
    match read(body).unwrap().request.input {
        InferInput::Messages(messages) => messages,
        other => panic!("{other:?}"),
    }
}

fn writer(stream: bool) -> Box<dyn ResponseWriter> {
    let mut body = with("stop_sequences", json!(["x", "y"]));
    body["stream"] = json!(stream);
    read(&body).unwrap().writer
}

/// Returns name and data of each event.
fn events(bytes: &[u8]) -> Vec<(String, Value)> {
    std::str::from_utf8(bytes)
        .unwrap()
        .split_terminator("\n\n")
        .map(|event| {
            let (name, data) = event.split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            let name = name.strip_prefix("event: ").unwrap().to_owned();
            assert_eq!(data["type"], name.as_str());
            (name, data)
        })
        .collect()
}

/// Assembles the message from a stream, as Anthropic's clients do.
fn accumulated(events: &[(String, Value)]) -> Value {
    let mut message = Value::Null;
    let mut arguments = String::new();
    for (name, data) in events {
        let index = data["index"].as_u64().unwrap_or(0) as usize;
        match name.as_str() {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(content.len(), index);
                content.push(data["content_block"].clone());
                arguments.clear();
            }
            "content_block_delta" => {
                let block = &mut message["content"][index];
                if let Some(more) = data["delta"]["text"].as_str() {
                    let text = block["text"].as_str().unwrap().to_owned();
                    block["text"] = json!(text + more);
                } else {
                    arguments += data["delta"]["partial_json"].as_str().unwrap();
                }
            }
            "content_block_stop" if !arguments.is_empty() => {
                message["content"][index]["input"] = serde_json::from_str(&arguments).unwrap();
            }
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["usage"] = data["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

#[test]
fn a_full_request_becomes_an_infer_request() {
    let parsed = read(&json!({
        "model": "m", "max_tokens": 9, "stream": true, "temperature": 0, "top_k": 4, "top_p": 0.5,
        "stop_sequences": ["x"], "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"},
        "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "b"}],
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    }))
    .unwrap();
    assert_eq!(
        (parsed.model.as_str(), parsed.choices, parsed.format),
        ("m", 1, ResponseFormat::Events)
    );
    let input = InferInput::Messages(vec![
        Message::new(Role::System, "a\nb"),
        Message::new(Role::User, "hi"),
    ]);
    assert_eq!(
        parsed.request,
        InferRequest {
            max_tokens: Some(9),
            end_with_context: true,
            stop: vec!["x".into()],
            tools: vec![ToolDefinition {
                name: "f".into(),
                description: Some("d".into()),
                parameters: Some(json!({"type": "object"})),
                strict: false,
            }],
            tool_choice: ToolChoice::Named("f".into()),
            parallel_tool_calls: false,
            reasoning: ReasoningOptions {
                enabled: Some(false),
                ..ReasoningOptions::default()
            },
            constraint: Some(Constraint::JsonSchema(json!({"type": "object"}))),
            sampling: Sampling {
                values: SamplingValues {
                    temperature: Some(0.0),
                    top_p: Some(0.5),
                    top_k: Some(4),
                    ..SamplingValues::default()
                },
                ..Sampling::default()
            },
            ..InferRequest::new("r1".parse().unwrap(), input)
        }
    );
}

#[test]
fn tools_may_be_strict() {
    for (field, value) in [
        ("tool_choice", json!({"type": "auto"})),
        ("tool_choice", json!({"type": "any"})),
        (
            "output_config",
            json!({"format": {"type": "json_schema", "schema": {}}}),
        ),
    ] {
        let mut body = json!({
            "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],
            "tools": [{"name": "f", "strict": true, "input_schema": {}}],
        });
        body[field] = value;
        let tools = read(&body).unwrap().request.tools;
        assert!(tools[0].name == "f" && tools[0].strict);
    }
}

#[test]
fn calls_and_results_become_messages() {
    let body = with(
        "messages",
        json!([
            {"role": "user", "content": "sum"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "well"},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "and?"}]},
        ]),
    );
    assert_eq!(
        messages(&body),
        [
            Message::new(Role::User, "sum"),
            Message {
                tool_calls: vec![ToolCall {
                    id: "t1".into(),
                    name: "add".into(),
                    arguments: r#"{"a":1}"#.into(),
                }],
                ..Message::new(Role::Assistant, "well")
            },
            Message {
                name: Some("add".into()),
                tool_call_id: Some("t1".into()),
                ..Message::new(Role::Tool, "2")
            },
            Message::new(Role::User, "and?"),
        ]
    );
}

/// Claude Code sends these fields to every model.
#[test]
fn fields_that_never_change_the_output_are_ignored() {
    let plain = read(&body()).unwrap();
    for (field, value) in [
        ("output_config", json!({"effort": "high"})),
        (
            "context_management",
            json!({"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
        ),
        ("context_management", json!({})),
        ("mcp_servers", json!([])),
        ("metadata", json!({"user_id": "u"})),
        ("service_tier", json!("auto")),
    ] {
        assert_same(&read(&with(field, value)).unwrap(), &plain);
    }
    let mut cached = body();
    let cache = json!({"type": "ephemeral", "ttl": "1h"});
    cached["messages"][0]["content"] =
        json!([{"type": "text", "text": "hi", "cache_control": cache}]);
    assert_same(&read(&cached).unwrap(), &plain);
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let mut cached = tool.clone();
    cached["cache_control"] = cache;
    assert_same(
        &read(&with("tools", json!([cached]))).unwrap(),
        &read(&with("tools", json!([tool]))).unwrap(),
    );
}

#[test]
fn thinking_blocks_of_the_assistant_become_its_reasoning() {
    let body = with(
        "messages",
        json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
        ]),
    );
    assert_eq!(
        messages(&body)[1],
        Message {
            reasoning: Some("hm".into()),
            ..Message::new(Role::Assistant, "b")
        }
    );
    let of_user = json!([{"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}]);
    assert_eq!(
        refused(&with("messages", of_user)),
        (
            Code::UnsupportedParameter,
            "messages[0].content[0]".to_owned()
        )
    );
}

#[test]
fn consecutive_messages_of_one_role_are_joined() {
    let body = with(
        "messages",
        json!([
            {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c"}, {"role": "assistant", "content": ""},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u"}]},
        ]),
    );
    let roles: Vec<_> = messages(&body)
        .into_iter()
        .map(|m| (m.role, m.content))
        .collect();
    assert_eq!(
        roles,
        [
            (Role::User, "a\nb".to_owned()),
            (Role::Assistant, "c".to_owned()),
            (Role::Tool, String::new()),
            (Role::Tool, String::new()),
        ]
    );
}

#[test]
fn unsupported_and_invalid_fields_are_refused() {
    for (field, value, param) in [
        ("mcp_servers", json!([{}]), "mcp_servers"),
        ("container", json!("c"), "container"),
        (
            "context_management",
            json!({"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}),
            "context_management",
        ),
        (
            "context_management",
            json!({"edits": "clear_"}),
            "context_management",
        ),
        (
            "tools",
            json!([{"type": "web_search_20250305", "name": "w"}]),
            "tools[0].type",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]),
            "messages[0].content[0]",
        ),
    ] {
        assert_eq!(
            refused(&with(field, value)),
            (Code::UnsupportedParameter, param.to_owned())
        );
    }
    for (field, value, param) in [
        ("max_tokens", Value::Null, "max_tokens"),
        ("thinking", json!("high"), "thinking"),
        ("max_tokens", json!(-2), "max_tokens"),
        ("temperature", json!(1.5), "temperature"),
        ("top_k", json!(-1), "top_k"),
        ("stop_sequences", json!([""]), "stop_sequences"),
        ("messages", json!([]), "messages"),
        (
            "messages",
            json!([{"role": "king", "content": "x"}]),
            "messages[0].role",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{}]}]),
            "messages[0].content[0].type",
        ),
        (
            "output_config",
            json!({"effort": "bogus"}),
            "output_config.effort",
        ),
        ("tools", json!([{"name": "f"}]), "tools[0].input_schema"),
        (
            "tools",
            json!([{"name": "f", "input_schema": "object"}]),
            "tools[0].input_schema",
        ),
        ("tool_choice", json!({"type": "tool"}), "tool_choice.name"),
        ("tool_choice", json!({"type": "x"}), "tool_choice.type"),
        (
            "messages",
            json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "c"}]}]),
            "messages[0].content[0].input",
        ),
    ] {
        assert_eq!(
            refused(&with(field, value)),
            (Code::InvalidRequest, param.to_owned())
        );
    }
    assert_eq!(
        refused(&json!({"max_tokens": 1})),
        (Code::InvalidRequest, "model".to_owned())
    );
}

#[test]
fn a_stream_has_anthropics_format() {
    let tokens = vec![token("a"), token(""), token("b"), call("", 0, "f", "{}")];
    let out = written(writer(true), tokens, FinishReason::ToolCalls);
    let expected = [
        "event: message_start\ndata: ",
        r#"{"type":"message_start","message":{"id":"msg_r1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":2,"cache_creation_input_tokens":0,"cache_read_input_tokens":1,"output_tokens":0}}}"#,
        "\n\nevent: ping\ndata: ",
        r#"{"type":"ping"}"#,
        "\n\nevent: content_block_start\ndata: ",
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        "\n\nevent: content_block_delta\ndata: ",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
        "\n\nevent: content_block_delta\ndata: ",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}"#,
        "\n\nevent: content_block_stop\ndata: ",
        r#"{"type":"content_block_stop","index":0}"#,
        "\n\nevent: content_block_start\ndata: ",
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"id0","name":"f","input":{}}}"#,
        "\n\nevent: content_block_delta\ndata: ",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        "\n\nevent: content_block_stop\ndata: ",
        r#"{"type":"content_block_stop","index":1}"#,
        "\n\nevent: message_delta\ndata: ",
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":2,"cache_creation_input_tokens":0,"cache_read_input_tokens":1,"output_tokens":2}}"#,
        "\n\nevent: message_stop\ndata: ",
        r#"{"type":"message_stop"}"#,
        "\n\n",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
}

#[test]
fn a_document_has_anthropics_format() {
    let tokens = vec![
        token("a"),
        token("b"),
        call("", 0, "f", "{\"x\""),
        more(0, ":1}"),
        call("", 1, "g", "{\"y\":[2,\"z\"],\"cut"),
    ];
    let out = written(writer(false), tokens, FinishReason::Length);
    assert_eq!(
        serde_json::from_slice::<Value>(&out).unwrap(),
        json!({"id": "msg_r1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "text", "text": "ab"},
                {"type": "tool_use", "id": "id0", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "id1", "name": "g", "input": {"y": [2, "z"]}},
            ],
            "stop_reason": "max_tokens", "stop_sequence": null,
            "usage": {"input_tokens": 2, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 1, "output_tokens": 2}})
    );
}

#[test]
fn a_call_that_was_cut_off_can_be_sent_back() {
    for arguments in ["", "{", "{\"x", "{\"x\":\"ab", "no JSON"] {
        let tokens = vec![call("", 0, "f", arguments)];
        let out = written(writer(false), tokens, FinishReason::Length);
        let message: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(message["content"][0]["input"], json!({}), "{arguments}");
        let mut request = body();
        request["messages"] = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": message["content"]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "id0", "content": "cut off"}]},
        ]);
        read(&request).unwrap();
    }
}

#[test]
fn the_stop_sequence_that_ended_the_output_is_reported() {
    for stream in [true, false] {
        let mut writer = writer(stream);
        let mut out = Vec::new();
        let stopped = EndEvent {
            stop: Some(1),
            ..end(FinishReason::Stop)
        };
        assert!(writer.end(0, &stopped, &mut out));
        let message: Value = if stream {
            events(&out).remove(0).1["delta"].clone()
        } else {
            serde_json::from_slice(&out).unwrap()
        };
        assert_eq!(
            (&message["stop_reason"], &message["stop_sequence"]),
            (&json!("stop_sequence"), &json!("y"))
        );
    }
}

#[test]
fn the_partial_text_joins_all_text_blocks() {
    let mut writer = writer(false);
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    for token in [token("a"), call("b", 0, "f", "{}"), token("c")] {
        writer.token(0, token, &mut out);
    }
    assert_eq!((writer.partial_text().as_str(), out), ("abc", Vec::new()));
}

#[test]
fn errors_have_anthropics_types() {
    for (code, error_type) in [
        (Code::InvalidRequest, "invalid_request_error"),
        (Code::InvalidApiKey, "authentication_error"),
        (Code::OriginForbidden, "permission_error"),
        (Code::ModelNotFound, "not_found_error"),
        (Code::BodyTooLarge, "request_too_large"),
        (Code::QueueFull, "rate_limit_error"),
        (Code::AllSlotsBusy, "overloaded_error"),
        (Code::WorkerStalled, "timeout_error"),
        (Code::Internal, "api_error"),
    ] {
        let mut out = Vec::new();
        let error = Diagnostic::new(code, "m").correlation_id("r1");
        writer(true).error(error, &mut out);
        let (name, data) = events(&out).remove(0);
        assert_eq!(name, "error");
        assert_eq!(
            data,
            json!({"type": "error", "request_id": "r1", "error": {"type": error_type,
                "code": code, "message": "m", "correlation_id": "r1"}})
        );
    }
}

#[test]
fn a_token_count_includes_the_tools() {
    let body = with(
        "tools",
        json!([{"name": "w", "input_schema": {"type": "object"}}]),
    );
    let parsed = parse_token_count(&body).unwrap();
    let (count, request) = (parsed.request, read(&body).unwrap().request);
    assert_eq!(parsed.model, "m");
    assert_eq!((count.input, &count.tools), (request.input, &request.tools));
    assert_eq!(count.tools[0].name, "w");
}

proptest! {
    #[test]
    fn any_value_is_parsed_or_is_an_invalid_request(
        field in prop::sample::select(vec![
            "model", "messages", "system", "stream", "max_tokens", "stop_sequences", "tools", "top_k",
            "tool_choice", "thinking", "output_config", "temperature", "context_management",
        ]),
        value in any_json(),
        block in any_json(),
    ) {
        let block = json!([{"role": "user", "content": [block]}]);
        for body in [with(field, value.clone()), with("messages", block), value] {
            for error in [read(&body).err(), parse_token_count(&body).err()].into_iter().flatten() {
                prop_assert!(matches!(error.code, Code::InvalidRequest | Code::UnsupportedParameter));
                prop_assert!(!error.message.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn the_events_of_a_stream_add_up_to_the_document(tokens in any_tokens()) {
        let streamed = written(writer(true), tokens.clone(), FinishReason::Stop);
        let document = written(writer(false), tokens, FinishReason::Stop);
        let document: Value = serde_json::from_slice(&document).unwrap();
        prop_assert_eq!(accumulated(&events(&streamed)), document);
    }
}
