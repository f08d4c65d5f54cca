//! Constrained answers through the runtime, with the mock engine: what is said keeps to the
//! constraint, and nobody else is concerned.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
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

/// Far longer than anything here takes: reached only by a hang.
const HANG: Duration = Duration::from_secs(60);
/// The mock's end token.
const END: u32 = 256;

fn runtime(settings: &str) -> Runtime {
    let settings: MockSettings = settings.parse().unwrap();
    let config = RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots);
    let engine = Box::new(MockEngine::new(settings));
    Runtime::start(engine, Arc::new(Codec::byte_level()), config).unwrap()
}

/// Hot enough that the mock's own words do not matter.
fn request(id: &str, constraint: Constraint, seed: u64) -> InferRequest {
    let mut request = InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hello".into()));
    request.constraint = Some(constraint);
    request.sampling.temperature = 50.0;
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
    // `-0` is an integer as well, which serde reads as a float.
    let zero = (value["x"] == json!(-0.0)).then_some(0);
    let x = value["x"].as_i64().or(zero).unwrap();
    (-50..=50).contains(&x) && ["left", "right"].contains(&value["name"].as_str().unwrap())
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    calls: Vec<ToolCall>,
    end: Result<FinishReason, Diagnostic>,
}

async fn collect(mut stream: RequestStream) -> Answer {
    let (mut tokens, mut text, mut calls) = (Vec::new(), String::new(), Vec::new());
    let end = loop {
        match tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
            Some(StreamEvent::Token(token)) => {
                tokens.push(token.id);
                text.push_str(&token.t);
                for piece in token.calls {
                    piece.add_to(&mut calls);
                }
            }
            Some(StreamEvent::End(end)) => break Ok(end.reason),
            Some(StreamEvent::Error(error)) => break Err(error),
            Some(StreamEvent::Started(_) | StreamEvent::Metrics(_)) => {}
            None => panic!("no terminal event"),
        }
    };
    Answer {
        tokens,
        text,
        calls,
        end,
    }
}

async fn answer_to(runtime: &Runtime, request: InferRequest) -> Answer {
    let runtime = runtime.clone();
    let submitted = tokio::task::spawn_blocking(move || runtime.submit(request));
    collect(submitted.await.unwrap().unwrap()).await
}

#[tokio::test]
async fn the_answer_keeps_to_the_constraint_and_ends_with_it() {
    let runtime = runtime("slots=1");
    for seed in 0..12 {
        let answer = answer_to(&runtime, request("a", point(), seed)).await;
        assert_eq!(answer.end, Ok(FinishReason::Stop));
        assert!(is_point(&answer.text), "{}", answer.text);
        assert_eq!(answer.tokens.last(), Some(&END));
    }
    let mut greedy = request("a", Constraint::Regex("[x-z]{3}(, ok)?".into()), 1);
    greedy.sampling.temperature = 0.0;
    let answer = answer_to(&runtime, greedy).await;
    // All are equally likely to the mock, so the lowest id is taken each time.
    assert_eq!(
        (answer.text.as_str(), answer.end),
        ("xxx, ok", Ok(FinishReason::Stop))
    );
}

#[tokio::test]
async fn what_is_cut_off_ends_with_length() {
    let runtime = runtime("slots=1");
    let mut short = request("a", point(), 1);
    short.max_tokens = Some(4);
    let answer = answer_to(&runtime, short).await;
    assert_eq!(
        (answer.tokens.len(), answer.end),
        (4, Ok(FinishReason::Length))
    );
}

#[tokio::test]
async fn a_continued_answer_is_the_undisturbed_one() {
    let runtime = runtime("slots=1");
    let whole = answer_to(&runtime, request("a", point(), 5)).await;
    for cut in 0..=whole.tokens.len() {
        let mut rest = request("a", point(), 5);
        rest.continue_from = whole.tokens[..cut].to_vec();
        let continued = answer_to(&runtime, rest).await;
        assert_eq!(continued.tokens, whole.tokens[cut..]);
        assert_eq!(continued.end, whole.end);
    }
    let mut wrong = request("a", point(), 5);
    wrong.continue_from = vec![u32::from(b'x')];
    let error = runtime.submit(wrong).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("continue_from"));
}

#[tokio::test]
async fn a_constraint_that_cannot_be_used_is_refused_and_holds_no_slot() {
    let runtime = runtime("slots=1");
    let impossible = json!({"type": "integer", "minimum": 5, "maximum": 3});
    for (constraint, code) in [
        (Constraint::JsonSchema(impossible), Code::InvalidRequest),
        (
            Constraint::JsonSchema(json!({"not": {}})),
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
        &answer_to(&runtime, request("a", point(), 1)).await.text
    ));
}

/// A request that may call `weather` with a town, or `now`.
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
async fn a_call_that_is_asked_for_is_the_whole_answer() {
    let runtime = runtime("slots=1");
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let answer = answer_to(&runtime, with_tools("a", ToolChoice::Required, seed)).await;
        assert_eq!(answer.end, Ok(FinishReason::ToolCalls));
        assert_eq!((answer.text.as_str(), answer.calls.len()), ("", 1));
        assert!(is_call(&answer.calls[0]), "{:?}", answer.calls);
        names.insert(answer.calls[0].name.clone());
        let named = with_tools("a", ToolChoice::Named("now".into()), seed);
        let answer = answer_to(&runtime, named).await;
        assert_eq!(answer.end, Ok(FinishReason::ToolCalls));
        assert!(answer.calls.len() == 1 && answer.calls[0].name == "now");
    }
    assert_eq!(names.len(), 2, "any of them may be called: {names:?}");
}

#[tokio::test]
async fn a_call_that_is_continued_is_the_undisturbed_one() {
    let runtime = runtime("slots=1");
    let request = || with_tools("a", ToolChoice::Named("weather".into()), 5);
    let whole = answer_to(&runtime, request()).await;
    for cut in 0..=whole.tokens.len() {
        let mut rest = request();
        rest.continue_from = whole.tokens[..cut].to_vec();
        let continued = answer_to(&runtime, rest).await;
        assert_eq!(continued.tokens, whole.tokens[cut..]);
        assert_eq!(continued.end, whole.end);
    }
}

#[tokio::test]
async fn an_answer_with_a_constraint_may_still_call() {
    let runtime = runtime("slots=1");
    let (mut texts, mut calls) = (0, 0);
    for seed in 0..40 {
        let mut request = with_tools("a", ToolChoice::Auto, seed);
        request.constraint = Some(point());
        request.max_tokens = Some(2000);
        let answer = answer_to(&runtime, request).await;
        if answer.calls.is_empty() {
            assert!(is_point(&answer.text), "{}", answer.text);
            assert_eq!(answer.end, Ok(FinishReason::Stop));
            texts += 1;
        } else {
            assert_eq!(
                (answer.text.as_str(), answer.end),
                ("", Ok(FinishReason::ToolCalls))
            );
            assert!(answer.calls.iter().all(is_call), "{:?}", answer.calls);
            calls += 1;
        }
    }
    assert!(texts > 0 && calls > 0, "{texts} texts, {calls} calls");
}

#[tokio::test]
async fn parameters_that_cannot_be_kept_to_are_refused_by_name() {
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
            request.constraint = constraint;
            let error = runtime.submit(request).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (code, Some("tools")));
            assert!(error.message.contains("\"now\""), "{error}");
        }
    }
    assert_eq!(runtime.status().slots_free, 1);
}

/// A grammar whose every mask takes much work fails alone; who shares the engine gets its
/// answer.
#[tokio::test]
async fn a_grammar_that_grows_too_large_on_the_way_ends_its_own_request_only() {
    let runtime = runtime("slots=3,length=300");
    let bomb = Constraint::Regex("(((a?b?){1000}){1000}){1000}".into());
    let free = InferRequest::new("free".parse().unwrap(), InferInput::Prompt("x".into()));
    let (bomb, free, good) = tokio::join!(
        answer_to(&runtime, request("bomb", bomb, 3)),
        answer_to(&runtime, free),
        answer_to(&runtime, request("good", point(), 3)),
    );
    if let Err(error) = bomb.end {
        assert_eq!(error.code, Code::InvalidRequest);
        assert!(error.message.contains("too complex"), "{error}");
    }
    assert_eq!((free.end, free.text.len()), (Ok(FinishReason::Stop), 300));
    assert!(is_point(&good.text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Constrained and free requests together, with so little KV cache that sequences are put
    /// back and computed anew all the time: each answer is what it is alone.
    #[test]
    fn company_changes_no_constrained_answer(seeds in prop::collection::vec(0..1000_u64, 2..6)) {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let of = |index: usize, seed: u64| {
                let mut request = request(&format!("r{index}"), point(), seed);
                if index.is_multiple_of(2) {
                    request.constraint = None;
                }
                request
            };
            let alone = runtime("slots=1,length=90,context=512");
            let crowded = runtime("slots=6,length=90,context=512,kv=512");
            let mut tasks = Vec::new();
            for (index, seed) in seeds.iter().enumerate() {
                let (crowded, request) = (crowded.clone(), of(index, *seed));
                tasks.push(tokio::spawn(async move { answer_to(&crowded, request).await }));
            }
            for (index, (seed, task)) in seeds.iter().zip(tasks).enumerate() {
                let expected = answer_to(&alone, of(index, *seed)).await;
                assert_eq!(task.await.unwrap(), expected);
            }
        });
    }
}
