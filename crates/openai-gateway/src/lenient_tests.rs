//! What clients send in other ways than the documentation of an API says. Each dialect accepts
//! what its reference accepts, and refuses the rest with the name of the field.

use diagnostics::Diagnostic;
use serde_json::{Value, json};
use worker_contract::{FinishReason, InferInput, InferRequest, Message, Role};

use crate::{
    anthropic,
    ollama::{self, OllamaEndpoint},
    openai::{self, OpenAiEndpoint},
    parsed_request::ParsedRequest,
    testing::{context, token, written},
};

type Parse = fn(&Value) -> Result<InferRequest, Diagnostic>;

fn chat(body: &Value) -> Result<InferRequest, Diagnostic> {
    openai::parse(OpenAiEndpoint::ChatCompletions, body, &context()).map(|parsed| parsed.request)
}

fn completion(body: &Value) -> Result<InferRequest, Diagnostic> {
    openai::parse(OpenAiEndpoint::Completions, body, &context()).map(|parsed| parsed.request)
}

fn messages(body: &Value) -> Result<InferRequest, Diagnostic> {
    anthropic::parse(body, &context()).map(|parsed| parsed.request)
}

fn ollama_chat(body: &Value) -> Result<InferRequest, Diagnostic> {
    ollama::parse(OllamaEndpoint::Chat, body, &context()).map(|parsed| parsed.request)
}

/// A valid body of all dialects, with further fields.
fn body(more: &Value) -> Value {
    let mut body = json!({"model": "m", "prompt": "x", "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The conversation of a request.
fn conversation(request: InferRequest) -> Vec<Message> {
    match request.input {
        InferInput::Messages(messages) => messages,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_without_meaning_is_what_the_context_leaves() {
    let dialects: [(&str, Parse); 3] = [
        ("chat", chat),
        ("completion", completion),
        ("messages", messages),
    ];
    for (name, parse) in dialects {
        for (sent, max_tokens) in [
            (json!(-1), None),
            (json!(7), Some(7)),
            (json!(7.0), Some(7)),
            (json!(5_000_000_000_u64), Some(u32::MAX)),
        ] {
            let request = parse(&body(&json!({"max_tokens": sent}))).unwrap();
            assert_eq!(request.max_tokens, max_tokens, "{name}: {sent}");
            assert!(request.end_with_context, "{name}");
        }
        for wrong in [json!(-2), json!(1.5), json!("7"), json!(true), json!(1e300)] {
            let error = parse(&body(&json!({"max_tokens": wrong}))).unwrap_err();
            assert_eq!(
                error.param.as_deref(),
                Some("max_tokens"),
                "{name}: {error}"
            );
        }
    }
    for sent in [-1, 0] {
        let more = json!({"max_tokens": null, "max_completion_tokens": sent});
        assert_eq!(chat(&body(&more)).unwrap().max_tokens, None);
    }
    // OpenAI's default for text completions stays.
    let absent = completion(&json!({"model": "m", "prompt": "x"})).unwrap();
    assert_eq!(absent.max_tokens, Some(16));
}

/// OpenAI's text completions and Anthropic's messages compute the prompt and generate nothing;
/// in the other APIs, 0 is an error or no limit, and clients mean the latter.
#[test]
fn a_limit_of_zero_is_what_the_reference_makes_of_it() {
    use openai::OpenAiEndpoint::{ChatCompletions, Completions};
    let sent = body(&json!({"max_tokens": 0, "logprobs": null}));
    let count = |parsed: ParsedRequest| {
        assert_eq!(parsed.request.max_tokens, Some(1));
        let tokens = vec![token("a"), token("b")];
        serde_json::from_slice::<Value>(&written(parsed.writer, tokens, FinishReason::Stop))
            .unwrap()
    };
    let text = count(openai::parse(Completions, &sent, &context()).unwrap());
    assert_eq!(
        text["choices"],
        json!([{"index": 0, "text": "", "logprobs": null, "finish_reason": "length"}])
    );
    assert_eq!(text["usage"]["completion_tokens"], 0);
    let message = count(anthropic::parse(&sent, &context()).unwrap());
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&json!([]), &json!("max_tokens"))
    );
    assert_eq!(message["usage"]["output_tokens"], 0);
    let chat = openai::parse(ChatCompletions, &sent, &context()).unwrap();
    let response = json!({"model": "m", "input": "x", "max_output_tokens": 0});
    let response = crate::responses::parse(&response, &context()).unwrap();
    for (parsed, field) in [(chat, "max_tokens"), (response, "max_output_tokens")] {
        assert_eq!(parsed.request.max_tokens, None);
        let note = format!("`{field}: 0` is no limit: the output ends where the context does");
        assert_eq!(parsed.notes, [note]);
    }
    let options = body(&json!({"options": {"num_predict": 0}}));
    assert_eq!(ollama_chat(&options).unwrap().max_tokens, None);
}

#[test]
fn integers_may_have_a_fraction_of_zero() {
    for (field, sent) in [
        ("n", json!(1.0)),
        ("seed", json!(7.0)),
        ("top_k", json!(40.0)),
        ("top_k", json!(-1.0)),
        ("max_completion_tokens", json!(9.0)),
    ] {
        chat(&body(&json!({ field: sent }))).unwrap();
        let error = chat(&body(&json!({ field: "1" }))).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(field));
        assert!(error.message.ends_with("expected an integer"), "{error}");
        let error = chat(&body(&json!({ field: 0.5 }))).unwrap_err();
        assert!(error.message.ends_with("expected an integer"), "{error}");
    }
    let request = messages(&body(&json!({"top_k": 40.0}))).unwrap();
    assert_eq!(request.sampling.values.top_k, Some(40));
    let error = messages(&body(&json!({"top_k": -1}))).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("top_k"));
}

#[test]
fn an_empty_or_null_field_is_absent() {
    let plain = chat(&body(&json!({}))).unwrap();
    for more in [
        json!({"stop": null}),
        json!({"stop": ""}),
        json!({"stop": []}),
        json!({"tools": []}),
        json!({"tools": null, "tool_choice": "auto", "parallel_tool_calls": true}),
        json!({"tool_choice": "none"}),
        json!({"response_format": null, "stream_options": null, "logit_bias": {}}),
        json!({"temperature": null, "top_p": null, "n": null, "seed": null, "stream": null}),
        json!({"user": "u", "metadata": {"a": "b"}, "store": true, "logprobs": null}),
        json!({"functions": null, "function_call": null, "audio": null, "modalities": null}),
    ] {
        let mut request = chat(&body(&more)).unwrap();
        if more["tool_choice"] == "none" {
            request.tool_choice = plain.tool_choice.clone();
        }
        assert_eq!(request, plain, "{more}");
    }
}

#[test]
fn a_message_of_the_assistant_may_have_no_content() {
    let dialects: [(&str, Parse); 3] = [
        ("chat", chat),
        ("messages", messages),
        ("Ollama", ollama_chat),
    ];
    for (name, parse) in dialects {
        for content in [json!({}), json!({"content": null}), json!({"content": []})] {
            let mut empty = content.clone();
            empty["role"] = json!("assistant");
            let history = json!([{"role": "user", "content": "a"}, empty,
                {"role": "user", "content": "b"}]);
            let request = parse(&body(&json!({"messages": history}))).unwrap();
            let messages = conversation(request);
            assert_eq!(messages[1], Message::new(Role::Assistant, ""), "{name}");
        }
    }
    for (content, param) in [
        (json!({}), "messages[0].content"),
        (json!({"content": null}), "messages[0].content"),
    ] {
        let mut message = content;
        message["role"] = json!("user");
        for parse in [chat, messages] {
            let error = parse(&body(&json!({"messages": [message]}))).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }
}

#[test]
fn fields_of_earlier_answers_may_be_sent_back() {
    let answer = json!({"role": "assistant", "content": "yes", "refusal": null, "audio": null,
        "function_call": null, "tool_calls": null, "annotations": [], "name": "a"});
    let refused = json!({"role": "assistant", "content": null, "refusal": "no"});
    let part = json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]});
    let history = json!([{"role": "user", "content": "x"}, answer, refused, part,
        {"role": "user", "content": "y"}]);
    let messages = conversation(chat(&body(&json!({"messages": history}))).unwrap());
    let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
    assert_eq!(texts, ["x", "yes", "no", "never", "y"]);
}

#[test]
fn the_last_message_is_continued_if_the_request_says_so() {
    let begun = |content: &str| json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]);
    let continues = |parse: Parse, more: Value| {
        let mut with = json!({"messages": begun("Once")});
        for (name, value) in more.as_object().unwrap() {
            with[name] = value.clone();
        }
        parse(&body(&with)).map(|request| request.continue_final_message)
    };
    assert_eq!(continues(chat, json!({})), Ok(false));
    assert_eq!(continues(messages, json!({})), Ok(true));
    assert_eq!(continues(ollama_chat, json!({})), Ok(true));
    for more in [
        json!({"continue_final_message": true}),
        json!({"continue_final_message": true, "add_generation_prompt": false}),
    ] {
        assert_eq!(continues(chat, more), Ok(true));
    }
    let mut prefix = begun("Once");
    prefix[1]["prefix"] = json!(true);
    assert_eq!(continues(chat, json!({"messages": prefix})), Ok(true));
    for (more, param) in [
        (
            json!({"add_generation_prompt": false}),
            "add_generation_prompt",
        ),
        (
            json!({"continue_final_message": true, "add_generation_prompt": true}),
            "add_generation_prompt",
        ),
    ] {
        let error = continues(chat, more).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param));
    }
    let mut early = begun("Once");
    early[0]["prefix"] = json!(true);
    let error = continues(chat, json!({"messages": early})).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[0].prefix"));
    // Anthropic refuses a space at the end.
    let error = messages(&body(&json!({"messages": begun("Once ")}))).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[1].content"));
    // A turn of the user follows: nothing to continue.
    let mut answered = begun("Once");
    let user = json!({"role": "user", "content": "y"});
    answered.as_array_mut().unwrap().push(user);
    for parse in [messages as Parse, ollama_chat] {
        let more = json!({"messages": answered.clone()});
        assert_eq!(continues(parse, more), Ok(false));
    }
}
