//! The relay with a worker that is a small HTTP server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    http::header,
    response::{IntoResponse as _, Response},
    routing::post,
};
use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::BoxFuture};
use http::HeaderMap;
use input_validation::NodeName;
use queen_contract::{InferEvent, Priority, RequestCounts};
use queen_dispatch::{Clock, Dispatcher, WorkerSource};
use request_queue::ClientKey;
use request_relay::{InferJob, Relay, WorkerAccess, WorkerExit};
use scheduler::{
    NodeFacts, NodeMap, Scheduler, SchedulerEvent, SchedulerSettings, SpawnTarget, StopCause,
    WorkerRequirements,
};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};
use worker_contract::{
    EndEvent, FinishReason, InferInput, InferRequest, SamplingValues, StartedEvent, StreamEvent,
    Timings, TokenEvent, UNKNOWN_TOKEN, Usage, WorkerClient, WorkerHeartbeat, WorkerInfo,
};
use worker_registry::{SpawnId, WorkerFilter};

const MODEL: &str = "mock:a=1";
const LIMIT: Duration = Duration::from_secs(20);

/// One worker, which does not exit, and spawns that never end.
struct OneWorker(WorkerClient);

impl WorkerAccess for OneWorker {
    fn connect<'a>(&'a self, _: &'a WorkerInfo) -> BoxFuture<'a, Result<WorkerClient, Diagnostic>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn exit<'a>(&'a self, _: &'a WorkerInfo) -> BoxFuture<'a, Option<WorkerExit>> {
        Box::pin(async { None })
    }

    fn lost_part<'a>(&'a self, _: &'a WorkerInfo) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }
}

impl WorkerSource for OneWorker {
    fn provide<'a>(
        &'a self,
        _: &'a SpawnTarget,
        _: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<SpawnId, Diagnostic>> {
        Box::pin(pending())
    }

    fn has_exited<'a>(&'a self, _: &'a SpawnId) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn release_port<'a>(&'a self, _: &'a NodeName, _: u16) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn stop<'a>(
        &'a self,
        _: &'a SpawnId,
        _: StopCause,
        _: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(pending())
    }
}

/// A stream whose tokens have these ids; without `ends`, the worker breaks off.
fn events(ids: Vec<u32>, ends: bool) -> Response {
    let tokens = ids.len() as u32;
    let started = StreamEvent::Started(StartedEvent {
        request_id: "r1".parse().unwrap(),
        model: MODEL.parse().unwrap(),
        seed: 1,
        prompt_tokens: 1,
        cached_tokens: 0,
        prompt: Vec::new(),
        sampling: SamplingValues::default(),
        notes: Vec::new(),
    });
    let token = |(n, id)| {
        StreamEvent::Token(TokenEvent {
            i: n,
            t: "x".to_owned(),
            id,
            reasoning: String::new(),
            calls: Vec::new(),
            logprob: None,
        })
    };
    let end = StreamEvent::End(EndEvent {
        stop: None,
        reason: FinishReason::Stop,
        usage: Usage {
            prompt_tokens: 1,
            completion_tokens: tokens,
            cached_tokens: 0,
            reasoning_tokens: 0,
        },
        timings: Timings::default(),
    });
    let mut body = Vec::new();
    for event in [started]
        .into_iter()
        .chain((0..).zip(ids).map(token))
        .chain(ends.then_some(end))
    {
        event.write_sse(&mut body).unwrap();
    }
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Starts a relay with a worker of one slot, whose responses have this many tokens.
async fn start(tokens: u32) -> (Relay, Dispatcher) {
    let respond = post(move || async move { events((0..tokens).collect(), true) });
    start_worker(Router::new().route("/v1/infer", respond)).await
}

async fn start_worker(app: Router) -> (Relay, Dispatcher) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let http = rest_client::http_client().unwrap();
    let workers = Arc::new(OneWorker(WorkerClient::with_http(&url, None, http)));
    let mut scheduler = Scheduler::new(SchedulerSettings::default());
    let local = ("local".parse().unwrap(), NodeFacts::default());
    scheduler.handle(
        SchedulerEvent::Nodes(NodeMap::from([local])),
        Duration::ZERO,
    );
    let dispatcher = Dispatcher::start(scheduler, Clock::start(), workers.clone());
    let heartbeat: WorkerHeartbeat = serde_json::from_value(json!({
        "worker": {
            "id": "w-0", "generation": 1, "hive_id": "local", "model_id": MODEL,
            "device": "CPU-0", "port": 1, "pid": 7, "status": "ready",
            "implementation": "rbee-mock", "version": "1", "slots_total": 1, "slots_free": 1,
            "queue_depth": 0, "context_length": 512, "memory_bytes": 1,
            "kv_cache": {"total": 100, "used": 0},
        },
        "timestamp": "2026-01-01T00:00:00Z", "sequence": 1,
    }))
    .unwrap();
    dispatcher.heartbeat(heartbeat).await.unwrap();
    let relay = Relay::new(dispatcher.clone(), workers, Duration::from_secs(60));
    (relay, dispatcher)
}

fn job(dispatcher: &Dispatcher, id: &str) -> InferJob {
    InferJob {
        requirements: WorkerRequirements::model(MODEL.parse().unwrap()),
        request: InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hi".into())),
        priority: Priority::Interactive,
        client: ClientKey::default(),
        deadline: dispatcher.clock().deadline_in(Duration::from_secs(600)),
        headers: HeaderMap::new(),
    }
}

async fn counts(dispatcher: &Dispatcher) -> RequestCounts {
    let snapshot = dispatcher.snapshot(WorkerFilter::default()).await.unwrap();
    snapshot.counts
}

/// 30 tokens and two events before them fill the channel to the client, but for the slot that
/// is reserved for the last event.
#[tokio::test]
async fn a_completed_request_frees_its_slot_although_its_client_reads_nothing() {
    const TOKENS: u32 = 30;
    let (relay, dispatcher) = start(TOKENS).await;
    let unread = relay.infer(job(&dispatcher, "r1"), 1, Vec::new()).unwrap();
    let second = relay.infer(job(&dispatcher, "r2"), 1, Vec::new()).unwrap();
    for (id, events) in [("r2", second), ("r1", unread)] {
        let events = timeout(LIMIT, events.collect::<Vec<_>>()).await;
        let events: Vec<InferEvent> = events.expect(id).into_iter().map(|(_, e)| e).collect();
        let tokens = events
            .iter()
            .filter(|e| matches!(e, InferEvent::Worker(StreamEvent::Token(_))));
        assert_eq!(tokens.count(), TOKENS as usize, "{id}");
        let last = events.last().unwrap();
        assert!(
            matches!(last, InferEvent::Worker(StreamEvent::End(_))),
            "{id}: {last:?}"
        );
    }
    let expected = RequestCounts {
        completed: 2,
        ..RequestCounts::default()
    };
    assert_eq!(counts(&dispatcher).await, expected);
}

/// Another worker would continue with a token that does not exist, or with any other one.
#[tokio::test]
async fn an_output_whose_tokens_have_no_ids_is_not_continued() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let respond = post(move || async move {
        counted.fetch_add(1, SeqCst);
        events(vec![UNKNOWN_TOKEN], false)
    });
    let (relay, dispatcher) = start_worker(Router::new().route("/v1/infer", respond)).await;
    let events = relay.infer(job(&dispatcher, "r1"), 1, Vec::new()).unwrap();
    let events = timeout(LIMIT, events.collect::<Vec<_>>()).await.unwrap();
    let last = &events.last().unwrap().1;
    assert!(
        matches!(last, InferEvent::Worker(StreamEvent::Error(error)) if error.code == Code::WorkerLinkLost),
        "{last:?}"
    );
    assert_eq!(calls.load(SeqCst), 1);
}
