use diagnostics::Code;
use proptest::prelude::*;
use queen_contract::Priority;
use serde_json::{Value, json};
use worker_contract::{
    FinishReason, InferInput, InferRequest, Message, Role, Sampling, SamplingValues, ToolCall,
    ToolChoice, ToolDefinition,
};

use super::{
    OpenAiEndpoint::{ChatCompletions, Completions},
    *,
};
use crate::{
    ResponseFormat,
    testing::{any_json, assert_same, call, context, end, scored, started, token, written},
};

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

fn read(endpoint: OpenAiEndpoint, body: &Value) -> Result<ParsedRequest, Diagnostic> {
    parse(endpoint, body, &context())
}

fn chat_request(body: &Value) -> InferRequest {
    read(ChatCompletions, body).unwrap().request
}

fn refused(endpoint: OpenAiEndpoint, body: &Value) -> (Code, String) {
    let error = read(endpoint, body).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

#[test]
fn a_full_chat_request_becomes_an_infer_request() {
    let parsed = read(
        ChatCompletions,
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
    assert_eq!(
        (parsed.model.as_str(), parsed.choices, parsed.format),
        ("builtin:haiku", 3, ResponseFormat::Events)
    );
    let input = InferInput::Messages(vec![
        Message::new(Role::System, "be brief"),
        Message::new(Role::User, "ab"),
        Message::new(Role::Assistant, "c"),
    ]);
    assert_eq!(
        parsed.request,
        InferRequest {
            max_tokens: Some(9),
            end_with_context: true,
            stop: vec!["x".into()],
            logprobs: Some(3),
            sampling: Sampling {
                values: SamplingValues {
                    temperature: Some(0.0),
                    top_p: Some(0.9),
                    top_k: Some(4),
                    min_p: Some(0.1),
                    repetition_penalty: Some(1.1),
                    frequency_penalty: Some(0.5),
                    presence_penalty: Some(-2.0),
                    ..SamplingValues::default()
                },
                logit_bias: vec![(5, -100.0)],
                seed: Some(u64::MAX),
                choice: 0,
            },
            ..InferRequest::new("r1".parse().unwrap(), input)
        }
    );
}

#[test]
fn the_writer_follows_the_request() {
    let streamed = with(text(), "stream", json!(true));
    for (body, format, response) in [
        (
            text(),
            ResponseFormat::Document,
            "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3,\
             \"completion_tokens\":2,\"total_tokens\":5,\
             \"prompt_tokens_details\":{\"cached_tokens\":1},\
             \"completion_tokens_details\":{\"reasoning_tokens\":0}}}",
        ),
        (
            streamed.clone(),
            ResponseFormat::Events,
            "\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
        ),
        (
            with(streamed, "stream_options", json!({"include_usage": true})),
            ResponseFormat::Events,
            "\"prompt_tokens_details\":{\"cached_tokens\":1},\
             \"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n\ndata: [DONE]\n\n",
        ),
        (
            with(text(), "logprobs", json!(0)),
            ResponseFormat::Document,
            "\"text_offset\":[0]},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3,\
             \"completion_tokens\":2,\"total_tokens\":5,\
             \"prompt_tokens_details\":{\"cached_tokens\":1},\
             \"completion_tokens_details\":{\"reasoning_tokens\":0}}}",
        ),
    ] {
        let parsed = read(Completions, &body).unwrap();
        assert_eq!(parsed.format, format, "{body}");
        let out = written(parsed.writer, vec![scored("a", "a")], FinishReason::Length);
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with(response), "{body}: {out}");
    }
}

fn with_tools(tools: Value) -> Value {
    with(chat(), "tools", tools)
}

#[test]
fn tools_calls_and_results_are_converted() {
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
    let request = chat_request(&body);
    assert_eq!(
        request.tools,
        [
            ToolDefinition {
                name: "f".into(),
                description: Some("d".into()),
                parameters: Some(json!({"type": "object"})),
                strict: false,
            },
            ToolDefinition {
                name: "g".into(),
                description: None,
                parameters: None,
                strict: false,
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
            // The name comes from the call.
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
        let body = with(body.clone(), "tool_choice", choice);
        assert_eq!(chat_request(&body).tool_choice, expected);
    }
}

#[test]
fn messages_of_every_role_may_have_a_name() {
    for role in ["system", "user", "assistant"] {
        let messages = json!([{"role": role, "content": "x", "name": "bob"}]);
        let InferInput::Messages(messages) =
            chat_request(&with(chat(), "messages", messages)).input
        else {
            panic!("{role}: not messages")
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
        let request = chat_request(&with(strict.clone(), field, value));
        assert!(request.tools[0].name == "f" && request.tools[0].strict);
    }
}

/// A model reads the keys in this order and generates arguments in it.
#[test]
fn parameters_keep_the_order_of_their_keys() {
    let parameters = r#"{"properties":{"street":{},"number":{},"city":{}},"type":"object"}"#;
    let body = format!(
        r#"{{"model": "m", "messages": [{{"role": "user", "content": "x"}}],
            "tools": [{{"type": "function", "function": {{"name": "f", "parameters": {parameters}}}}}]}}"#
    );
    let request = chat_request(&serde_json::from_str(&body).unwrap());
    let sent = serde_json::to_string(&request.tools[0].parameters).unwrap();
    assert_eq!(sent, parameters);
}

#[test]
fn a_call_of_a_named_function_finishes_with_stop() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let named = json!({"type": "function", "function": {"name": "f"}});
    for stream in [false, true] {
        for (choice, reason, expected) in [
            (&named, FinishReason::ToolCalls, "stop"),
            (&named, FinishReason::Length, "length"),
            (&json!("required"), FinishReason::ToolCalls, "tool_calls"),
            (&json!("auto"), FinishReason::ToolCalls, "tool_calls"),
            (&json!("auto"), FinishReason::Stop, "stop"),
        ] {
            let mut body = with(with_tools(tools.clone()), "tool_choice", choice.clone());
            body["stream"] = json!(stream);
            let writer = read(ChatCompletions, &body).unwrap().writer;
            let out = written(writer, vec![call("", 0, "f", "{}")], reason);
            let out = String::from_utf8(out).unwrap();
            let reasons: Vec<&str> = out
                .split("\"finish_reason\":\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .collect();
            assert_eq!(reasons, [expected], "{choice}, {out}");
        }
    }
}

#[test]
fn invalid_tools_are_refused_with_their_field() {
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
            refused(ChatCompletions, &with_tools(tools.clone())),
            (code, param.to_owned()),
            "{tools}"
        );
    }
    for choice in [json!("required"), json!("any"), json!(5), named("f")] {
        let (code, param) = refused(
            ChatCompletions,
            &with(chat(), "tool_choice", choice.clone()),
        );
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
    ] {
        let body = with(chat(), "messages", json!([message]));
        assert_eq!(
            refused(ChatCompletions, &body),
            (Code::InvalidRequest, param.to_owned()),
            "{body}"
        );
    }
}

#[test]
fn each_prompt_has_the_choices_of_the_request() {
    let several = |prompts: Value, n: u32| {
        read(
            Completions,
            &with(with(text(), "prompt", prompts), "n", json!(n)),
        )
    };
    let parsed = several(json!(["a", [1, 2], "b"]), 2).unwrap();
    assert_eq!(parsed.request.input, InferInput::Prompt("a".into()));
    assert_eq!(
        parsed.further_inputs,
        [
            InferInput::Tokens(vec![1, 2]),
            InferInput::Prompt("b".into())
        ]
    );
    assert_eq!(parsed.choices, 2);
    assert!(several(json!(vec!["a"; 64]), 2).is_ok());
    let error = several(json!(vec!["a"; 65]), 2).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("prompt"));
    assert!(
        error.message.contains("65 prompts with 2 choices"),
        "{error}"
    );
}

#[test]
fn a_prompt_counts_once_for_all_its_choices() {
    for stream in [false, true] {
        let mut body = with(text(), "prompt", json!(["a", "b"]));
        body["n"] = json!(2);
        body["stream"] = json!(stream);
        body["stream_options"] = if stream {
            json!({"include_usage": true})
        } else {
            Value::Null
        };
        let mut writer = read(Completions, &body).unwrap().writer;
        let mut out = Vec::new();
        writer.start(&started(), &mut out);
        for choice in [2, 0, 3, 1] {
            writer.token(choice, token("x"), &mut out);
            let complete = writer.end(choice, &end(FinishReason::Stop), &mut out);
            assert_eq!(complete, choice == 1);
        }
        let text = String::from_utf8(out).unwrap();
        let usage = r#""usage":{"prompt_tokens":6,"completion_tokens":8,"total_tokens":14"#;
        assert!(text.contains(usage), "{text}");
        for choice in 0..4 {
            assert!(text.contains(&format!(r#""index":{choice},"#)), "{text}");
        }
    }
}

#[test]
fn one_of_several_prompts_is_named_by_its_index() {
    for wrong in [json!(7), json!([]), json!([-1]), json!({})] {
        let body = with(text(), "prompt", json!(["a", wrong]));
        assert_eq!(refused(Completions, &body).1, "prompt[1]", "{wrong}");
    }
}

#[test]
fn a_prompt_is_a_text_or_token_ids() {
    let parse = |prompt| {
        read(Completions, &with(text(), "prompt", prompt)).map(|parsed| parsed.request.input)
    };
    assert_eq!(parse(json!("a")).unwrap(), InferInput::Prompt("a".into()));
    assert_eq!(parse(json!(["a"])).unwrap(), InferInput::Prompt("a".into()));
    assert_eq!(
        parse(json!([1, 2])).unwrap(),
        InferInput::Tokens(vec![1, 2])
    );
    assert_eq!(parse(json!([[1]])).unwrap(), InferInput::Tokens(vec![1]));
    for wrong in [
        json!(7),
        json!(["a", 1]),
        json!([1, "a"]),
        json!([[1], []]),
        json!([["a"]]),
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
        read(Completions, &text()).unwrap().request.max_tokens,
        Some(16)
    );
}

#[test]
fn fields_that_never_change_the_output_are_ignored() {
    let plain = read(ChatCompletions, &chat()).unwrap();
    for (field, value) in [
        ("store", json!(true)),
        ("service_tier", json!("priority")),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("verbosity", json!("low")),
    ] {
        let parsed = read(ChatCompletions, &with(chat(), field, value)).unwrap();
        assert_same(&parsed, &plain);
    }
}

#[test]
fn flex_and_numbers_above_0_are_batch_requests() {
    for (field, value, expected) in [
        ("service_tier", json!("auto"), None),
        ("service_tier", json!("default"), None),
        ("service_tier", json!("flex"), Some(Priority::Batch)),
        ("priority", json!(null), None),
        ("priority", json!(-1), None),
        ("priority", json!(0), None),
        ("priority", json!(1), Some(Priority::Batch)),
    ] {
        for (endpoint, body) in [(ChatCompletions, chat()), (Completions, text())] {
            let parsed = read(endpoint, &with(body, field, value.clone())).unwrap();
            assert_eq!(parsed.priority, expected, "{field}: {value}");
        }
    }
    for (field, value) in [("service_tier", json!(1)), ("priority", json!("high"))] {
        let (code, _) = refused(ChatCompletions, &with(chat(), field, value));
        assert_eq!(code, Code::InvalidRequest, "{field}");
    }
}

#[test]
fn unsupported_fields_are_refused() {
    for (field, value) in [
        ("tool_choice", json!({"type": "allowed_tools"})),
        ("functions", json!([{}])),
        ("function_call", json!({"name": "f"})),
        ("audio", json!({"voice": "x"})),
        ("modalities", json!(["text", "audio"])),
        ("web_search_options", json!({})),
    ] {
        assert_eq!(
            refused(ChatCompletions, &with(chat(), field, value)),
            (Code::UnsupportedParameter, field.to_owned())
        );
    }
    for (field, value) in [
        ("best_of", json!(2)),
        ("echo", json!(true)),
        ("suffix", json!("x")),
    ] {
        assert_eq!(
            refused(Completions, &with(text(), field, value)),
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
            json!({"role": "user", "content": [{"type": "input_audio"}]}),
            "messages[0].content[0]",
        ),
    ] {
        let body = with(chat(), "messages", json!([message]));
        assert_eq!(
            refused(ChatCompletions, &body),
            (Code::UnsupportedParameter, param.to_owned()),
            "{body}"
        );
    }
}

#[test]
fn invalid_values_are_refused_with_their_field() {
    for (field, value) in [
        ("max_tokens", json!(-2)),
        ("max_tokens", json!(1.5)),
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
        for (endpoint, body) in [(ChatCompletions, chat()), (Completions, text())] {
            assert_eq!(
                refused(endpoint, &with(body, field, value.clone())),
                (Code::InvalidRequest, field.to_owned()),
                "{value}"
            );
        }
    }
    for (field, value) in [
        ("messages", json!([])),
        ("top_logprobs", json!(2)),
        ("max_completion_tokens", json!(-2)),
    ] {
        assert_eq!(
            refused(ChatCompletions, &with(chat(), field, value)),
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
            refused(ChatCompletions, &body),
            (Code::InvalidRequest, param.to_owned())
        );
    }
    let both = with(
        with(chat(), "max_tokens", json!(1)),
        "max_completion_tokens",
        json!(2),
    );
    assert_eq!(refused(ChatCompletions, &both).1, "max_tokens");
}

#[test]
fn bodies_nested_too_deep_for_a_worker_are_refused() {
    let nested = |levels| (0..levels).fold(json!("x"), |inner, _| json!([inner]));
    // The body and the schema are two levels.
    let body = |levels| with(chat(), "guided_json", json!({"enum": nested(levels)}));
    assert!(read(ChatCompletions, &body(98)).is_ok());
    let error = read(ChatCompletions, &body(99)).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            Code::InvalidRequest,
            "the body is nested more than 100 levels deep"
        )
    );
}

proptest! {
    #[test]
    fn any_value_is_parsed_or_is_an_invalid_request(
        field in prop::sample::select(vec![
            "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "stop", "seed",
            "temperature", "logit_bias", "logprobs", "top_logprobs", "n", "tools", "tool_choice",
            "parallel_tool_calls", "suffix", "response_format",
            "guided_json", "guided_choice",
        ]),
        value in any_json(),
    ) {
        for (endpoint, body) in [(ChatCompletions, chat()), (Completions, text())] {
            if let Err(error) = read(endpoint, &with(body, field, value.clone())) {
                prop_assert!(matches!(error.code, Code::InvalidRequest | Code::UnsupportedParameter));
                prop_assert!(!error.message.chars().any(char::is_control));
            }
        }
    }
}
