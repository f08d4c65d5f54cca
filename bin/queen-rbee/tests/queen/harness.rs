//! A queen in this process, and its clients.

use std::{path::Path, sync::Arc, time::Duration};

use clap::Parser as _;
use daemon_shell::Token;
use diagnostics::Diagnostic;
use futures_util::StreamExt as _;
use input_validation::{NodeName, RequestId};
use queen_contract::{InferCall, InferEvent, QueenClient, ShutdownRequest};
use queen_rbee::Args;
use reqwest::Client;
use serde_json::{Value, json};
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};
use worker_contract::{InferInput, InferRequest, StreamEvent};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const MODEL: &str = "mock:a=1";

pub struct Queen {
    pub home: Arc<TempDir>,
    pub url: String,
    pub control: QueenClient,
    pub node: QueenClient,
    pub http: Client,
    pub running: JoinHandle<Result<(), Diagnostic>>,
}

impl Queen {
    /// A queen without a hive.
    pub async fn alone() -> Self {
        Self::start(Arc::new(tempfile::tempdir().unwrap()), &["--no-local-hive"]).await
    }

    pub async fn start(home: Arc<TempDir>, more: &[&str]) -> Self {
        let running = tokio::spawn(queen_rbee::run(args(home.path(), more)));
        let files = Home::at(home.path());
        let record_file = files.queen_record();
        let record = eventually("the queen is there", async || {
            assert!(!running.is_finished(), "the queen ended while it started");
            DaemonRecord::read(&record_file).unwrap()
        })
        .await;
        let client = |key: &Path| {
            let token = Token::load(key).unwrap();
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

    /// Ends the queen well and starts another one in its home.
    pub async fn restarted(mut self, more: &[&str]) -> Self {
        let home = Arc::clone(&self.home);
        let end = ShutdownRequest::default();
        self.control.shutdown(&end).await.unwrap();
        let ended = tokio::time::timeout(LIMIT, &mut self.running).await;
        ended.unwrap().unwrap().unwrap();
        Self::start(home, more).await
    }

    /// Events of `/v1/infer` to the end.
    pub async fn infer(&self, call: &InferCall) -> Vec<InferEvent> {
        let events = self.control.infer(call).await.unwrap();
        tokio::time::timeout(LIMIT, events.map(Result::unwrap).collect())
            .await
            .expect("the answer ends")
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.post_raw(path, body).await;
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
        )
    }

    pub async fn post_raw(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        request.send().await.unwrap()
    }

    /// Waits until no request waits or runs.
    pub async fn idle(&self) {
        eventually("no request is left", async || {
            let requests = self.control.status().await.unwrap().requests;
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

/// Looks until there is something to see.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "it did not come true: {what}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

pub fn call(id: &str) -> InferCall {
    InferCall {
        model: MODEL.parse().unwrap(),
        backend: None,
        node: None,
        request: InferRequest::new(
            id.parse::<RequestId>().unwrap(),
            InferInput::Prompt("hi".into()),
        ),
    }
}

pub fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// The events that come from a worker.
pub fn from_worker(events: &[InferEvent]) -> Vec<&StreamEvent> {
    events
        .iter()
        .filter_map(|event| match event {
            InferEvent::Worker(event) => Some(event),
            _ => None,
        })
        .collect()
}

pub fn token_ids(events: &[InferEvent]) -> Vec<u32> {
    from_worker(events)
        .into_iter()
        .filter_map(|event| match event {
            StreamEvent::Token(token) => Some(token.id),
            _ => None,
        })
        .collect()
}

/// The error that the events end with.
pub fn final_error(events: &[InferEvent]) -> &Diagnostic {
    let terminal: Vec<_> = from_worker(events)
        .into_iter()
        .filter(|event| event.is_terminal())
        .collect();
    match (&terminal[..], events.last()) {
        ([StreamEvent::Error(error)], Some(InferEvent::Worker(StreamEvent::Error(_)))) => error,
        _ => panic!("not one error at the end: {events:?}"),
    }
}

/// Asserts a complete answer of `count` tokens with one `started` and one `end`.
pub fn assert_whole(events: &[InferEvent], count: u32) {
    assert_eq!(
        token_ids(events),
        (0..count).collect::<Vec<_>>(),
        "{events:?}"
    );
    let seen = from_worker(events);
    let started = seen.iter().filter(|e| matches!(e, StreamEvent::Started(_)));
    assert_eq!(started.count(), 1, "{events:?}");
    assert_eq!(seen.iter().filter(|e| e.is_terminal()).count(), 1);
    assert!(
        matches!(seen.last(), Some(StreamEvent::End(_))),
        "{events:?}"
    );
}
