//! Requests to a model that reasons, with the mock engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use inference_execution::{
    Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use serde_json::json;
use worker_contract::{
    Constraint, FinishReason, InferInput, InferRequest, Message, ReasoningOptions, Role,
    StreamEvent, TokenizeRequest, ToolCall, ToolChoice, ToolDefinition,
};

/// Much longer than any test takes; exceeded only by a hang.
const HANG: Duration = Duration::from_secs(60);
const THINK: &str = "answer=think";
const OPENED: &str = "answer=think_opened";

fn runtime(settings: &str) -> Runtime {
    let settings: MockSettings = settings.parse().unwrap();
    let config = RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots);
    let (engine, codec) = MockEngine::load(settings, &|_, _| {}).unwrap();
    Runtime::start(Box::new(engine), codec.into(), config).unwrap()
}

fn request(message: &str, change: impl FnOnce(&mut InferRequest)) -> InferRequest {
    let messages = vec![Message::new(Role::User, message)];
    let mut request = InferRequest::new("r".parse().unwrap(), InferInput::Messages(messages));
    request.sampling.values.temperature = Some(0.0);
    change(&mut request);
    request
}

fn options(enabled: Option<bool>, max_tokens: Option<u32>) -> ReasoningOptions {
    ReasoningOptions {
        enabled,
        max_tokens,
        ..ReasoningOptions::default()
    }
}

#[derive(Debug, Default, PartialEq)]
struct Output {
    tokens: Vec<u32>,
    /// Text and reasoning of each token.
    parts: Vec<(String, String)>,
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    notes: Vec<String>,
    reasoning_tokens: u32,
    prompt_tokens: u32,
    reason: Option<FinishReason>,
}

async fn run(runtime: &Runtime, request: InferRequest) -> Result<Output, Diagnostic> {
    let runtime = runtime.clone();
    let submitted = tokio::task::spawn_blocking(move || runtime.submit(request));
    let mut stream = submitted.await.unwrap()?;
    let mut output = Output::default();
    while let Some(event) = tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
        match event {
            StreamEvent::Started(started) => output.notes = started.notes,
            StreamEvent::Token(token) => {
                output.tokens.push(token.id);
                output.text.push_str(&token.t);
                output.reasoning.push_str(&token.reasoning);
                output.parts.push((token.t, token.reasoning));
                for piece in token.calls {
                    piece.append_to(&mut output.calls);
                }
            }
            StreamEvent::Metrics(_) => {}
            StreamEvent::End(end) => {
                output.reason = Some(end.reason);
                output.reasoning_tokens = end.usage.reasoning_tokens;
                output.prompt_tokens = end.usage.prompt_tokens;
            }
            StreamEvent::Error(error) => return Err(error),
        }
    }
    Ok(output)
}

#[tokio::test]
async fn reasoning_is_separated_from_the_answer() {
    for settings in [THINK, OPENED] {
        let output = run(&runtime(settings), request("Hé", |_| {}))
            .await
            .unwrap();
        assert_eq!(output.text, "Hé", "{settings}");
        assert_eq!(output.reasoning, "The message is: Hé", "{settings}");
        assert_eq!(output.reason, Some(FinishReason::Stop));
        // A token of the mock engine is a byte. The line break before the mark is reasoning, and
        // so is the mark up to its last byte.
        let bytes = "The message is: Hé\n</think".len();
        let opening = if settings == OPENED { 0 } else { "\n".len() };
        assert_eq!(output.reasoning_tokens as usize, bytes + opening);
    }
    let plain = run(
        &runtime("answer=echo"),
        request("<think>a</think>b", |_| {}),
    )
    .await;
    let plain = plain.unwrap();
    assert_eq!(
        (plain.text.as_str(), plain.reasoning_tokens),
        ("<think>a</think>b", 0)
    );
}

#[tokio::test]
async fn reasoning_can_be_turned_off() {
    for settings in [THINK, OPENED] {
        let runtime = runtime(settings);
        for reasoning in [
            options(Some(false), None),
            options(None, Some(0)),
            ReasoningOptions {
                effort: Some("none".into()),
                ..ReasoningOptions::default()
            },
        ] {
            let output = run(&runtime, request("Hi", |r| r.reasoning = reasoning))
                .await
                .unwrap();
            assert_eq!(
                (output.text.as_str(), output.reasoning.as_str()),
                ("Hi", "")
            );
            assert_eq!(output.notes, [""; 0]);
        }
        let variables = json!({"enable_thinking": false});
        let off = request("Hi", |r| {
            r.template_variables = serde_json::from_value(variables).unwrap();
        });
        assert_eq!(run(&runtime, off).await.unwrap().reasoning, "");
    }
}

#[tokio::test]
async fn options_that_the_model_does_not_know_are_noted_or_refused() {
    let on = |required| ReasoningOptions {
        required,
        ..options(Some(true), None)
    };
    let thinks = run(&runtime(THINK), request("Hi", |r| r.reasoning = on(true)))
        .await
        .unwrap();
    assert_eq!(thinks.notes, [""; 0]);
    let effort = ReasoningOptions {
        effort: Some("high".into()),
        ..ReasoningOptions::default()
    };
    let noted = run(&runtime(THINK), request("Hi", |r| r.reasoning = effort))
        .await
        .unwrap();
    assert_eq!(
        noted.notes,
        ["the model has no levels of reasoning effort; \"high\" was ignored"]
    );
    let echo = runtime("answer=echo");
    let ignored = run(&echo, request("Hi", |r| r.reasoning = on(false)))
        .await
        .unwrap();
    assert_eq!((ignored.text.as_str(), ignored.notes.len()), ("Hi", 1));
    let error = run(&echo, request("Hi", |r| r.reasoning = on(true)))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.message, "\"mock:test\" does not support thinking");
}

#[tokio::test]
async fn a_budget_ends_reasoning_and_the_answer_follows() {
    for (settings, budget, reasoning) in [
        (THINK, 9, "The mess"),
        (OPENED, 8, "The mess"),
        (OPENED, 1, "T"),
        (OPENED, 1000, "The message is: Hi"),
    ] {
        let limited = request("Hi", |r| r.reasoning = options(None, Some(budget)));
        let output = run(&runtime(settings), limited).await.unwrap();
        assert_eq!(output.reasoning, reasoning, "{settings} {budget}");
        assert_eq!(output.text, "Hi", "{settings} {budget}");
        assert_eq!(output.reason, Some(FinishReason::Stop));
    }
}

#[tokio::test]
async fn reasoning_that_is_cut_off_is_not_an_answer() {
    for max_tokens in 1..20 {
        let cut = request("Hi", |r| r.max_tokens = Some(max_tokens));
        let output = run(&runtime(OPENED), cut).await.unwrap();
        assert_eq!(output.text, "");
        assert!(
            "The message is: Hi\n</think>".starts_with(&output.reasoning),
            "{output:?}"
        );
        assert_eq!(output.reason, Some(FinishReason::Length));
    }
}

#[tokio::test]
async fn stop_sequences_apply_to_the_answer_only() {
    let stopped = request("a message b", |r| r.stop = vec![" b".into(), "The".into()]);
    let output = run(&runtime(THINK), stopped).await.unwrap();
    assert_eq!(output.text, "a message");
    assert_eq!(output.reasoning, "The message is: a message b");
    assert_eq!(output.reason, Some(FinishReason::Stop));
}

fn weather() -> ToolDefinition {
    ToolDefinition {
        name: "weather".into(),
        description: None,
        parameters: None,
        strict: false,
    }
}

#[tokio::test]
async fn a_tool_call_in_reasoning_is_not_a_call() {
    let message = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let with_tools = request(message, |r| r.tools = vec![weather()]);
    let output = run(&runtime(THINK), with_tools).await.unwrap();
    assert_eq!(output.calls.len(), 1, "{output:?}");
    assert!(output.reasoning.contains(message) && output.text.is_empty());
    assert_eq!(output.reason, Some(FinishReason::ToolCalls));
}

#[tokio::test]
async fn a_constraint_applies_to_the_answer_only() {
    let message = "{\"a\": 1}";
    for settings in [THINK, OPENED] {
        let constrained = || request(message, |r| r.constraint = Some(Constraint::JsonObject));
        let output = run(&runtime(settings), constrained()).await.unwrap();
        assert_eq!(output.text, message, "{settings}");
        assert_eq!(
            output.reasoning,
            format!("The message is: {message}"),
            "{settings}"
        );
        // The answer satisfies the constraint in any case.
        for change in [
            |r: &mut InferRequest| r.reasoning = options(Some(false), None),
            |r: &mut InferRequest| r.reasoning = options(None, Some(3)),
        ] {
            let mut constrained = constrained();
            change(&mut constrained);
            let output = run(&runtime(settings), constrained).await.unwrap();
            assert_eq!(output.text, message, "{settings}");
        }
    }
}

#[tokio::test]
async fn a_required_call_follows_the_reasoning() {
    let required = request("x", |r| {
        r.tools = vec![weather()];
        r.tool_choice = ToolChoice::Required;
    });
    for settings in [THINK, OPENED] {
        let output = run(&runtime(settings), required.clone()).await.unwrap();
        assert_eq!(output.reasoning, "The message is: x", "{settings}");
        assert_eq!(output.calls.len(), 1, "{output:?}");
        assert_eq!(output.calls[0].name, "weather");
    }
}

/// An output that is continued after any of its tokens is the same.
#[tokio::test]
async fn continued_output_is_the_same() {
    let message = "{\"a\": 1}";
    let changes: [fn(&mut InferRequest); 4] = [
        |_| {},
        |r| r.constraint = Some(Constraint::JsonObject),
        |r| r.reasoning = options(None, Some(5)),
        |r| {
            r.constraint = Some(Constraint::JsonObject);
            r.reasoning = options(None, Some(5));
        },
    ];
    for settings in [THINK, OPENED] {
        let runtime = runtime(settings);
        for change in changes {
            let whole = run(&runtime, request(message, change)).await.unwrap();
            for count in 0..whole.tokens.len() {
                let continued = request(message, |r| {
                    change(r);
                    r.continue_from = whole.tokens[..count].to_vec();
                });
                let rest = run(&runtime, continued).await.unwrap();
                assert_eq!(rest.tokens, whole.tokens[count..], "{settings} {count}");
                assert_eq!(rest.parts, whole.parts[count..], "{settings} {count}");
                assert_eq!(rest.reasoning_tokens, whole.reasoning_tokens);
            }
        }
    }
}

#[tokio::test]
async fn tokenize_renders_as_inference_does() {
    for settings in [THINK, OPENED, "answer=echo"] {
        let runtime = runtime(settings);
        for reasoning in [options(None, None), options(Some(false), None)] {
            let infer = request("Hi", |r| r.reasoning = reasoning.clone());
            let tokenize = TokenizeRequest {
                input: infer.input.clone(),
                tools: Vec::new(),
                reasoning,
                template_variables: serde_json::Map::new(),
            };
            let count = runtime.tokenize(&tokenize).unwrap().len();
            let output = run(&runtime, infer).await.unwrap();
            assert_eq!(count, output.prompt_tokens as usize, "{settings}");
        }
    }
}

#[tokio::test]
async fn earlier_reasoning_reaches_templates_that_use_it() {
    let tokens = |reasoning: Option<&str>| {
        let messages = vec![
            Message::new(Role::User, "a"),
            Message {
                reasoning: reasoning.map(str::to_owned),
                ..Message::new(Role::Assistant, "b")
            },
            Message::new(Role::User, "c"),
        ];
        let tokenize = TokenizeRequest {
            input: InferInput::Messages(messages),
            tools: Vec::new(),
            reasoning: ReasoningOptions::default(),
            template_variables: serde_json::Map::new(),
        };
        let runtime = runtime(THINK);
        let tokens = runtime.tokenize(&tokenize).unwrap();
        runtime.detokenize(&tokens).unwrap()
    };
    assert!(tokens(Some("hm")).contains("assistant: <think>\nhm\n</think>\n\nb\n"));
    assert!(tokens(None).contains("assistant: b\n"));
}
