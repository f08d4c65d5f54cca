//! A queen of a few lines, in the test's own process, and the keeper run against it.

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
use tokio::{net::TcpListener, process::Command, sync::Notify};
use worker_contract::{EndEvent, FinishReason, StartedEvent, StreamEvent, TokenEvent};

pub const LIMIT: Duration = Duration::from_secs(20);

/// What follows the scripted events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection ends.
    Close,
    /// Nothing, for ever.
    Hang,
    /// Tokens, for ever.
    Babble,
}

/// What the fake queen does and has seen.
#[derive(Debug)]
pub struct Seen {
    script: Vec<InferEvent>,
    then: Then,
    pub calls: Mutex<Vec<InferCall>>,
    pub cancelled: Mutex<Vec<String>>,
    pub stopped: Mutex<Vec<String>>,
    pub tokens: Mutex<Vec<Option<String>>>,
    open_streams: AtomicUsize,
    stream_closed: Notify,
}

pub struct FakeQueen {
    pub url: String,
    pub seen: Arc<Seen>,
}

impl FakeQueen {
    pub async fn start(script: Vec<InferEvent>, then: Then) -> Self {
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
            .route("/v1/status", get(status))
            .route(
                "/v1/workers",
                get(async || Json(json!({"workers": [worker()]}))),
            )
            .route("/v1/workers/{id}", get(show).delete(stop))
            .route(
                "/v1/workers/{id}/logs",
                get(async || "one\ntwo\u{1b}[31m\n"),
            )
            .route("/v1/catalog", get(async || Json(json!({"models": []}))))
            .with_state(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, seen }
    }

    /// The keeper, pointed at this queen.
    pub fn keeper(&self, arguments: &[&str]) -> Command {
        let mut command = keeper(arguments);
        command.env("RBEE_QUEEN_URL", &self.url);
        command
    }

    /// Waits until every stream was dropped by its reader.
    pub async fn all_streams_closed(&self) {
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

/// The keeper, with nothing of the developer's own environment.
pub fn keeper(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbee-keeper"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How the keeper ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub async fn ended(mut command: Command) -> Ended {
    ended_child(command.spawn().unwrap()).await
}

pub async fn ended_child(child: tokio::process::Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the keeper ends")
        .unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn health() -> Value {
    json!({"status": "ok", "version": "0.1.0", "api_version": 1, "pid": std::process::id()})
}

fn worker() -> Value {
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
    let error = Diagnostic::new(Code::WorkerNotFound, format!("no such worker: {id}"))
        .hint("`rbee-keeper worker list` shows them");
    (StatusCode::NOT_FOUND, Json(ErrorBody::from(error))).into_response()
}

async fn stop(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> StatusCode {
    seen.stopped.lock().unwrap().push(id);
    StatusCode::NO_CONTENT
}

async fn status(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> Json<Value> {
    let token = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    seen.tokens.lock().unwrap().push(token);
    Json(json!({
        "queen": health(), "uptime_seconds": 5, "nodes": [], "workers": [worker()],
        "deployments": [],
        "requests": {"waiting": 0, "running": 1, "completed": 2, "failed": 3, "cancelled": 4}
    }))
}

async fn cancel(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> StatusCode {
    seen.cancelled.lock().unwrap().push(id);
    StatusCode::NO_CONTENT
}

/// Counts a stream that its reader has not dropped.
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
        let error = Diagnostic::new(Code::ModelNotFound, "no such model: builtin:missing")
            .hint("`rbee-keeper model list` shows what there is");
        return (StatusCode::NOT_FOUND, Json(ErrorBody::from(error))).into_response();
    }
    seen.open_streams.fetch_add(1, Ordering::SeqCst);
    let open = Open(seen.clone());
    let scripted = stream::iter(seen.script.clone());
    let rest = match seen.then {
        Then::Close => stream::empty().boxed(),
        Then::Hang => stream::pending().boxed(),
        Then::Babble => stream::repeat_with(|| token("babble\n")).boxed(),
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

pub fn narration(message: &str) -> InferEvent {
    InferEvent::Narration(Narration::info("queen", "load", message))
}

pub fn assigned() -> InferEvent {
    let place = json!({"worker": "w-1", "node": "local", "device": "CPU-0", "attempt": 1});
    InferEvent::Assigned(serde_json::from_value(place).unwrap())
}

pub fn started() -> InferEvent {
    InferEvent::Worker(StreamEvent::Started(StartedEvent {
        request_id: "r".parse().unwrap(),
        model: "builtin:haiku".parse().unwrap(),
        seed: 7,
        prompt_tokens: 3,
        cached_tokens: 0,
    }))
}

pub fn token(text: &str) -> InferEvent {
    InferEvent::Worker(StreamEvent::Token(TokenEvent {
        i: 0,
        t: text.to_owned(),
        id: 1,
        calls: Vec::new(),
        logprob: None,
    }))
}

pub fn end() -> InferEvent {
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

pub fn error(code: Code, message: &str, hint: &str) -> InferEvent {
    InferEvent::Worker(StreamEvent::Error(
        Diagnostic::new(code, message).hint(hint),
    ))
}

/// A whole answer: "An old silent pond".
pub fn answer() -> Vec<InferEvent> {
    vec![
        narration("loads builtin:haiku"),
        assigned(),
        started(),
        token("An old "),
        token("silent pond"),
        token(""),
        end(),
    ]
}
