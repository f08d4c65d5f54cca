//! Tools in chat templates. The templates are our own; each follows a model family in how it
//! tests for tools, renders earlier calls and places results.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use diagnostics::Code;
use serde_json::json;
use text_codec::{Codec, CodecSettings, ToolFormat};
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,
    "added_tokens":[
        {"id":1,"content":"[TOOL_CALLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
        {"id":2,"content":"<tool_call>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}],
    "normalizer":null,"pre_tokenizer":null,"post_processor":null,
    "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
    "model":{"type":"BPE","vocab":{"a":0,"[TOOL_CALLS]":1,"<tool_call>":2},"merges":[]}}"#;

fn codec(template: &str, tool_template: Option<&str>) -> Codec {
    let settings = CodecSettings {
        chat_template: Some(template.to_owned()),
        tool_template: tool_template.map(str::to_owned),
        ..CodecSettings::default()
    };
    Codec::from_tokenizer_json(TOKENIZER.as_bytes(), settings).unwrap()
}

/// A user message, two tool calls and their results.
fn conversation() -> Vec<Message> {
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: arguments.into(),
    };
    let result = |id: &str, content: &str| Message {
        tool_call_id: Some(id.into()),
        name: Some("weather".into()),
        ..Message::new(Role::Tool, content)
    };
    vec![
        Message::new(Role::User, "Zürich and Bern?"),
        Message {
            tool_calls: vec![
                call("aaaaaaaa1", r#"{"city": "Zürich", "at": 9}"#),
                call("aaaaaaaa2", "{\"city\":\"Bern\"}"),
            ],
            ..Message::new(Role::Assistant, "")
        },
        result("aaaaaaaa1", "21"),
        result("aaaaaaaa2", "20"),
    ]
}

fn tools() -> Vec<ToolDefinition> {
    vec![
        ToolDefinition {
            name: "weather".into(),
            description: Some("<current> weather".into()),
            parameters: Some(json!({"type": "object"})),
            strict: false,
        },
        ToolDefinition {
            name: "time".into(),
            description: None,
            parameters: None,
            strict: false,
        },
    ]
}

const QWEN: &str = include_str!("corpus/template/qwen.jinja");

const LLAMA: &str = include_str!("corpus/template/llama.jinja");

const MISTRAL: &str = include_str!("corpus/template/mistral.jinja");

#[test]
fn renders_qwen_template() {
    let codec = codec(QWEN, None);
    assert_eq!(codec.tool_format(), Some(&ToolFormat::HERMES));
    assert_eq!(
        codec.render_chat(&conversation(), &tools()).unwrap(),
        "<|im_start|>system\n<tools>\n\
         {\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"<current> weather\", \"parameters\": {\"type\": \"object\"}}}\n\
         {\"type\": \"function\", \"function\": {\"name\": \"time\"}}\n</tools><|im_end|>\n\
         <|im_start|>user\nZürich and Bern?<|im_end|>\n\
         <|im_start|>assistant\n\
         <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\", \"at\": 9}}\n</tool_call>\n\
         <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\n21\n</tool_response>\n<tool_response>\n20\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let plain = [Message::new(Role::User, "hi")];
    assert_eq!(
        codec.render_chat(&plain, &[]).unwrap(),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn renders_llama_template() {
    let codec = codec(LLAMA, None);
    assert_eq!(codec.tool_format(), Some(&ToolFormat::LLAMA));
    let mut conversation = conversation();
    let error = codec.render_chat(&conversation, &tools()).unwrap_err();
    assert_eq!(
        error.message,
        "the model's chat template rejected the messages: only one tool call at once"
    );
    conversation[1].tool_calls.pop();
    conversation.pop();
    assert_eq!(
        codec.render_chat(&conversation, &tools()[1..]).unwrap(),
        "<|start_header_id|>user<|end_header_id|>\n\n{\"name\": function name, \"parameters\": dictionary}\n\
         {\n    \"type\": \"function\",\n    \"function\": {\n        \"name\": \"time\"\n    }\n}\n\
         <|start_header_id|>user<|end_header_id|>\n\nZürich and Bern?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n\
         {\"name\": \"weather\", \"parameters\": {\"city\": \"Zürich\", \"at\": 9}}<|eot_id|>\
         <|start_header_id|>ipython<|end_header_id|>\n\n\"21\"<|eot_id|>"
    );
    let plain = [
        Message::new(Role::User, "hi"),
        Message::new(Role::Assistant, "ho"),
    ];
    assert_eq!(
        codec.render_chat(&plain, &[]).unwrap(),
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nho<|eot_id|>"
    );
}

#[test]
fn renders_mistral_template() {
    let codec = codec(MISTRAL, None);
    assert_eq!(codec.tool_format(), Some(&ToolFormat::MISTRAL));
    assert_eq!(
        codec.render_chat(&conversation(), &tools()).unwrap(),
        "[AVAILABLE_TOOLS] [{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"<current> weather\", \"parameters\": {\"type\": \"object\"}}}, \
         {\"type\": \"function\", \"function\": {\"name\": \"time\"}}][/AVAILABLE_TOOLS]\
         [INST] Zürich and Bern?[/INST]\
         [TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\", \"at\": 9}, \"id\": \"aaaaaaaa1\"}, \
         {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}, \"id\": \"aaaaaaaa2\"}]\
         [TOOL_RESULTS] {\"content\": 21, \"call_id\": \"aaaaaaaa1\"}[TOOL_RESULTS] {\"content\": 20, \"call_id\": \"aaaaaaaa2\"}"
    );
}

#[test]
fn arguments_that_are_not_json_are_passed_as_string() {
    let codec = codec(
        "{{ tools }}{{ messages[0].tool_calls[0].function.arguments | tojson }}",
        None,
    );
    for (arguments, expected) in [
        ("{oops", "\"{oops\""),
        ("", "{}"),
        ("{\"b\":1,\"a\":2}", "{\"b\": 1, \"a\": 2}"),
    ] {
        let mut message = conversation().swap_remove(1);
        message.tool_calls[0].arguments = arguments.into();
        let text = codec.render_chat(&[message], &[]).unwrap();
        assert_eq!(text, format!("None{expected}"));
    }
}

#[test]
fn template_without_tool_support_rejects_tools() {
    let template = "{# tools #}{% for m in messages %}{{ m.content }}{% endfor %}";
    let codec = codec(template, None);
    assert_eq!(codec.tool_format(), None);
    let plain = [Message::new(Role::User, "hi")];
    assert_eq!(codec.render_chat(&plain, &[]).unwrap(), "hi");
    for (messages, tools, param) in [
        (plain.to_vec(), tools(), "tools"),
        (conversation(), vec![], "messages"),
        (vec![Message::new(Role::Tool, "21")], vec![], "messages"),
    ] {
        let error = codec.render_chat(&messages, &tools).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedParameter);
        assert_eq!(
            error.message,
            "the model's chat template does not support tools"
        );
        assert_eq!(error.param.as_deref(), Some(param));
    }
}

#[test]
fn tool_template_is_used_only_with_tools() {
    let codec = codec(
        "plain",
        Some("{% if tools %}{{ tools | length }} tools{% endif %} <tool_call>"),
    );
    assert_eq!(codec.tool_format(), Some(&ToolFormat::HERMES));
    let plain = [Message::new(Role::User, "hi")];
    assert_eq!(codec.render_chat(&plain, &[]).unwrap(), "plain");
    assert_eq!(
        codec.render_chat(&plain, &tools()).unwrap(),
        "2 tools <tool_call>"
    );
}

#[test]
fn marker_returns_text_of_special_tokens() {
    let mistral = codec(MISTRAL, None);
    assert_eq!(mistral.marker(1), Some("[TOOL_CALLS]"));
    assert_eq!(mistral.token_bytes(1), b"");
    // Token 2 is not special and has its own text; token 1 is not a marker of this style.
    let qwen = codec(QWEN, None);
    assert_eq!(
        (qwen.marker(2), qwen.token_bytes(2)),
        (None, &b"<tool_call>"[..])
    );
    assert_eq!(qwen.marker(1), None);
}
