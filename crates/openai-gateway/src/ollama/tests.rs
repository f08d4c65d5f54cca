use diagnostics::Code;
use proptest::prelude::*;
use serde_json::{Value, json};
use worker_contract::{Constraint, FinishReason, InferInput, Message, Role, Sampling};

use super::*;
use crate::{
    AnswerWriter as _, Asked,
    testing::{any_json, any_tokens, call, more, scored, token, written},
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

fn read(edge: OllamaEdge, body: &Value) -> Result<(Asked, bool), Diagnostic> {
    parse(edge, body, "r1".parse().unwrap())
}

fn asked(edge: OllamaEdge, body: &Value) -> Asked {
    read(edge, body).unwrap().0
}

fn refused(edge: OllamaEdge, body: &Value) -> (Code, String) {
    let error = read(edge, body).unwrap_err();
    (error.code, error.param.unwrap_or_default().to_string())
}

fn writer(edge: OllamaEdge) -> OllamaWriter {
    OllamaWriter::new(edge, "haiku", "2026-01-02T03:04:05Z".parse().unwrap())
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
    let (asked, only_load) = read(
        OllamaEdge::Chat,
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
                "mirostat": 0, "tfs_z": 1, "typical_p": 1.0},
        }),
    )
    .unwrap();
    assert!(!asked.stream && !only_load);
    let request = asked.request;
    let InferInput::Messages(messages) = &request.input else {
        panic!("{request:?}")
    };
    assert_eq!(messages[0], Message::new(Role::System, "be brief"));
    assert_eq!(messages[2].tool_calls[0].id, "call_2_0");
    assert_eq!(messages[2].tool_calls[0].arguments, r#"{"x":1}"#);
    assert_eq!(messages[3].name.as_deref(), Some("f"));
    assert_eq!(request.tools[0].parameters, Some(json!({"type": "object"})));
    assert_eq!(request.constraint, Some(Constraint::JsonObject));
    assert_eq!(request.max_tokens, Some(9));
    assert!(request.end_with_context);
    assert_eq!(request.stop, ["x"]);
    assert_eq!(request.logprobs, Some(2));
    assert_eq!(
        request.sampling,
        Sampling {
            temperature: 0.0,
            top_p: 0.5,
            top_k: 0,
            min_p: 0.1,
            repetition_penalty: 1.1,
            frequency_penalty: 0.5,
            presence_penalty: 1.0,
            seed: Some(5),
            ..Sampling::default()
        }
    );
}

#[test]
fn what_is_not_said_is_as_ollama_has_it() {
    let asked = asked(OllamaEdge::Generate, &text());
    assert!(asked.stream);
    let sampling = asked.request.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_k, sampling.top_p),
        (0.8, 40, 0.9)
    );
    assert_eq!((sampling.seed, asked.request.max_tokens), (None, None));
    assert_eq!(
        asked.request.input,
        InferInput::Messages(vec![Message::new(Role::User, "hi")])
    );
}

#[test]
fn generate_with_instructions_and_raw() {
    let body = with(text(), "system", json!("be brief"));
    let InferInput::Messages(messages) = asked(OllamaEdge::Generate, &body).request.input else {
        panic!()
    };
    assert_eq!(messages[0], Message::new(Role::System, "be brief"));
    let raw = with(body, "raw", json!(true));
    assert_eq!(
        asked(OllamaEdge::Generate, &raw).request.input,
        InferInput::Prompt("hi".into())
    );
}

#[test]
fn nothing_to_say_only_loads() {
    for (edge, body) in [
        (OllamaEdge::Chat, json!({"model": "haiku"})),
        (OllamaEdge::Chat, json!({"model": "haiku", "messages": []})),
        (
            OllamaEdge::Generate,
            json!({"model": "haiku", "prompt": ""}),
        ),
    ] {
        let (asked, only_load) = read(edge, &body).unwrap();
        assert!(only_load, "{body}");
        assert_eq!(asked.request.max_tokens, Some(1));
        for zero in [json!(0), json!("0"), json!("0s")] {
            assert_eq!(
                refused(edge, &with(body.clone(), "keep_alive", zero)),
                (Code::UnsupportedParameter, "keep_alive".into())
            );
        }
        assert!(read(edge, &with(body, "keep_alive", json!("10m"))).is_ok());
    }
    let answer = written(
        writer(OllamaEdge::Generate).only_load(true),
        vec![token("x")],
        FinishReason::Length,
    );
    let [line] = &lines(&answer)[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (&line["response"], &line["done_reason"]),
        (&json!(""), &json!("load"))
    );
}

#[test]
fn a_model_is_shown_by_either_word() {
    for body in [
        json!({"model": "haiku"}),
        json!({"name": "haiku"}),
        json!({"model": "", "name": "haiku"}),
        json!({"model": "haiku", "name": ""}),
    ] {
        let asked: OllamaShowRequest = serde_json::from_value(body).unwrap();
        assert_eq!(asked.model().unwrap(), "haiku");
    }
    for body in [json!({}), json!({"model": "", "name": ""})] {
        let asked: OllamaShowRequest = serde_json::from_value(body).unwrap();
        let error = asked.model().unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (Code::InvalidRequest, Some("model"))
        );
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (edge, body, field, value) in [
        (OllamaEdge::Chat, chat(), "think", json!("high")),
        (OllamaEdge::Generate, text(), "suffix", json!("x")),
        (OllamaEdge::Generate, text(), "template", json!("x")),
        (OllamaEdge::Generate, text(), "context", json!([1])),
        (OllamaEdge::Generate, text(), "images", json!(["aGk="])),
    ] {
        assert_eq!(
            refused(edge, &with(body, field, value)),
            (Code::UnsupportedParameter, field.to_owned())
        );
    }
    for (options, param) in [
        (json!({"mirostat": 1}), "mirostat"),
        (json!({"tfs_z": 0.5}), "tfs_z"),
        (json!({"typical_p": 0.5}), "typical_p"),
        (
            json!({"repeat_penalty": 1.1, "repeat_last_n": 64}),
            "repeat_last_n",
        ),
    ] {
        assert_eq!(
            refused(OllamaEdge::Chat, &with(chat(), "options", options)),
            (Code::UnsupportedParameter, format!("options.{param}"))
        );
    }
    // Without a penalty it cannot matter.
    let window = with(chat(), "options", json!({"repeat_last_n": 64}));
    assert!(read(OllamaEdge::Chat, &window).is_ok());
    let image = json!([{"role": "user", "content": "x", "images": ["aGk="]}]);
    assert_eq!(
        refused(OllamaEdge::Chat, &with(chat(), "messages", image)).1,
        "messages[0].images"
    );
    for (options, param) in [
        (json!({"temperature": -1}), "options.temperature"),
        (json!({"top_p": 2}), "options.top_p"),
        (json!({"repeat_penalty": 0}), "options.repeat_penalty"),
        (json!({"stop": [1]}), "options.stop"),
        (json!({"seed": "x"}), "options.seed"),
    ] {
        assert_eq!(
            refused(OllamaEdge::Chat, &with(chat(), "options", options)),
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
            refused(OllamaEdge::Generate, &with(text(), field, value)),
            (Code::InvalidRequest, field.to_owned())
        );
    }
}

#[test]
fn texts_to_embed_are_cut_unless_told_otherwise() {
    let body = json!({"model": "haiku", "input": ["a", "b"]});
    for (truncate, cut) in [
        (Value::Null, true),
        (json!(true), true),
        (json!(false), false),
    ] {
        let body = with(body.clone(), "truncate", truncate);
        assert_eq!(OllamaEmbedCall::parse(&body).unwrap().truncate, cut);
    }
    assert!(OllamaEmbedCall::parse(&body).unwrap().truncate);
    assert!(OllamaEmbedCall::parse(&with(body, "truncate", json!("no"))).is_err());
    assert!(OllamaEmbedCall::parse_older(&text()).unwrap().truncate);
}

#[test]
fn a_penalty_that_looks_back_nowhere_is_none() {
    let body = with(
        chat(),
        "options",
        json!({"repeat_penalty": 1.5, "presence_penalty": 1, "repeat_last_n": 0}),
    );
    let sampling = asked(OllamaEdge::Chat, &body).request.sampling;
    assert!((sampling.repetition_penalty - 1.0).abs() < f32::EPSILON);
    assert!(sampling.presence_penalty.abs() < f32::EPSILON);
}

#[test]
fn lines_are_what_ollama_sends() {
    let answer = written(
        writer(OllamaEdge::Chat),
        vec![token("a \"b\"\n"), token(""), token("c")],
        FinishReason::Length,
    );
    let line = |content: &str| {
        json!({"model": "haiku", "created_at": "2026-01-02T03:04:05Z",
            "message": {"role": "assistant", "content": content}, "done": false})
    };
    let mut last = line("");
    last.as_object_mut().unwrap().extend(
        json!({"done": true, "done_reason": "length", "total_duration": 0, "load_duration": 0,
            "prompt_eval_count": 3, "prompt_eval_duration": 0, "eval_count": 2, "eval_duration": 0})
        .as_object()
        .unwrap()
        .clone(),
    );
    assert_eq!(lines(&answer), [line("a \"b\"\n"), line("c"), last]);
}

#[test]
fn a_call_is_sent_when_it_is_whole_and_left_out_when_it_was_cut_off() {
    let tokens = vec![
        call("", 0, "f", "{\"x\""),
        more(0, ":1}"),
        call("", 1, "g", ""),
        call("", 2, "h", "{\"cut"),
    ];
    let answer = written(writer(OllamaEdge::Chat), tokens, FinishReason::Length);
    let calls: Vec<_> = lines(&answer)
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
fn probabilities_come_with_the_text() {
    let tokens = vec![scored("", "h"), scored("hi", "i"), scored("", "</s>")];
    let answer = written(
        writer(OllamaEdge::Generate).with_logprobs(true),
        tokens,
        FinishReason::Stop,
    );
    let lines = lines(&answer);
    assert_eq!(lines.len(), 2);
    let texts: Vec<_> = lines[0]["logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["token"].clone())
        .collect();
    assert_eq!(texts, ["h", "i"]);
    assert_eq!(lines[1].get("logprobs"), None);
}

#[test]
fn an_error_is_one_text_with_ours_beside_it() {
    let error = Diagnostic::new(Code::ModelNotFound, "there is no model x").hint("look");
    let mut out = Vec::new();
    writer(OllamaEdge::Chat).error(error, &mut out);
    assert_eq!(
        lines(&out),
        [
            json!({"error": "there is no model x; look", "code": "MODEL_NOT_FOUND",
            "message": "there is no model x", "hint": "look"})
        ]
    );
}

#[test]
fn short_names_mean_listed_models() {
    let listed = ["builtin:haiku", "builtin:haiku@q8_0", "file:/m/a.gguf"];
    for (name, model) in [
        ("builtin:haiku", Some("builtin:haiku")),
        ("haiku", Some("builtin:haiku")),
        ("haiku:latest", Some("builtin:haiku")),
        ("haiku:q8_0", Some("builtin:haiku@q8_0")),
        ("file:/m/a.gguf", Some("file:/m/a.gguf")),
        ("haiku:q4_0", None),
        ("latest", None),
        ("", None),
    ] {
        assert_eq!(resolve(name, listed), model, "{name}");
    }
}

#[test]
fn counts_are_said_as_people_say_them() {
    let said = |parameters| {
        let facts = Facts {
            parameters,
            ..Facts::default()
        };
        OllamaModel::new("m".into(), &facts, jiff::Timestamp::UNIX_EPOCH)
    };
    for (parameters, text) in [
        (1_235_814_400, "1.2B"),
        (134_515_008, "134.5M"),
        (2_888_192, "2.9M"),
        (7, "7"),
    ] {
        assert_eq!(said(parameters).details.parameter_size, text);
    }
    assert_eq!(said(1).digest.len(), 64);
    assert_ne!(said(1).digest, said(2).digest);
}

proptest! {
    #[test]
    fn any_value_in_any_field_is_understood_or_refused_as_the_clients_fault(
        field in prop::sample::select(vec![
            "model", "messages", "prompt", "stream", "options", "format", "tools", "raw", "system",
            "keep_alive", "images", "think", "logprobs", "top_logprobs", "context",
        ]),
        value in any_json(),
    ) {
        for (edge, body) in [(OllamaEdge::Chat, chat()), (OllamaEdge::Generate, text())] {
            let in_options = with(body.clone(), "options", json!({field: value.clone()}));
            for body in [with(body, field, value.clone()), in_options, value.clone()] {
                if let Err(error) = read(edge, &body) {
                    prop_assert!(matches!(error.code, Code::InvalidRequest | Code::UnsupportedParameter));
                    prop_assert!(!error.message.chars().any(char::is_control));
                }
            }
        }
    }

    /// The lines, put together, are the document.
    #[test]
    fn lines_add_up_to_the_document(tokens in any_tokens()) {
        let streamed = lines(&written(writer(OllamaEdge::Chat), tokens.clone(), FinishReason::Stop));
        let whole = written(writer(OllamaEdge::Chat).streamed(false), tokens, FinishReason::Stop);
        let [whole] = &lines(&whole)[..] else {
            return Err(TestCaseError::fail("one document"));
        };
        let text: String = streamed
            .iter()
            .map(|line| line["message"]["content"].as_str().unwrap())
            .collect();
        prop_assert_eq!(&whole["message"]["content"], &json!(text));
        let calls: Vec<_> = streamed
            .iter()
            .filter_map(|line| line["message"]["tool_calls"].as_array())
            .flatten()
            .cloned()
            .collect();
        let expected = whole["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        prop_assert_eq!(calls, expected);
        let last = streamed.last().unwrap();
        prop_assert_eq!(&last["eval_count"], &whole["eval_count"]);
        prop_assert!(streamed.iter().rev().skip(1).all(|line| line["done"] == json!(false)));
    }
}
