use diagnostics::{Code, Diagnostic};
use proptest::prelude::*;
use serde_json::{Value, json};
use worker_contract::{
    Constraint, FinishReason, InferInput, InferRequest, Message, ReasoningOptions, Role, Sampling,
    SamplingValues, StartedEvent, ToolCall, ToolDefinition,
};

use super::*;
use crate::{
    ParsedRequest, ResponseFormat, ResponseWriter,
    testing::{any_json, any_tokens, call, context, more, scored, started, token, written},
};

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn chat() -> Value {
    json!({"model": "haiku", "messages": [{"role": "user", "content": "hi"}]})
}

fn text() -> Value {
    json!({"model": "haiku", "prompt": "hi"})
}

fn read(endpoint: OllamaEndpoint, body: &Value) -> Result<ParsedRequest, Diagnostic> {
    parse(endpoint, body, &context())
}

fn request(endpoint: OllamaEndpoint, body: &Value) -> InferRequest {
    read(endpoint, body).unwrap().request
}

fn refused(endpoint: OllamaEndpoint, body: &Value) -> (Code, String) {
    let error = read(endpoint, body).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

fn writer(endpoint: OllamaEndpoint, body: &Value) -> Box<dyn ResponseWriter> {
    read(endpoint, body).unwrap().writer
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    assert_eq!(bytes.last(), Some(&b'\n'));
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn a_full_chat_request_becomes_an_infer_request() {
    let parsed = read(
        OllamaEndpoint::Chat,
        &json!({
            "model": "haiku", "stream": false, "format": "json", "keep_alive": "5m", "think": false,
            "logprobs": true, "top_logprobs": 2, "made_up": 1,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "a", "images": []},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "2", "tool_name": "f"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d",
                "parameters": {"type": "object"}}}],
            "options": {"temperature": 0, "top_k": 0, "top_p": 0.5, "min_p": 0.1, "seed": 5,
                "num_predict": 9, "stop": ["x"], "repeat_penalty": 1.1, "repeat_last_n": -1,
                "frequency_penalty": 0.5, "presence_penalty": 1, "num_ctx": 4096, "num_thread": 8,
                "mirostat": 0, "tfs_z": 1, "typical_p": 0.9},
        }),
    )
    .unwrap();
    assert_eq!(
        (parsed.model.as_str(), parsed.choices, parsed.format),
        ("haiku", 1, ResponseFormat::Document)
    );
    let input = InferInput::Messages(vec![
        Message::new(Role::System, "be brief"),
        Message::new(Role::User, "a"),
        Message {
            tool_calls: vec![ToolCall {
                id: "call_2_0".into(),
                name: "f".into(),
                arguments: r#"{"x":1}"#.into(),
            }],
            ..Message::new(Role::Assistant, "")
        },
        Message {
            name: Some("f".into()),
            ..Message::new(Role::Tool, "2")
        },
    ]);
    assert_eq!(
        parsed.request,
        InferRequest {
            max_tokens: Some(9),
            end_with_context: true,
            stop: vec!["x".into()],
            logprobs: Some(2),
            constraint: Some(Constraint::JsonObject),
            tools: vec![ToolDefinition {
                name: "f".into(),
                description: Some("d".into()),
                parameters: Some(json!({"type": "object"})),
                strict: false,
            }],
            reasoning: ReasoningOptions {
                enabled: Some(false),
                ..ReasoningOptions::default()
            },
            sampling: Sampling {
                values: SamplingValues {
                    temperature: Some(0.0),
                    top_p: Some(0.5),
                    top_k: Some(0),
                    min_p: Some(0.1),
                    typical_p: Some(0.9),
                    repetition_penalty: Some(1.1),
                    frequency_penalty: Some(0.5),
                    presence_penalty: Some(1.0),
                    penalty_window: Some(u32::MAX),
                },
                seed: Some(5),
                ..Sampling::default()
            },
            sampling_defaults: options::defaults(),
            expected_context: Some(4096),
            drop_oldest_messages: true,
            ..InferRequest::new("r1".parse().unwrap(), input)
        }
    );
}

#[test]
fn absent_fields_have_ollamas_defaults() {
    let parsed = read(OllamaEndpoint::Generate, &text()).unwrap();
    assert_eq!(parsed.format, ResponseFormat::JsonLines);
    let input = InferInput::Messages(vec![Message::new(Role::User, "hi")]);
    assert_eq!(
        parsed.request,
        InferRequest {
            end_with_context: true,
            sampling_defaults: SamplingValues {
                temperature: Some(0.8),
                top_k: Some(40),
                top_p: Some(0.9),
                repetition_penalty: Some(1.1),
                penalty_window: Some(64),
                ..SamplingValues::default()
            },
            report_prompt: true,
            ..InferRequest::new("r1".parse().unwrap(), input)
        }
    );
}

#[test]
fn generate_adds_a_system_message_unless_raw() {
    let body = with(text(), "system", json!("be brief"));
    assert_eq!(
        request(OllamaEndpoint::Generate, &body).input,
        InferInput::Messages(vec![
            Message::new(Role::System, "be brief"),
            Message::new(Role::User, "hi"),
        ])
    );
    let raw = with(body, "raw", json!(true));
    assert_eq!(
        request(OllamaEndpoint::Generate, &raw).input,
        InferInput::Prompt("hi".into())
    );
}

#[test]
fn a_request_without_input_only_loads_the_model() {
    for (endpoint, body, output) in [
        (
            OllamaEndpoint::Chat,
            json!({"model": "haiku"}),
            json!({"role": "assistant", "content": ""}),
        ),
        (
            OllamaEndpoint::Chat,
            json!({"model": "haiku", "messages": []}),
            json!({"role": "assistant", "content": ""}),
        ),
        (
            OllamaEndpoint::Generate,
            json!({"model": "haiku", "prompt": ""}),
            json!(""),
        ),
    ] {
        let parsed = read(endpoint, &body).unwrap();
        assert_eq!(parsed.request.max_tokens, Some(1));
        let out = written(parsed.writer, vec![token("x")], FinishReason::Length);
        let lines = lines(&out);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let field = match endpoint {
            OllamaEndpoint::Chat => "message",
            OllamaEndpoint::Generate => "response",
        };
        assert_eq!(
            (&lines[0][field], &lines[0]["done_reason"]),
            (&output, &json!("load"))
        );
        assert!(read(endpoint, &with(body, "keep_alive", json!("10m"))).is_ok());
    }
}

#[test]
fn show_accepts_both_names_of_the_model_field() {
    for body in [
        json!({"model": "haiku"}),
        json!({"name": "haiku"}),
        json!({"model": "", "name": "haiku"}),
        json!({"model": "haiku", "name": ""}),
    ] {
        let request: OllamaShowRequest = serde_json::from_value(body).unwrap();
        assert_eq!(request.model().unwrap(), "haiku");
    }
    for body in [json!({}), json!({"model": "", "name": ""})] {
        let request: OllamaShowRequest = serde_json::from_value(body).unwrap();
        let error = request.model().unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (Code::InvalidRequest, Some("model"))
        );
    }
}

#[test]
fn unsupported_and_invalid_fields_are_refused() {
    for (endpoint, body, field, value) in [
        (OllamaEndpoint::Generate, text(), "suffix", json!("x")),
        (OllamaEndpoint::Generate, text(), "template", json!("x")),
    ] {
        assert_eq!(
            refused(endpoint, &with(body, field, value)),
            (Code::UnsupportedParameter, field.to_owned())
        );
    }
    let image = json!([{"role": "user", "content": "x", "images": ["http://x"]}]);
    assert_eq!(
        refused(OllamaEndpoint::Chat, &with(chat(), "messages", image)),
        (Code::InvalidRequest, "messages[0].images[0]".to_owned())
    );
    for (options, param) in [
        (json!({"temperature": -1}), "options.temperature"),
        (json!({"top_p": 2}), "options.top_p"),
        (json!({"repeat_penalty": 0}), "options.repeat_penalty"),
        (json!({"stop": [1]}), "options.stop"),
        (json!({"stop": "x"}), "options.stop"),
        (json!({"seed": "x"}), "options.seed"),
        (json!({"num_predict": "128"}), "options.num_predict"),
        (json!({"top_p": "0.9"}), "options.top_p"),
        (json!({"num_gpu": true}), "options.num_gpu"),
        (json!({"use_mmap": 1}), "options.use_mmap"),
    ] {
        assert_eq!(
            refused(OllamaEndpoint::Chat, &with(chat(), "options", options)),
            (Code::InvalidRequest, param.to_owned())
        );
    }
    for (field, value) in [
        ("format", json!("xml")),
        ("format", json!(7)),
        ("stream", json!("no")),
        ("model", json!(1)),
    ] {
        assert_eq!(
            refused(OllamaEndpoint::Generate, &with(text(), field, value)),
            (Code::InvalidRequest, field.to_owned())
        );
    }
}

#[test]
fn inputs_to_embed_are_truncated_by_default() {
    let body = json!({"model": "haiku", "input": ["a", "b"]});
    for (truncate, expected) in [
        (Value::Null, true),
        (json!(true), true),
        (json!(false), false),
    ] {
        let body = with(body.clone(), "truncate", truncate);
        let parsed = ParsedOllamaEmbedRequest::parse(&body).unwrap();
        assert_eq!(parsed.truncate, expected);
    }
    assert!(ParsedOllamaEmbedRequest::parse(&body).unwrap().truncate);
    let error = ParsedOllamaEmbedRequest::parse(&with(body, "truncate", json!("no"))).unwrap_err();
    assert_eq!(
        (error.code, error.param.as_deref()),
        (Code::InvalidRequest, Some("truncate"))
    );
    assert!(
        ParsedOllamaEmbedRequest::parse_superseded(&text())
            .unwrap()
            .truncate
    );
}

#[test]
fn numbers_are_read_as_ollama_reads_them() {
    let body = with(
        chat(),
        "options",
        json!({"num_predict": 128.9, "top_k": 20.0, "seed": 5.5, "repeat_last_n": 0.0,
            "temperature": null, "num_ctx": null, "stop": null, "num_gpu": null}),
    );
    let parsed = read(OllamaEndpoint::Chat, &body).unwrap();
    let values = &parsed.request.sampling.values;
    assert_eq!(
        (parsed.request.max_tokens, parsed.request.sampling.seed),
        (Some(128), Some(5))
    );
    assert_eq!(
        (values.top_k, values.penalty_window, values.temperature),
        (Some(20), Some(0), None)
    );
    assert!(parsed.notes.is_empty());
    let body = with(
        chat(),
        "options",
        json!({"num_predict": 1e300, "top_k": -3}),
    );
    let request = request(OllamaEndpoint::Chat, &body);
    assert_eq!(
        (request.max_tokens, request.sampling.values.top_k),
        (Some(u32::MAX), Some(0))
    );
}

#[test]
fn options_without_effect_are_named() {
    let body = with(
        chat(),
        "options",
        json!({"mirostat": 2, "mirostat_tau": 5.0, "tfs_z": 0.5, "penalize_newline": false,
            "num_keep": 4, "numa": true, "num_gpu": 1, "num_thread": 8, "unknown": "x"}),
    );
    assert_eq!(
        read(OllamaEndpoint::Chat, &body).unwrap().notes,
        [
            "ignored mirostat, tfs_z: sampling uses the other options",
            "ignored penalize_newline: penalties also apply to line breaks",
            "ignored num_keep: a context is never shifted",
            "ignored numa, num_gpu, num_thread: the worker decides how the model runs",
        ]
    );
    let off = with(
        chat(),
        "options",
        json!({"mirostat": 0, "tfs_z": 1, "penalize_newline": true, "num_keep": 0}),
    );
    assert!(read(OllamaEndpoint::Chat, &off).unwrap().notes.is_empty());
}

#[test]
fn history_is_truncated_unless_the_client_forbids_it() {
    let truncate = |value| {
        let body = with(chat(), "truncate", value);
        request(OllamaEndpoint::Chat, &body).drop_oldest_messages
    };
    assert!(truncate(Value::Null) && truncate(json!(true)) && !truncate(json!(false)));
    assert!(!request(OllamaEndpoint::Generate, &text()).drop_oldest_messages);
}

#[test]
fn generate_returns_and_takes_a_context() {
    let body = with(text(), "context", json!([7, 8]));
    assert_eq!(
        request(OllamaEndpoint::Generate, &body).preceding_tokens,
        [7, 8]
    );
    let mut writer = writer(OllamaEndpoint::Generate, &body);
    let started = StartedEvent {
        prompt: vec![7, 8, 9],
        ..started()
    };
    let mut out = Vec::new();
    writer.start(&started, &mut out);
    let ids = [token("x"), token("y")].map(|event| event.id);
    let rest = written(writer, vec![token("x"), token("y")], FinishReason::Stop);
    let last = lines(&rest).pop().unwrap();
    assert_eq!(last["context"], json!([7, 8, 9, ids[0], ids[1]]));
    let raw = with(text(), "raw", json!(true));
    assert!(!request(OllamaEndpoint::Generate, &raw).report_prompt);
}

#[test]
fn a_stream_has_ollamas_format() {
    let out = written(
        writer(OllamaEndpoint::Chat, &chat()),
        vec![token("a \"b\"\n"), token(""), token("c")],
        FinishReason::Length,
    );
    let head = r#"{"model":"haiku","created_at":"1970-01-01T00:00:07Z","message":{"role":"assistant","content":"#;
    let expected = [
        head,
        r#""a \"b\"\n"},"done":false}"#,
        "\n",
        head,
        r#""c"},"done":false}"#,
        "\n",
        head,
        r#"""},"done":true,"done_reason":"length","total_duration":0,"load_duration":0,"#,
        r#""prompt_eval_count":3,"prompt_eval_duration":0,"eval_count":2,"eval_duration":0}"#,
        "\n",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
}

#[test]
fn a_call_is_sent_when_it_is_complete_and_omitted_when_it_is_cut_off() {
    let tokens = vec![
        call("", 0, "f", "{\"x\""),
        more(0, ":1}"),
        call("", 1, "g", ""),
        call("", 2, "h", "{\"cut"),
    ];
    let out = written(
        writer(OllamaEndpoint::Chat, &chat()),
        tokens,
        FinishReason::Length,
    );
    let calls: Vec<_> = lines(&out)
        .iter()
        .map(|line| line["message"]["tool_calls"].clone())
        .collect();
    assert_eq!(
        calls,
        [
            json!([{"id": "id0", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}]),
            json!([{"id": "id1", "function": {"index": 1, "name": "g", "arguments": {}}}]),
            Value::Null,
        ]
    );
}

#[test]
fn logprobs_come_with_the_text() {
    let tokens = vec![scored("", "h"), scored("hi", "i"), scored("", "</s>")];
    let body = with(text(), "logprobs", json!(true));
    let out = written(
        writer(OllamaEndpoint::Generate, &body),
        tokens,
        FinishReason::Stop,
    );
    let lines = lines(&out);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let one = |text: &str| {
        json!({"token": text, "logprob": -0.5, "bytes": text.as_bytes(), "top_logprobs":
            [{"token": text, "logprob": -0.5, "bytes": text.as_bytes()}]})
    };
    assert_eq!(lines[0]["logprobs"], json!([one("h"), one("i")]));
    assert_eq!(lines[1].get("logprobs"), None);
}

#[test]
fn an_error_is_a_text_with_rbees_fields_next_to_it() {
    let error = Diagnostic::new(Code::ModelNotFound, "there is no model x").hint("look");
    let mut out = Vec::new();
    writer(OllamaEndpoint::Chat, &chat()).error(error, &mut out);
    assert_eq!(
        lines(&out),
        [
            json!({"error": "there is no model x; look", "code": "MODEL_NOT_FOUND",
            "message": "there is no model x", "hint": "look"})
        ]
    );
}

#[test]
fn parameter_sizes_have_a_unit() {
    for (parameters, text) in [
        (1_235_814_400, "1.2B"),
        (134_515_008, "134.5M"),
        (2_888_192, "2.9M"),
        (7, "7"),
    ] {
        let facts = ModelFacts {
            parameters,
            ..ModelFacts::default()
        };
        let model = OllamaModel::new("m".into(), &facts, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(model.details.parameter_size, text);
    }
}

#[test]
fn a_shown_model_has_what_its_files_say() {
    let sampling = SamplingValues {
        temperature: Some(0.7),
        repetition_penalty: Some(1.1),
        penalty_window: Some(u32::MAX),
        ..SamplingValues::default()
    };
    let metadata = json!({"llama.block_count": 4, "general.name": "x"});
    let Value::Object(metadata) = metadata else {
        unreachable!()
    };
    let epoch = jiff::Timestamp::UNIX_EPOCH;
    let shown = OllamaShowResponse::new(&ModelFacts::default(), Vec::new(), epoch)
        .with_files(metadata, Some("{{ x }}".into()), None)
        .with_sampling(&sampling);
    assert_eq!(
        shown.parameters,
        "temperature                    0.7\nrepeat_penalty                 1.1\n\
         repeat_last_n                  -1"
    );
    assert_eq!(json!(shown.model_info), json!({"llama.block_count": 4}));
    assert_eq!(
        (shown.template.as_str(), shown.license.as_str()),
        ("{{ x }}", "")
    );
    assert_eq!(shown.details.families, Vec::<String>::new());
}

#[test]
fn the_digest_depends_on_name_and_facts_alone() {
    let facts = |parameters| ModelFacts {
        format: "gguf".into(),
        architecture: "llama".into(),
        quantization: "F16".into(),
        size_bytes: 5,
        parameters,
        context_length: 512,
    };
    let digest = |name: &str, parameters, time| {
        OllamaModel::new(name.into(), &facts(parameters), time).digest
    };
    let epoch = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(
        digest("m", 7, epoch),
        "cd5381b0b70b811e4912bc6fa3c73fd5188eea4bab49dd067eb34974afa6874b"
    );
    assert_eq!(digest("m", 7, epoch), digest("m", 7, jiff::Timestamp::MAX));
    assert_ne!(digest("m", 7, epoch), digest("n", 7, epoch));
    assert_ne!(digest("m", 7, epoch), digest("m", 8, epoch));
}

proptest! {
    #[test]
    fn any_value_is_parsed_or_is_an_invalid_request(
        field in prop::sample::select(vec![
            "model", "messages", "prompt", "stream", "options", "format", "tools", "raw", "system",
            "keep_alive", "images", "think", "logprobs", "top_logprobs", "context",
        ]),
        value in any_json(),
    ) {
        for (endpoint, body) in [(OllamaEndpoint::Chat, chat()), (OllamaEndpoint::Generate, text())] {
            let in_options = with(body.clone(), "options", json!({field: value.clone()}));
            for body in [with(body, field, value.clone()), in_options, value.clone()] {
                if let Err(error) = read(endpoint, &body) {
                    prop_assert!(matches!(error.code, Code::InvalidRequest | Code::UnsupportedParameter));
                    prop_assert!(!error.message.chars().any(char::is_control));
                }
            }
        }
    }

    #[test]
    fn the_lines_of_a_stream_add_up_to_the_document(tokens in any_tokens()) {
        let document = with(chat(), "stream", json!(false));
        let streamed = writer(OllamaEndpoint::Chat, &chat());
        let streamed = lines(&written(streamed, tokens.clone(), FinishReason::Stop));
        let document = writer(OllamaEndpoint::Chat, &document);
        let document = written(document, tokens, FinishReason::Stop);
        let [document] = &lines(&document)[..] else {
            return Err(TestCaseError::fail("not one document"));
        };
        let text: String = streamed
            .iter()
            .map(|line| line["message"]["content"].as_str().unwrap())
            .collect();
        prop_assert_eq!(&document["message"]["content"], &json!(text));
        let calls: Vec<_> = streamed
            .iter()
            .filter_map(|line| line["message"]["tool_calls"].as_array())
            .flatten()
            .cloned()
            .collect();
        let expected = document["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        prop_assert_eq!(calls, expected);
        let (last, others) = streamed.split_last().unwrap();
        prop_assert!(others.iter().all(|line| line["done"] == json!(false)));
        let figures = |line: &Value| {
            let mut line = line.as_object().unwrap().clone();
            line.remove("message");
            line
        };
        prop_assert_eq!(figures(last), figures(document));
    }
}
