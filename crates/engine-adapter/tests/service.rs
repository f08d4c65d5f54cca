//! The adapter with a scripted server of llama.cpp.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use diagnostics::{Code, Diagnostic};
use engine_adapter::{AdapterSettings, Engine, EngineSource, load};
use serde_json::{Value, json};
use worker_contract::{
    EngineKind, FinishReason, Image, InferInput, InferRequest, Message, Role, Sampling, StreamEvent,
};
use worker_service::SharedService;

/// Fails a test that hangs.
const HANG: Duration = Duration::from_secs(30);

/// Bodies of the requests for completions.
type Bodies = Arc<Mutex<Vec<Value>>>;

fn settings(source: EngineSource) -> AdapterSettings {
    AdapterSettings {
        kind: EngineKind::LlamaCpp,
        source,
        key: None,
        model: "m.gguf".into(),
        engine_model: "m".into(),
        alias: "mock:m".parse().unwrap(),
        context_length: None,
        slots: 1,
        threads: 1,
    }
}

async fn load_engine(source: EngineSource) -> Result<SharedService, Diagnostic> {
    let loading = load(Engine::new(settings(source))?, Arc::new(|_, _| ()));
    tokio::time::timeout(HANG, loading).await.unwrap()
}

/// Starts a server that responds to every completion with `stream`.
async fn attached(stream: &'static str) -> (SharedService, Bodies) {
    let bodies = Bodies::default();
    let completion = move |State(bodies): State<Bodies>, Json(body): Json<Value>| async move {
        bodies.lock().unwrap().push(body);
        ([("content-type", "text/event-stream")], stream)
    };
    let props = json!({"default_generation_settings": {"n_ctx": 64}, "total_slots": 1,
        "chat_template": "{{ messages }}", "modalities": {"vision": false}});
    let routes = Router::new()
        .route("/health", get(|| async { "{}" }))
        .route("/props", get(move || async { Json(props) }))
        .route(
            "/tokenize",
            post(|| async { Json(json!({"tokens": [5, 6]})) }),
        )
        .route(
            "/detokenize",
            post(|| async { Json(json!({"content": "z"})) }),
        )
        .route("/completion", post(completion))
        .with_state(bodies.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (
        load_engine(EngineSource::Attach(url)).await.unwrap(),
        bodies,
    )
}

fn request(id: &str) -> InferRequest {
    InferRequest::new(id.parse().unwrap(), InferInput::Prompt("x".into()))
}

async fn events(service: &SharedService, request: InferRequest) -> Vec<StreamEvent> {
    let mut stream = service.submit(request).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
        events.push(event);
    }
    events
}

const COMPLETE: &str = r#"data: {"content":" a","tokens":[7],"stop":false}

data: {"content":" b","tokens":[8],"stop":false}

data: {"content":"","tokens":[],"stop":true,"stop_type":"limit","tokens_evaluated":3,"tokens_predicted":2,"timings":{"cache_n":1}}

"#;

#[tokio::test]
async fn a_continued_request_sends_the_tokens_so_far_and_counts_them_once() {
    let (service, bodies) = attached(COMPLETE).await;
    let events = events(
        &service,
        InferRequest {
            continue_from: vec![9],
            max_tokens: Some(3),
            sampling: Sampling::greedy(),
            ..request("a")
        },
    )
    .await;
    let body = bodies.lock().unwrap()[0].clone();
    assert_eq!(
        (&body["prompt"], &body["n_predict"]),
        (&json!([5, 6, 9]), &json!(2))
    );
    let tokens: Vec<(u32, u32)> = events
        .iter()
        .filter_map(|event| match event {
            StreamEvent::Token(token) => Some((token.i, token.id)),
            _ => None,
        })
        .collect();
    assert_eq!(tokens, [(1, 7), (2, 8)]);
    let Some(StreamEvent::End(end)) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (
            end.reason,
            end.usage.prompt_tokens,
            end.usage.completion_tokens
        ),
        (FinishReason::Length, 2, 3)
    );
    assert_eq!(service.status().slots_free, 1);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_that_another_worker_can_retry() {
    let (service, _) =
        attached("data: {\"content\":\" a\",\"tokens\":[7],\"stop\":false}\n\n").await;
    let events = events(&service, request("a")).await;
    let Some(StreamEvent::Error(error)) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(error.code, Code::WorkerCrashed);
    assert_eq!(service.status().slots_free, 1);
}

#[tokio::test]
async fn what_does_not_fit_or_is_not_supported_is_refused_and_frees_the_slot() {
    let (service, _) = attached(COMPLETE).await;
    let too_long = InferRequest {
        max_tokens: Some(63),
        ..request("a")
    };
    let error = service.submit(too_long).await.unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
    let mut images = request("b");
    let mut message = Message::new(Role::User, "what is it?");
    message.images.push(Image {
        media_type: None,
        data: String::new(),
    });
    images.input = InferInput::Messages(vec![message]);
    let error = service.submit(images).await.unwrap_err();
    assert_eq!(error.code, Code::UnsupportedParameter);
    assert_eq!(service.status().slots_free, 1);
}

#[tokio::test]
async fn a_sampled_output_is_generated_once_more_and_must_be_the_same() {
    let continued = |id: &str, continue_from: Vec<u32>| InferRequest {
        continue_from,
        max_tokens: Some(3),
        ..request(id)
    };
    let (service, bodies) = attached(COMPLETE).await;
    let repeated = events(&service, continued("a", vec![7])).await;
    assert_eq!(bodies.lock().unwrap()[0]["prompt"], json!([5, 6]));
    let StreamEvent::Token(token) = &repeated[1] else {
        panic!("{repeated:?}")
    };
    assert_eq!((token.i, token.id, token.t.as_str()), (1, 8, " b"));
    let other = events(&service, continued("b", vec![9])).await;
    assert!(
        matches!(other.last(), Some(StreamEvent::Error(error)) if error.code == Code::WorkerCrashed),
        "{other:?}"
    );
}

#[tokio::test]
async fn an_output_that_is_complete_is_not_generated_again() {
    let (service, bodies) = attached(COMPLETE).await;
    let complete = InferRequest {
        continue_from: vec![7, 8],
        max_tokens: Some(2),
        ..request("a")
    };
    let events = events(&service, complete).await;
    let Some(StreamEvent::End(end)) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (end.reason, end.usage.completion_tokens, events.len()),
        (FinishReason::Length, 2, 3)
    );
    assert!(bodies.lock().unwrap().is_empty());
}
