use diagnostics::Code;
use proptest::prelude::*;
use queen_contract::Priority;
use serde_json::{Value, json};
use worker_contract::{
    Constraint, InferInput, InferRequest, Message, Role, Sampling, SamplingValues, ToolCall,
    ToolChoice,
};

use super::request::parse;
use crate::testing::{any_json, assert_same, context};

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "input": "hi"});
    body[field] = value;
    body
}

fn request(body: &Value) -> InferRequest {
    parse(body, &context()).unwrap().request
}

fn refused(body: &Value) -> (Code, String) {
    let error = parse(body, &context()).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

fn messages(input: Value) -> Vec<Message> {
    match request(&with("input", input)).input {
        InferInput::Messages(messages) => messages,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flex_is_a_batch_request_and_reported() {
    for (tier, priority) in [("flex", Some(Priority::Batch)), ("priority", None)] {
        let body = json!({"model": "m", "input": "hi", "service_tier": tier});
        let parsed = parse(&body, &context()).unwrap();
        assert_eq!(parsed.priority, priority);
        let reported = match priority {
            Some(_) => "flex",
            None => "default",
        };
        let expected = format!("service_tier: \"{reported}\"");
        assert!(format!("{:?}", parsed.writer).contains(&expected), "{tier}");
    }
}

#[test]
fn a_full_request_becomes_an_infer_request() {
    let schema = json!({"type": "object"});
    let body = json!({
        "model": "builtin:haiku", "input": "hi", "instructions": "be brief", "stream": true,
        "stream_options": {"include_obfuscation": false}, "max_output_tokens": 9.0,
        "temperature": 0, "top_p": 0.9, "top_logprobs": 3.0,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": true},
                 "verbosity": "low"},
        "reasoning": {"effort": "high"}, "parallel_tool_calls": false, "store": false,
        "metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
        "service_tier": "auto", "truncation": "disabled", "background": false,
        "previous_response_id": null, "made_up": 1,
    });
    let parsed = parse(&body, &context()).unwrap();
    let mut expected = InferRequest::new(
        "r1".parse().unwrap(),
        InferInput::Messages(vec![
            Message::new(Role::System, "be brief"),
            Message::new(Role::User, "hi"),
        ]),
    );
    expected.max_tokens = Some(9);
    expected.end_with_context = true;
    expected.sampling = Sampling {
        values: SamplingValues {
            temperature: Some(0.0),
            top_p: Some(0.9),
            ..SamplingValues::default()
        },
        ..Sampling::default()
    };
    expected.logprobs = Some(3);
    expected.constraint = Some(Constraint::StrictJsonSchema(schema));
    expected.parallel_tool_calls = false;
    expected.reasoning.effort = Some("high".into());
    assert_eq!(parsed.request, expected);
    assert_eq!(parsed.model, "builtin:haiku");
    assert!(parsed.notes.is_empty(), "{:?}", parsed.notes);
}

#[test]
fn the_items_of_one_turn_become_one_message() {
    let call = |id: &str| {
        json!({"type": "function_call", "id": "fc", "call_id": id, "name": "f",
        "arguments": "{}", "status": "completed"})
    };
    let converted = messages(json!([
        {"role": "developer", "content": "s"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "short"}],
         "content": [{"type": "reasoning_text", "text": "long"}], "status": "completed"},
        {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "c", "annotations": []},
            {"type": "refusal", "refusal": "d"}]},
        call("x"), call("y"),
        {"type": "function_call_output", "call_id": "x", "output": "1"},
        {"type": "function_call_output", "call_id": "y",
         "output": [{"type": "input_text", "text": "2"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "secret"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        call("z"),
        {"type": "function_call_output", "call_id": "z", "output": ""},
    ]));
    let calls = |ids: &[&str]| {
        let call = |id: &&str| ToolCall {
            id: (*id).into(),
            name: "f".into(),
            arguments: "{}".into(),
        };
        ids.iter().map(call).collect::<Vec<_>>()
    };
    let result = |id: &str, text: &str| Message {
        tool_call_id: Some(id.into()),
        name: Some("f".into()),
        ..Message::new(Role::Tool, text)
    };
    assert_eq!(
        converted,
        [
            Message::new(Role::System, "s"),
            Message::new(Role::User, "ab"),
            Message {
                reasoning: Some("long".into()),
                tool_calls: calls(&["x", "y"]),
                ..Message::new(Role::Assistant, "cd")
            },
            result("x", "1"),
            result("y", "2"),
            Message {
                reasoning: Some("so".into()),
                tool_calls: calls(&["z"]),
                ..Message::new(Role::Assistant, "")
            },
            result("z", ""),
        ]
    );
}

#[test]
fn reasoning_before_another_message_is_dropped() {
    let converted = messages(json!([
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]));
    assert!(converted.iter().all(|message| message.reasoning.is_none()));
}

#[test]
fn tools_are_flat_functions() {
    let tools = json!([
        {"type": "function", "name": "f", "description": "d", "strict": true,
         "parameters": {"type": "object"}},
        {"type": "function", "name": "g", "parameters": null, "strict": null},
    ]);
    let chosen = |choice: Value| {
        let mut body = with("tools", tools.clone());
        body["tool_choice"] = choice;
        let request = request(&body);
        let names: Vec<_> = request.tools.iter().map(|tool| tool.name.clone()).collect();
        (names.concat(), request.tool_choice)
    };
    let request = request(&with("tools", tools.clone()));
    assert!(request.tools[0].strict && !request.tools[1].strict);
    assert_eq!(request.tools[0].parameters, Some(json!({"type": "object"})));
    let allowed = |mode: &str| {
        json!({"type": "allowed_tools", "mode": mode,
        "tools": [{"type": "function", "name": "g"}]})
    };
    for (choice, expected) in [
        (json!("auto"), ("fg", ToolChoice::Auto)),
        (json!("none"), ("fg", ToolChoice::None)),
        (json!("required"), ("fg", ToolChoice::Required)),
        (
            json!({"type": "function", "name": "f"}),
            ("fg", ToolChoice::Named("f".into())),
        ),
        (allowed("auto"), ("g", ToolChoice::Auto)),
        (allowed("required"), ("g", ToolChoice::Required)),
    ] {
        let (names, choice) = chosen(choice);
        assert_eq!((names.as_str(), choice), expected);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let image = json!([{"role": "user", "content": [{"type": "input_video", "url": "x"}]}]);
    for (field, value, param) in [
        (
            "previous_response_id",
            json!("resp_1"),
            "previous_response_id",
        ),
        ("conversation", json!("conv_1"), "conversation"),
        ("prompt", json!({"id": "p"}), "prompt"),
        ("background", json!(true), "background"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        (
            "tools",
            json!([{"type": "mcp", "server_label": "x"}]),
            "tools[0].type",
        ),
        ("tool_choice", json!({"type": "file_search"}), "tool_choice"),
        (
            "input",
            json!([{"type": "item_reference", "id": "x"}]),
            "input[0]",
        ),
        ("input", json!([{"id": "x"}]), "input[0]"),
        (
            "input",
            json!([{"type": "web_search_call"}]),
            "input[0].type",
        ),
        ("input", image, "input[0].content[0]"),
    ] {
        let expected = (Code::UnsupportedParameter, param.to_owned());
        assert_eq!(
            refused(&with(field, value.clone())),
            expected,
            "{field}: {value}"
        );
    }
}

#[test]
fn an_invalid_field_is_refused_with_its_name() {
    let function = |fields: Value| {
        let mut tool = json!({"type": "function", "name": "f"});
        tool.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!([tool])
    };
    for (field, value, param) in [
        ("model", json!(null), "model"),
        ("input", json!(null), "input"),
        ("input", json!([]), "input"),
        ("input", json!(["x"]), "input[0]"),
        ("input", json!([{"role": "user"}]), "input[0].content"),
        (
            "input",
            json!([{"role": "king", "content": ""}]),
            "input[0].role",
        ),
        (
            "input",
            json!([{"type": "function_call", "call_id": "x", "name": "f"}]),
            "input[0].arguments",
        ),
        (
            "input",
            json!([{"type": "reasoning", "summary": [{"type": "summary_text"}]}]),
            "input[0].summary[0].text",
        ),
        ("max_output_tokens", json!(-5), "max_output_tokens"),
        ("temperature", json!(3), "temperature"),
        ("top_p", json!(-1), "top_p"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("reasoning", json!({"effort": "a b"}), "reasoning.effort"),
        ("truncation", json!("oldest"), "truncation"),
        ("tools", function(json!({"name": ""})), "tools[0].name"),
        ("tools", json!([{"type": "function"}]), "tools[0].name"),
        (
            "tools",
            function(json!({"parameters": 1})),
            "tools[0].parameters",
        ),
        ("tool_choice", json!("always"), "tool_choice"),
        ("tool_choice", json!("required"), "tool_choice"),
        (
            "tool_choice",
            json!({"type": "function", "name": "f"}),
            "tool_choice",
        ),
        (
            "text",
            json!({"format": {"type": "xml"}}),
            "text.format.type",
        ),
        (
            "text",
            json!({"format": {"type": "json_schema"}}),
            "text.format.schema",
        ),
        ("metadata", json!({"a": 1}), "metadata.a"),
    ] {
        let expected = (Code::InvalidRequest, param.to_owned());
        assert_eq!(
            refused(&with(field, value.clone())),
            expected,
            "{field}: {value}"
        );
    }
}

#[test]
fn what_is_ignored_is_noted() {
    let notes = |body: &Value| parse(body, &context()).unwrap().notes;
    assert!(notes(&with("store", json!(true)))[0].contains("`store`"));
    assert!(notes(&with("truncation", json!("auto")))[0].contains("`truncation"));
}

#[test]
fn the_effort_is_a_word_or_none() {
    let reasoning = request(&with("reasoning", json!({"effort": "none"}))).reasoning;
    // As in a chat completion.
    assert_eq!(reasoning.effort.as_deref(), Some("none"));
}

proptest! {
    #[test]
    fn unknown_fields_are_ignored(value in any_json()) {
        let parse = |body: &Value| parse(body, &context()).unwrap();
        let body = with("model", json!("m"));
        assert_same(&parse(&with("made_up", value)), &parse(&body));
    }
}
