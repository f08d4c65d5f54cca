//! Constrained requests with the mock engine: their outputs satisfy the constraints, and other
//! requests are not affected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use inference_execution::{
    RequestStream, Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use text_codec::Codec;
use worker_contract::{
    Constraint, FinishReason, InferInput, InferRequest, Message, Role, StreamEvent, ToolCall,
    ToolChoice, ToolDefinition,
};

/// Much longer than any test takes; exceeded only by a hang.
const HANG: Duration = Duration::from_secs(60);
/// The end token of the mock engine.
const END: u32 = 256;

fn runtime(settings: &str) -> Runtime {
    let settings: MockSettings = settings.parse().unwrap();
    let config = RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots);
    let engine = Box::new(MockEngine::new(settings));
    Runtime::start(engine, Arc::new(Codec::byte_level()), config).unwrap()
}

/// The temperature is so high that the mock engine's own words do not matter.
fn request(id: &str, constraint: Constraint, seed: u64) -> InferRequest {
    let mut request = InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hello".into()));
    request.constraint = Some(constraint);
    request.sampling.values.temperature = Some(50.0);
    request.sampling.seed = Some(seed);
    request.max_tokens = Some(400);
    request
}

fn point() -> Constraint {
    Constraint::JsonSchema(json!({
        "type": "object", "required": ["x", "name"], "additionalProperties": false,
        "properties": {
            "x": {"type": "integer", "minimum": -50, "maximum": 50},
            "name": {"enum": ["left", "right"]}
        }
    }))
}

fn is_point(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    // `-0` is an integer in JSON schema, but serde parses it as a float.
    let zero = (value["x"] == json!(-0.0)).then_some(0);
    let x = value["x"].as_i64().or(zero).unwrap();
    (-50..=50).contains(&x) && ["left", "right"].contains(&value["name"].as_str().unwrap())
}

#[derive(Debug, Clone, PartialEq)]
struct Collected {
    tokens: Vec<u32>,
    text: String,
    calls: Vec<ToolCall>,
    end: Result<FinishReason, Diagnostic>,
}

async fn collect(mut stream: RequestStream) -> Collected {
    let (mut tokens, mut text, mut calls) = (Vec::new(), String::new(), Vec::new());
    let end = loop {
        match tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
            Some(StreamEvent::Token(token)) => {
                tokens.push(token.id);
                text.push_str(&token.t);
                for piece in token.calls {
                    piece.append_to(&mut calls);
                }
            }
            Some(StreamEvent::End(end)) => break Ok(end.reason),
            Some(StreamEvent::Error(error)) => break Err(error),
            Some(StreamEvent::Started(_) | StreamEvent::Metrics(_)) => {}
            None => panic!("no terminal event"),
        }
    };
    Collected {
        tokens,
        text,
        calls,
        end,
    }
}

async fn run(runtime: &Runtime, request: InferRequest) -> Collected {
    let runtime = runtime.clone();
    let submitted = tokio::task::spawn_blocking(move || runtime.submit(request));
    collect(submitted.await.unwrap().unwrap()).await
}

#[tokio::test]
async fn output_satisfies_the_constraint_and_ends_with_it() {
    let runtime = runtime("slots=1");
    for seed in 0..12 {
        let collected = run(&runtime, request("a", point(), seed)).await;
        assert_eq!(collected.end, Ok(FinishReason::Stop));
        assert!(is_point(&collected.text), "{}", collected.text);
        assert_eq!(collected.tokens.last(), Some(&END));
    }
    let mut greedy = request("a", Constraint::Regex("[x-z]{3}(, ok)?".into()), 1);
    greedy.sampling.values.temperature = Some(0.0);
    let collected = run(&runtime, greedy).await;
    // All of them are equally likely, so the lowest id is sampled each time.
    assert_eq!(
        (collected.text.as_str(), collected.end),
        ("xxx, ok", Ok(FinishReason::Stop))
    );
}

#[tokio::test]
async fn output_that_is_cut_off_finishes_with_length() {
    let runtime = runtime("slots=1");
    let mut short = request("a", point(), 1);
    short.max_tokens = Some(4);
    let collected = run(&runtime, short).await;
    assert_eq!(
        (collected.tokens.len(), collected.end),
        (4, Ok(FinishReason::Length))
    );
}

#[tokio::test]
async fn continued_output_equals_the_uninterrupted_one() {
    let runtime = runtime("slots=1");
    let complete = run(&runtime, request("a", point(), 5)).await;
    for cut in 0..=complete.tokens.len() {
        let mut rest = request("a", point(), 5);
        rest.continue_from = complete.tokens[..cut].to_vec();
        let continued = run(&runtime, rest).await;
        assert_eq!(continued.tokens, complete.tokens[cut..]);
        assert_eq!(continued.end, complete.end);
    }
    let mut wrong = request("a", point(), 5);
    wrong.continue_from = vec![u32::from(b'x')];
    let error = runtime.submit(wrong).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("continue_from"));
}

#[tokio::test]
async fn unusable_constraint_is_refused_and_holds_no_slot() {
    let runtime = runtime("slots=1");
    let impossible = json!({"type": "integer", "minimum": 5, "maximum": 3});
    for (constraint, code) in [
        (Constraint::JsonSchema(impossible), Code::InvalidRequest),
        (
            Constraint::StrictJsonSchema(json!({"not": {}})),
            Code::UnsupportedParameter,
        ),
        (Constraint::Regex("(".into()), Code::InvalidRequest),
        (
            Constraint::Grammar("start: nothing".into()),
            Code::InvalidRequest,
        ),
    ] {
        let error = runtime.submit(request("a", constraint, 1)).unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (code, Some("constraint"))
        );
        assert_eq!(runtime.status().slots_free, 1);
    }
    assert!(is_point(
        &run(&runtime, request("a", point(), 1)).await.text
    ));
}

/// Returns a request that may call `weather` with a town, or `now`.
fn with_tools(id: &str, choice: ToolChoice, seed: u64) -> InferRequest {
    let town = json!({
        "type": "object", "required": ["town"], "additionalProperties": false,
        "properties": {"town": {"$ref": "#/$defs/town"}},
        "$defs": {"town": {"enum": ["Bern", "Zürich"]}}
    });
    let tool = |name: &str, parameters: Option<Value>| ToolDefinition {
        name: name.into(),
        description: None,
        parameters,
        strict: false,
    };
    let mut request = request(id, Constraint::JsonObject, seed);
    request.constraint = None;
    request.input = InferInput::Messages(vec![Message::new(Role::User, "How is it?")]);
    request.tools = vec![tool("weather", Some(town)), tool("now", None)];
    request.tool_choice = choice;
    request
}

fn is_call(call: &ToolCall) -> bool {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
    match call.name.as_str() {
        "weather" => {
            let town = arguments["town"].as_str().unwrap();
            ["Bern", "Zürich"].contains(&town) && call.id.len() == 9
        }
        "now" => arguments == json!({}),
        _ => false,
    }
}

#[tokio::test]
async fn forced_tool_call_is_the_complete_output() {
    let runtime = runtime("slots=1");
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let collected = run(&runtime, with_tools("a", ToolChoice::Required, seed)).await;
        assert_eq!(collected.end, Ok(FinishReason::ToolCalls));
        assert_eq!((collected.text.as_str(), collected.calls.len()), ("", 1));
        assert!(is_call(&collected.calls[0]), "{:?}", collected.calls);
        names.insert(collected.calls[0].name.clone());
        let named = with_tools("a", ToolChoice::Named("now".into()), seed);
        let collected = run(&runtime, named).await;
        assert_eq!(collected.end, Ok(FinishReason::ToolCalls));
        assert!(collected.calls.len() == 1 && collected.calls[0].name == "now");
    }
    assert_eq!(names.len(), 2, "both functions are called: {names:?}");
}

#[tokio::test]
async fn continued_tool_call_equals_the_uninterrupted_one() {
    let runtime = runtime("slots=1");
    let request = || with_tools("a", ToolChoice::Named("weather".into()), 5);
    let complete = run(&runtime, request()).await;
    for cut in 0..=complete.tokens.len() {
        let mut rest = request();
        rest.continue_from = complete.tokens[..cut].to_vec();
        let continued = run(&runtime, rest).await;
        assert_eq!(continued.tokens, complete.tokens[cut..]);
        assert_eq!(continued.end, complete.end);
    }
}

#[tokio::test]
async fn constrained_output_may_call_tools() {
    let runtime = runtime("slots=1");
    let (mut texts, mut calls) = (0, 0);
    for seed in 0..40 {
        let mut request = with_tools("a", ToolChoice::Auto, seed);
        request.constraint = Some(point());
        request.max_tokens = Some(2000);
        let collected = run(&runtime, request).await;
        if collected.calls.is_empty() {
            assert!(is_point(&collected.text), "{}", collected.text);
            assert_eq!(collected.end, Ok(FinishReason::Stop));
            texts += 1;
        } else {
            assert_eq!(
                (collected.text.as_str(), collected.end),
                ("", Ok(FinishReason::ToolCalls))
            );
            assert!(collected.calls.iter().all(is_call), "{:?}", collected.calls);
            calls += 1;
        }
    }
    assert!(texts > 0 && calls > 0, "{texts} texts, {calls} calls");
}

#[tokio::test]
async fn unusable_parameters_are_refused_with_the_tool() {
    let runtime = runtime("slots=1");
    for (schema, code) in [
        (json!({"not": {}}), Code::UnsupportedParameter),
        (
            json!({"type": "object", "properties": 7}),
            Code::InvalidRequest,
        ),
    ] {
        for constraint in [None, Some(point())] {
            let choice = match constraint {
                None => ToolChoice::Required,
                Some(_) => ToolChoice::Auto,
            };
            let mut request = with_tools("a", choice, 1);
            request.tools[1].parameters = Some(schema.clone());
            request.tools[1].strict = true;
            request.constraint = constraint;
            let error = runtime.submit(request).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (code, Some("tools")));
            assert!(error.message.contains("\"now\""), "{error}");
        }
    }
    assert_eq!(runtime.status().slots_free, 1);
}

/// A text in which every call is one of a function, with its arguments, although the model would
/// write anything.
#[tokio::test]
async fn strict_tools_are_called_with_their_parameters_only() {
    let runtime = runtime("slots=1,length=400");
    let mut calls = 0;
    for seed in 0..6 {
        let mut request = with_tools("a", ToolChoice::Auto, seed);
        request.tools[0].strict = true;
        request.max_tokens = Some(400);
        // The first part of the output is given, and ends in a mark.
        let start = "Look: <tool_call>";
        request.continue_from = start.bytes().map(u32::from).collect();
        let collected = run(&runtime, request).await;
        assert!(!collected.calls.is_empty(), "{}", collected.text);
        assert!(collected.calls.iter().all(is_call), "{:?}", collected.calls);
        calls += collected.calls.len();
    }
    assert!(calls >= 6);
}

#[tokio::test]
async fn what_is_not_enforced_is_noted() {
    let runtime = runtime("slots=1");
    let mut request = with_tools("a", ToolChoice::Required, 1);
    request.tools[1].parameters = Some(json!({"type": "object", "not": {}, "maxProperties": 0}));
    request.max_tokens = Some(300);
    let mut stream = runtime.submit(request).unwrap();
    let started = loop {
        match stream.recv().await {
            Some(StreamEvent::Started(started)) => break started,
            Some(_) => {}
            None => panic!("no start"),
        }
    };
    assert_eq!(
        started.notes,
        ["the parameters of \"now\": not enforced: `not` at `/`"]
    );
}

/// Each mask of this grammar takes more work than the previous one. Its request fails without
/// affecting others.
#[tokio::test]
async fn grammar_that_becomes_too_complex_ends_its_own_request_only() {
    let runtime = runtime("slots=3,length=300");
    let bomb = Constraint::Regex("(((a?b?){1000}){1000}){1000}".into());
    let mut bomb = request("bomb", bomb, 3);
    // Without the end token, the output continues until its masks take too much work.
    bomb.sampling.values.temperature = Some(1.0);
    bomb.sampling.logit_bias = vec![(END, -100.0)];
    let free = InferRequest::new("free".parse().unwrap(), InferInput::Prompt("x".into()));
    let (bomb, free, good) = tokio::join!(
        run(&runtime, bomb),
        run(&runtime, free),
        run(&runtime, request("good", point(), 3)),
    );
    let error = bomb.end.unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("too complex"), "{error}");
    assert!(
        !bomb.tokens.is_empty(),
        "the grammar was accepted, and failed later"
    );
    assert_eq!((free.end, free.text.len()), (Ok(FinishReason::Stop), 300));
    assert!(is_point(&good.text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The output of a request is the same alone and batched with constrained and unconstrained
    /// others, in a KV cache so small that sequences are preempted frequently.
    #[test]
    fn batching_does_not_change_constrained_outputs(seeds in prop::collection::vec(0..1000_u64, 2..6)) {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let request = |index: usize, seed: u64| {
                let mut request = request(&format!("r{index}"), point(), seed);
                if index.is_multiple_of(2) {
                    request.constraint = None;
                }
                request
            };
            let alone = runtime("slots=1,length=90,context=512");
            let batched = runtime("slots=6,length=90,context=512,kv=512");
            let mut tasks = Vec::new();
            for (index, seed) in seeds.iter().enumerate() {
                let (batched, request) = (batched.clone(), request(index, *seed));
                tasks.push(tokio::spawn(async move { run(&batched, request).await }));
            }
            for (index, (seed, task)) in seeds.iter().zip(tasks).enumerate() {
                let expected = run(&alone, request(index, *seed)).await;
                assert_eq!(task.await.unwrap(), expected);
            }
        });
    }
}
