//! A fake queen in the process of the test, and the keeper binary that calls it.

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use diagnostics::{Code, Diagnostic, ErrorBody, Narration};
use futures_util::{StreamExt as _, stream};
use queen_contract::{InferCall, InferEvent};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::Notify,
};
use worker_contract::{
    EndEvent, FinishReason, InferInput, SamplingValues, StartedEvent, StreamEvent, TokenEvent,
};

/// Limit for everything that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// End of a stream, after the scripted events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The stream ends.
    Close,
    /// The stream stays open without further events.
    Hang,
    /// Tokens without end.
    Repeat,
}

/// Behavior of the fake queen, and the calls that it received.
#[derive(Debug)]
pub(crate) struct Seen {
    script: Vec<InferEvent>,
    then: Then,
    pub(crate) calls: Mutex<Vec<InferCall>>,
    pub(crate) cancelled: Mutex<Vec<String>>,
    pub(crate) stopped: Mutex<Vec<String>>,
    /// `Authorization` headers of the calls of `/v1/status`.
    pub(crate) tokens: Mutex<Vec<Option<String>>>,
    open_streams: AtomicUsize,
    stream_closed: Notify,
}

pub(crate) struct FakeQueen {
    pub(crate) url: String,
    pub(crate) seen: Arc<Seen>,
}

impl FakeQueen {
    pub(crate) async fn start(script: Vec<InferEvent>, then: Then) -> Self {
        let seen = Arc::new(Seen {
            script,
            then,
            calls: Mutex::default(),
            cancelled: Mutex::default(),
            stopped: Mutex::default(),
            tokens: Mutex::default(),
            open_streams: AtomicUsize::new(0),
            stream_closed: Notify::new(),
        });
        let router = Router::new()
            .route("/health", get(async || Json(health())))
            .route("/v1/infer", post(infer))
            .route("/v1/infer/{id}", delete(cancel))
            .route("/v1/status", get(report_status))
            .route(
                "/v1/workers",
                get(async || Json(json!({"workers": [worker()]}))),
            )
            .route("/v1/workers/{id}", get(show).delete(stop))
            .route("/v1/workers/{id}/logs", get(async || LOG))
            .route(
                "/v1/catalog",
                get(async || Json(json!({"models": [model()]}))),
            )
            .with_state(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, seen }
    }

    /// Returns a keeper command that uses this queen.
    pub(crate) fn keeper(&self, arguments: &[&str]) -> Command {
        let mut command = keeper(arguments);
        command.env("RBEE_QUEEN_URL", &self.url);
        command
    }

    /// Waits until the keeper has closed every stream.
    pub(crate) async fn all_streams_closed(&self) {
        let closed = async {
            loop {
                let changed = self.seen.stream_closed.notified();
                if self.seen.open_streams.load(Ordering::SeqCst) == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LIMIT, closed).await.unwrap();
    }
}

/// Returns a keeper command without the environment of the test.
pub(crate) fn keeper(arguments: &[&str]) -> Command {
    let mut command = isolated(KEEPER);
    command.args(arguments);
    command
}

pub(crate) const KEEPER: &str = env!("CARGO_BIN_EXE_rbee-keeper");

/// Returns a command with an empty environment and piped output.
pub(crate) fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Exit code and output of a keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    pub(crate) fn new(code: i32, out: impl Into<String>, err: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            out: out.into(),
            err: err.into(),
        }
    }
}

pub(crate) async fn run(mut command: Command) -> Finished {
    finish(command.spawn().unwrap()).await
}

/// Waits until the keeper exits.
pub(crate) async fn finish(child: Child) -> Finished {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the keeper does not exit")
        .unwrap();
    Finished {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) const LOG: &str = "one\ntwo\u{1b}[31m\n";

pub(crate) fn health() -> Value {
    json!({"status": "ok", "version": "0.1.0", "api_version": 1, "pid": std::process::id()})
}

pub(crate) fn status() -> Value {
    json!({
        "queen": health(), "uptime_seconds": 5, "nodes": [], "workers": [worker()],
        "deployments": [],
        "requests": {"waiting": 0, "running": 1, "completed": 2, "failed": 3, "cancelled": 4}
    })
}

pub(crate) fn model() -> Value {
    json!({
        "model": "builtin:haiku", "format": "gguf", "size_bytes": 5_776_384,
        "architecture": "llama", "quantization": "F16", "context_length": 512,
        "parameters": 2_880_000, "nodes": ["local"], "ready_workers": 1
    })
}

pub(crate) fn worker() -> Value {
    json!({
        "id": "w-1", "generation": 3, "hive_id": "local", "model_id": "builtin:haiku",
        "device": "CPU-0", "port": 8081, "pid": 42, "status": "ready",
        "implementation": "rbee-candle", "version": "0.1.0", "slots_total": 4, "slots_free": 3,
        "queue_depth": 0, "context_length": 512, "memory_bytes": 1024,
        "availability": "available", "heartbeat_age_ms": 120, "active_requests": 1
    })
}

async fn show(Path(id): Path<String>) -> Response {
    if id == "w-1" {
        return Json(worker()).into_response();
    }
    let message = format!("worker {id} does not exist");
    let error = Diagnostic::new(Code::WorkerNotFound, message)
        .hint("`rbee-keeper worker list` lists the workers");
    (StatusCode::NOT_FOUND, Json(ErrorBody::from(error))).into_response()
}

async fn stop(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> StatusCode {
    seen.stopped.lock().unwrap().push(id);
    StatusCode::NO_CONTENT
}

async fn report_status(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> Json<Value> {
    let token = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    seen.tokens.lock().unwrap().push(token);
    Json(status())
}

async fn cancel(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> StatusCode {
    seen.cancelled.lock().unwrap().push(id);
    StatusCode::NO_CONTENT
}

/// Counts an open stream.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::SeqCst);
        self.0.stream_closed.notify_waiters();
    }
}

async fn infer(State(seen): State<Arc<Seen>>, Json(call): Json<InferCall>) -> Response {
    seen.calls.lock().unwrap().push(call.clone());
    if call.model.to_string() == "builtin:missing" {
        let message = "model \"builtin:missing\" does not exist";
        let error = Diagnostic::new(Code::ModelNotFound, message)
            .hint("`rbee-keeper model list` lists the models");
        return (StatusCode::NOT_FOUND, Json(ErrorBody::from(error))).into_response();
    }
    seen.open_streams.fetch_add(1, Ordering::SeqCst);
    let open = Open(seen.clone());
    let is_chat = matches!(call.request.input, InferInput::Messages(_));
    let scripted = if is_chat && call.model.to_string() == "builtin:base" {
        let hint = "send a plain prompt (`/v1/completions`)";
        vec![error(
            Code::NoChatTemplate,
            "the model has no chat template",
            hint,
        )]
    } else {
        seen.script.clone()
    };
    let scripted = stream::iter(scripted);
    let rest = match seen.then {
        Then::Close => stream::empty().boxed(),
        Then::Hang => stream::pending().boxed(),
        Then::Repeat => stream::repeat_with(|| token("more\n")).boxed(),
    };
    let events = scripted.chain(rest).map(move |event| {
        let _ = &open;
        let mut bytes = Vec::new();
        event.write_sse(&mut bytes).unwrap();
        Ok::<_, std::convert::Infallible>(Bytes::from(bytes))
    });
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(events),
    )
        .into_response()
}

pub(crate) fn narration(message: &str) -> InferEvent {
    InferEvent::Narration(Narration::info("queen", "load", message))
}

pub(crate) fn assigned() -> InferEvent {
    let assigned = json!({"worker": "w-1", "node": "local", "device": "CPU-0", "attempt": 1});
    InferEvent::Assigned(serde_json::from_value(assigned).unwrap())
}

pub(crate) fn started() -> InferEvent {
    InferEvent::Worker(StreamEvent::Started(StartedEvent {
        request_id: "r".parse().unwrap(),
        model: "builtin:haiku".parse().unwrap(),
        seed: 7,
        prompt_tokens: 3,
        cached_tokens: 0,
        prompt: Vec::new(),
        sampling: SamplingValues::default(),
        notes: Vec::new(),
    }))
}

pub(crate) fn token(text: &str) -> InferEvent {
    InferEvent::Worker(StreamEvent::Token(TokenEvent {
        i: 0,
        t: text.to_owned(),
        id: 1,
        reasoning: String::new(),
        calls: Vec::new(),
        logprob: None,
    }))
}

pub(crate) fn thought(text: &str) -> InferEvent {
    InferEvent::Worker(StreamEvent::Token(TokenEvent {
        i: 0,
        t: String::new(),
        id: 1,
        reasoning: text.to_owned(),
        calls: Vec::new(),
        logprob: None,
    }))
}

pub(crate) fn end() -> InferEvent {
    let mut end = EndEvent {
        stop: None,
        reason: FinishReason::Stop,
        usage: worker_contract::Usage::default(),
        timings: worker_contract::Timings::default(),
    };
    end.usage.completion_tokens = 2;
    end.timings.tokens_per_second = 50.0;
    InferEvent::Worker(StreamEvent::End(end))
}

pub(crate) fn error(code: Code, message: &str, hint: &str) -> InferEvent {
    InferEvent::Worker(StreamEvent::Error(
        Diagnostic::new(code, message).hint(hint),
    ))
}

/// Returns the events of a complete response with the text "An old silent pond".
pub(crate) fn response() -> Vec<InferEvent> {
    vec![
        narration("waiting for a worker to load the model"),
        assigned(),
        started(),
        token("An old "),
        token("silent pond"),
        token(""),
        end(),
    ]
}
