use diagnostics::Code;
use proptest::prelude::*;
use serde_json::{Value, json};
use worker_contract::{
    FinishReason, InferInput, Message, Role, ToolCall, ToolChoice, ToolDefinition,
};

use super::*;
use crate::testing::any_json;

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn chat() -> Value {
    json!({"model": "builtin:haiku", "messages": [{"role": "user", "content": "hi"}]})
}

fn text() -> Value {
    json!({"model": "builtin:haiku", "prompt": "hi"})
}

fn refused(edge: Edge, body: &Value) -> (Code, String) {
    let error = Call::parse(edge, body).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

#[test]
fn a_full_chat_request_becomes_an_infer_request() {
    let call = Call::parse(
        Edge::Chat,
        &json!({
            "model": "builtin:haiku", "stream": true, "stream_options": {"include_usage": true},
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": "c", "refusal": null, "tool_calls": []},
            ],
            "max_completion_tokens": 9, "temperature": 0, "top_p": 0.9, "seed": -1, "stop": "x",
            "logprobs": true, "top_logprobs": 3, "logit_bias": {"5": -100},
            "frequency_penalty": 0.5, "presence_penalty": -2, "top_k": 4, "min_p": 0.1,
            "repetition_penalty": 1.1, "n": 3, "tools": null, "user": "u", "made_up": {"x": 1},
            "response_format": {"type": "text"},
        }),
    )
    .unwrap();
    assert!(call.stream && call.include_usage);
    assert_eq!((call.logprobs, call.choices), (Some(3), 3));
    let request = call.into_request("r".parse().unwrap(), None);
    let message = |role, content: &str| Message::new(role, content);
    assert_eq!(
        request.input,
        InferInput::Messages(vec![
            message(Role::System, "be brief"),
            message(Role::User, "ab"),
            message(Role::Assistant, "c"),
        ])
    );
    assert_eq!(request.max_tokens, Some(9));
    assert!(!request.end_with_context);
    assert_eq!(request.stop, ["x"]);
    assert_eq!(
        request.sampling,
        Sampling {
            temperature: 0.0,
            top_p: 0.9,
            top_k: 4,
            min_p: 0.1,
            repetition_penalty: 1.1,
            frequency_penalty: 0.5,
            presence_penalty: -2.0,
            logit_bias: vec![(5, -100.0)],
            seed: Some(u64::MAX),
            choice: 0,
        }
    );
}

fn with_tools(tools: Value) -> Value {
    with(chat(), "tools", tools)
}

#[test]
fn tools_calls_and_results_become_those_of_an_infer_request() {
    let body = json!({
        "model": "m", "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "strict": false,
                "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "g"}},
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\":1}"}},
            ]},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "21"}]},
            {"role": "tool", "tool_call_id": "z", "content": "", "name": "h"},
        ],
    });
    let call = Call::parse(Edge::Chat, &body).unwrap();
    let request = call.into_request("r".parse().unwrap(), None);
    assert_eq!(
        request.tools,
        [
            ToolDefinition {
                name: "f".into(),
                description: Some("d".into()),
                parameters: Some(json!({"type": "object"})),
            },
            ToolDefinition {
                name: "g".into(),
                description: None,
                parameters: None,
            },
        ]
    );
    assert_eq!(request.tool_choice, ToolChoice::Named("g".into()));
    assert!(!request.parallel_tool_calls);
    let called = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let result = |id: &str, name: &str, content: &str| Message {
        tool_call_id: Some(id.into()),
        name: Some(name.into()),
        ..Message::new(Role::Tool, content)
    };
    assert_eq!(
        request.input,
        InferInput::Messages(vec![
            Message::new(Role::User, "?"),
            Message {
                tool_calls: vec![called("a", "f", "{}"), called("b", "g", "{\"x\":1}")],
                ..Message::new(Role::Assistant, "")
            },
            // Named by the call that it is the result of.
            result("b", "g", "21"),
            result("z", "h", ""),
        ])
    );
    for (choice, expected) in [
        (json!("none"), ToolChoice::None),
        (json!("auto"), ToolChoice::Auto),
        (json!("required"), ToolChoice::Required),
        (Value::Null, ToolChoice::Auto),
    ] {
        let call = Call::parse(Edge::Chat, &with(body.clone(), "tool_choice", choice)).unwrap();
        assert_eq!(call.tool_choice, expected);
    }
}

#[test]
fn whoever_speaks_may_have_a_name() {
    for role in ["system", "user", "assistant"] {
        let messages = json!([{"role": role, "content": "x", "name": "bob"}]);
        let call = Call::parse(Edge::Chat, &with(chat(), "messages", messages)).unwrap();
        let InferInput::Messages(messages) = call.input else {
            panic!("{:?}", call.input)
        };
        assert_eq!(messages[0].name.as_deref(), Some("bob"), "{role}");
    }
}

#[test]
fn tools_may_be_strict() {
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true}}]);
    let strict = with_tools(tools);
    for (field, value) in [
        ("tool_choice", json!("auto")),
        ("tool_choice", json!("required")),
        ("tool_choice", json!("none")),
        (
            "tool_choice",
            json!({"type": "function", "function": {"name": "f"}}),
        ),
        ("response_format", json!({"type": "json_object"})),
    ] {
        let call = Call::parse(Edge::Chat, &with(strict.clone(), field, value)).unwrap();
        assert_eq!(call.tools.len(), 1);
    }
}

/// A model reads them as their author wrote them, and writes arguments in this order.
#[test]
fn parameters_keep_the_order_of_their_keys() {
    let written = r#"{"properties":{"street":{},"number":{},"city":{}},"type":"object"}"#;
    let body = format!(
        r#"{{"model": "m", "messages": [{{"role": "user", "content": "x"}}],
            "tools": [{{"type": "function", "function": {{"name": "f", "parameters": {written}}}}}]}}"#
    );
    let call = Call::parse(Edge::Chat, &serde_json::from_str(&body).unwrap()).unwrap();
    let request = call.into_request("r".parse().unwrap(), None);
    let sent = serde_json::to_string(&request).unwrap();
    assert!(sent.contains(written), "{sent}");
}

#[test]
fn a_function_that_was_named_ends_with_stop() {
    let named = ToolChoice::Named("f".into());
    for (choice, reason, told) in [
        (&named, FinishReason::ToolCalls, FinishReason::Stop),
        (&named, FinishReason::Length, FinishReason::Length),
        (
            &ToolChoice::Required,
            FinishReason::ToolCalls,
            FinishReason::ToolCalls,
        ),
        (
            &ToolChoice::Auto,
            FinishReason::ToolCalls,
            FinishReason::ToolCalls,
        ),
    ] {
        assert_eq!(told_reason(choice, reason), told);
    }
}

#[test]
fn wrong_tools_are_refused_by_name() {
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (tools, code, param) in [
        (json!({}), Code::InvalidRequest, "tools"),
        (json!([{}]), Code::InvalidRequest, "tools[0]"),
        (
            json!([{"type": "function"}]),
            Code::InvalidRequest,
            "tools[0].function",
        ),
        (
            json!([named("f"), named("")]),
            Code::InvalidRequest,
            "tools[1].function.name",
        ),
        (
            json!([named("a b")]),
            Code::InvalidRequest,
            "tools[0].function.name",
        ),
        (
            json!([named("f"), named("f")]),
            Code::InvalidRequest,
            "tools[1].function.name",
        ),
        (json!(vec![named("f"); 129]), Code::InvalidRequest, "tools"),
        (
            json!([{"type": "function", "function": {"name": "f", "parameters": 1}}]),
            Code::InvalidRequest,
            "tools[0].function.parameters",
        ),
        (
            json!([{"type": "custom"}]),
            Code::UnsupportedParameter,
            "tools[0].type",
        ),
    ] {
        assert_eq!(
            refused(Edge::Chat, &with_tools(tools.clone())),
            (code, param.to_owned()),
            "{tools}"
        );
    }
    for choice in [json!("required"), json!("any"), json!(5), named("f")] {
        let (code, param) = refused(Edge::Chat, &with(chat(), "tool_choice", choice.clone()));
        assert_eq!(
            (code, param.as_str()),
            (Code::InvalidRequest, "tool_choice"),
            "{choice}"
        );
    }
    for (message, param) in [
        (
            json!({"role": "tool", "content": "x"}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"role": "tool", "tool_call_id": "a"}),
            "messages[0].content",
        ),
        (
            json!({"role": "user", "content": "x", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            "messages[0].tool_calls",
        ),
        (
            json!({"role": "assistant", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            json!({"role": "assistant", "content": null}),
            "messages[0].content",
        ),
    ] {
        assert_eq!(
            refused(Edge::Chat, &with(chat(), "messages", json!([message]))),
            (Code::InvalidRequest, param.to_owned())
        );
    }
}

#[test]
fn the_forms_of_a_prompt() {
    let parse = |prompt| {
        Call::parse(Edge::Completion, &with(text(), "prompt", prompt)).map(|call| call.input)
    };
    assert_eq!(parse(json!("a")).unwrap(), InferInput::Prompt("a".into()));
    assert_eq!(parse(json!(["a"])).unwrap(), InferInput::Prompt("a".into()));
    assert_eq!(
        parse(json!([1, 2])).unwrap(),
        InferInput::Tokens(vec![1, 2])
    );
    assert_eq!(parse(json!([[1]])).unwrap(), InferInput::Tokens(vec![1]));
    assert_eq!(
        parse(json!(["a", "b"])).unwrap_err().code,
        Code::UnsupportedParameter
    );
    for wrong in [
        json!(7),
        json!([]),
        json!([-1]),
        json!([1.5]),
        json!({}),
        Value::Null,
    ] {
        assert_eq!(
            parse(wrong.clone()).unwrap_err().code,
            Code::InvalidRequest,
            "{wrong}"
        );
    }
    assert_eq!(
        Call::parse(Edge::Completion, &text()).unwrap().max_tokens,
        Some(16)
    );
}

#[test]
fn what_cannot_change_the_answer_is_ignored() {
    let plain = Call::parse(Edge::Chat, &chat()).unwrap();
    for (field, value) in [
        ("store", json!(true)),
        ("service_tier", json!("flex")),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("reasoning_effort", json!("high")),
        ("verbosity", json!("low")),
    ] {
        let call = Call::parse(Edge::Chat, &with(chat(), field, value)).unwrap();
        assert_eq!(call, plain, "{field}");
    }
}

#[test]
fn what_is_known_and_not_supported_is_never_ignored() {
    for (field, value) in [
        ("tool_choice", json!({"type": "allowed_tools"})),
        ("functions", json!([{}])),
        ("function_call", json!({"name": "f"})),
        ("audio", json!({"voice": "x"})),
        ("modalities", json!(["text", "audio"])),
        ("web_search_options", json!({})),
    ] {
        assert_eq!(
            refused(Edge::Chat, &with(chat(), field, value)),
            (Code::UnsupportedParameter, field.to_owned())
        );
    }
    for (field, value) in [
        ("best_of", json!(2)),
        ("echo", json!(true)),
        ("suffix", json!("x")),
    ] {
        assert_eq!(
            refused(Edge::Completion, &with(text(), field, value)),
            (Code::UnsupportedParameter, field.to_owned())
        );
    }
    for (message, param) in [
        (
            json!({"role": "function", "content": "x"}),
            "messages[0].role",
        ),
        (
            json!({"role": "assistant", "content": "x", "function_call": {}}),
            "messages[0].function_call",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}),
            "messages[0].tool_calls[0].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "image_url"}]}),
            "messages[0].content[0]",
        ),
    ] {
        assert_eq!(
            refused(Edge::Chat, &with(chat(), "messages", json!([message]))),
            (Code::UnsupportedParameter, param.to_owned())
        );
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (field, value) in [
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!("many")),
        ("temperature", json!(2.1)),
        ("temperature", json!(-0.1)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-2)),
        ("min_p", json!(2)),
        ("repetition_penalty", json!(0)),
        ("stop", json!([""])),
        ("stop", json!(5)),
        ("stop", json!(vec!["a"; 17])),
        ("n", json!(0)),
        ("n", json!(17)),
        ("n", json!("2")),
        ("logit_bias", json!({"a": 1})),
        ("logit_bias", json!({"1": 101})),
        ("stream", json!("yes")),
        ("stream_options", json!({"include_usage": true})),
        ("seed", json!(1.5)),
        ("model", json!(7)),
    ] {
        for (edge, body) in [(Edge::Chat, chat()), (Edge::Completion, text())] {
            assert_eq!(
                refused(edge, &with(body, field, value.clone())),
                (Code::InvalidRequest, field.to_owned()),
                "{value}"
            );
        }
    }
    for (field, value) in [
        ("messages", json!([])),
        ("top_logprobs", json!(2)),
        ("max_completion_tokens", json!(0)),
    ] {
        assert_eq!(
            refused(Edge::Chat, &with(chat(), field, value)),
            (Code::InvalidRequest, field.to_owned())
        );
    }
    for (body, param) in [
        (json!({"messages": []}), "model"),
        (json!({"model": "m"}), "messages"),
        (
            json!({"model": "m", "messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [{"role": "king", "content": ""}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": 1}]}),
            "messages[0].role",
        ),
        (json!([]), ""),
    ] {
        assert_eq!(
            refused(Edge::Chat, &body),
            (Code::InvalidRequest, param.to_owned())
        );
    }
    let both = with(
        with(chat(), "max_tokens", json!(1)),
        "max_completion_tokens",
        json!(2),
    );
    assert_eq!(refused(Edge::Chat, &both).1, "max_tokens");
}

#[test]
fn what_a_worker_could_not_read_is_refused() {
    let nested = |levels| (0..levels).fold(json!("x"), |inner, _| json!([inner]));
    // The body and the schema are levels as well.
    let body = |levels| with(chat(), "guided_json", json!({"enum": nested(levels)}));
    assert!(Call::parse(Edge::Chat, &body(98)).is_ok());
    let error = Call::parse(Edge::Chat, &body(99)).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("100 levels"), "{error}");
}

proptest! {
    #[test]
    fn any_value_in_any_field_is_understood_or_refused_as_the_clients_fault(
        field in prop::sample::select(vec![
            "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "stop", "seed",
            "temperature", "logit_bias", "logprobs", "top_logprobs", "n", "tools", "tool_choice",
            "parallel_tool_calls", "suffix", "response_format",
            "guided_json", "guided_choice",
        ]),
        value in any_json(),
    ) {
        for (edge, body) in [(Edge::Chat, chat()), (Edge::Completion, text())] {
            if let Err(error) = Call::parse(edge, &with(body, field, value.clone())) {
                prop_assert!(matches!(error.code, Code::InvalidRequest | Code::UnsupportedParameter));
                let escaped = !error.message.chars().any(char::is_control);
                prop_assert!(escaped);
            }
        }
    }
}
