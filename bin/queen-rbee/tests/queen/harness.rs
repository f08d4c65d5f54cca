//! A queen in this process, and its clients.

use std::{fs, path::Path, sync::Arc, time::Duration};

use clap::Parser as _;
use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use futures_util::StreamExt as _;
use input_validation::{NodeName, RequestId};
use queen_contract::{InferCall, InferEvent, QueenClient, RequestCounts, ShutdownRequest};
use queen_rbee::Args;
use reqwest::{Client, RequestBuilder};
use rest_client::CallError;
use serde_json::{Value, json};
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use worker_contract::{InferInput, InferRequest, StreamEvent};

use crate::fake_worker::FakeWorker;

pub const LIMIT: Duration = Duration::from_secs(20);
pub const MODEL: &str = "mock:a=1";
pub const API_KEY: &str = "sk-0123456789abcdef";

pub struct Queen {
    pub home: Arc<TempDir>,
    pub url: String,
    /// A client with the control token.
    pub control: QueenClient,
    /// A client with the node token, as workers have.
    pub node: QueenClient,
    pub http: Client,
    pub running: JoinHandle<Result<(), Diagnostic>>,
}

impl Queen {
    pub async fn without_hive() -> Self {
        Self::start(Arc::new(tempfile::tempdir().unwrap()), &["--no-local-hive"]).await
    }

    /// Starts a queen without a hive that requires [`API_KEY`].
    pub async fn with_api_key() -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let file = home.path().join("api.key");
        fs::write(&file, format!("{API_KEY}\n")).unwrap();
        let file = file.to_str().unwrap();
        let more = ["--no-local-hive", "--api-key-file", file];
        Self::start(Arc::clone(&home), &more).await
    }

    /// Starts a queen without a hive, and a worker for [`MODEL`].
    pub async fn with_worker(slots: u32) -> (Self, Arc<FakeWorker>) {
        let queen = Self::without_hive().await;
        let worker = FakeWorker::start("w-0", 1, slots).await;
        worker.send_heartbeat(&queen).await;
        (queen, worker)
    }

    pub async fn start(home: Arc<TempDir>, more: &[&str]) -> Self {
        let running = tokio::spawn(queen_rbee::run(args(home.path(), more)));
        let files = Home::at(home.path());
        let record_file = files.queen_record();
        let record = eventually("the queen has written its record", async || {
            assert!(!running.is_finished(), "the queen exited during startup");
            DaemonRecord::read(&record_file).unwrap()
        })
        .await;
        let client = |token: &Path| {
            let token = Token::load(token).unwrap();
            QueenClient::new(&record.url, Some(token.expose().to_owned())).unwrap()
        };
        Self {
            control: client(&files.queen_token()),
            node: client(&files.node_token(&NodeName::local())),
            url: record.url,
            http: Client::builder().no_proxy().build().unwrap(),
            running,
            home,
        }
    }

    /// Shuts the queen down and starts another one in its home.
    pub async fn restart(mut self, more: &[&str]) -> Self {
        let home = Arc::clone(&self.home);
        let request = ShutdownRequest::default();
        self.control.shutdown(&request).await.unwrap();
        let exited = timeout(LIMIT, &mut self.running).await;
        exited.unwrap().unwrap().unwrap();
        Self::start(home, more).await
    }

    /// Returns all events of a response of `/v1/infer`.
    pub async fn infer(&self, call: &InferCall) -> Vec<InferEvent> {
        let events = self.control.infer(call).await.unwrap();
        timeout(LIMIT, events.map(Result::unwrap).collect())
            .await
            .expect("the response ends")
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(format!("{}{path}", self.url)))
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        self.send(request.json(body)).await
    }

    pub async fn post_raw(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        request.send().await.unwrap()
    }

    /// Returns the status and the body of a response, which must be JSON or text.
    pub async fn send(&self, request: RequestBuilder) -> (u16, Value) {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        (status, body)
    }

    /// Cancels a request, as a client does without the control token.
    pub async fn cancel(&self, id: &RequestId) {
        let url = format!("{}/v1/infer/{id}", self.url);
        let response = self.http.delete(url).send().await.unwrap();
        assert_eq!(response.status(), 204);
    }

    pub async fn counts(&self) -> RequestCounts {
        self.control.status().await.unwrap().requests
    }

    /// Waits until no request is waiting or running.
    pub async fn idle(&self) {
        eventually("no request is waiting or running", async || {
            let requests = self.counts().await;
            (requests.waiting + requests.running == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Queen {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub fn args(home: &Path, more: &[&str]) -> Args {
    let home = home.to_str().unwrap();
    let mut line = vec!["queen-rbee", "--home", home, "--port", "0"];
    line.extend(more);
    Args::parse_from(line)
}

/// Polls a condition until it is met.
pub async fn eventually<T>(condition: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not met in time: {condition}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the status and the code of a refused call.
pub fn refusal<T>(result: Result<T, CallError>) -> (u16, Code) {
    match result {
        Err(CallError::Response(status, error)) => (status, error.code),
        Err(CallError::Link(error)) => panic!("no response: {error}"),
        Ok(_) => panic!("the call was not refused"),
    }
}

pub fn call(id: &str) -> InferCall {
    let input = InferInput::Prompt("hi".into());
    InferCall {
        model: MODEL.parse().unwrap(),
        backend: None,
        priority: None,
        node: None,
        request: InferRequest::new(id.parse::<RequestId>().unwrap(), input),
    }
}

/// A chat request, which OpenAI's and Ollama's API accept.
pub fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// A chat request that Anthropic's API accepts as well.
pub fn message(stream: bool) -> Value {
    let mut body = chat(stream);
    body["max_tokens"] = json!(9);
    body
}

pub fn worker_events(events: &[InferEvent]) -> Vec<&StreamEvent> {
    events
        .iter()
        .filter_map(|event| match event {
            InferEvent::Worker(event) => Some(event),
            _ => None,
        })
        .collect()
}

/// Returns the numbers of the attempts, in order.
pub fn attempts(events: &[InferEvent]) -> Vec<u32> {
    events
        .iter()
        .filter_map(|event| match event {
            InferEvent::Assigned(assigned) => Some(assigned.attempt),
            _ => None,
        })
        .collect()
}

pub fn token_ids(events: &[InferEvent]) -> Vec<u32> {
    worker_events(events)
        .into_iter()
        .filter_map(|event| match event {
            StreamEvent::Token(token) => Some(token.id),
            _ => None,
        })
        .collect()
}

/// Returns the error with which the events end.
pub fn final_error(events: &[InferEvent]) -> &Diagnostic {
    let terminal: Vec<_> = worker_events(events)
        .into_iter()
        .filter(|event| event.is_terminal())
        .collect();
    match (&terminal[..], events.last()) {
        ([StreamEvent::Error(error)], Some(InferEvent::Worker(StreamEvent::Error(_)))) => error,
        _ => panic!("not one error at the end: {events:?}"),
    }
}

/// Asserts a complete response of `count` tokens with one `started` and one `end`.
pub fn assert_complete(events: &[InferEvent], count: u32) {
    assert_eq!(
        token_ids(events),
        (0..count).collect::<Vec<_>>(),
        "{events:?}"
    );
    let events = worker_events(events);
    let started = events
        .iter()
        .filter(|e| matches!(e, StreamEvent::Started(_)));
    assert_eq!(started.count(), 1, "{events:?}");
    assert_eq!(events.iter().filter(|e| e.is_terminal()).count(), 1);
    assert!(
        matches!(events.last(), Some(StreamEvent::End(_))),
        "{events:?}"
    );
}
