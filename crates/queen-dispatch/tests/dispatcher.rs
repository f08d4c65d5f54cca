//! The dispatcher with scripted worker sources and paused time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use diagnostics::{Code, Diagnostic, Narration};
use futures_util::future::BoxFuture;
use queen_contract::RequestCounts;
use queen_dispatch::{Clock, Directive, Dispatcher, OpenRequest, Order, WorkerSource};
use scheduler::{
    AttemptFailure, NewRequest, RequestOutcome, Scheduler, SchedulerSettings, SpawnTarget,
    WorkerRequirements,
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use worker_contract::WorkerHeartbeat;
use worker_registry::{SpawnId, WorkerFilter};

/// Longer than every limit of the dispatcher; passes at once, as time is paused.
const HOUR: Duration = Duration::from_secs(3600);

/// What the source does with each spawn, in order; the last one repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spawn {
    Fails,
    Panics,
    NeverEnds,
    /// Reports this many narrations and never ends.
    Narrates(usize),
}

#[derive(Default)]
struct ScriptedSource {
    script: Mutex<Vec<Spawn>>,
    /// Spawns whose future exists.
    running: Mutex<u32>,
    started: Mutex<u32>,
}

struct Running<'a>(&'a ScriptedSource);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap() -= 1;
    }
}

impl WorkerSource for ScriptedSource {
    fn provide<'a>(
        &'a self,
        target: &'a SpawnTarget,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<SpawnId, Diagnostic>> {
        Box::pin(async move {
            *self.started.lock().unwrap() += 1;
            *self.running.lock().unwrap() += 1;
            let _running = Running(self);
            let spawn = {
                let mut script = self.script.lock().unwrap();
                if script.len() > 1 {
                    script.remove(0)
                } else {
                    script[0]
                }
            };
            match spawn {
                Spawn::Fails => Err(Diagnostic::new(Code::WorkerStartFailed, "exit 1")),
                Spawn::Panics => panic!("on purpose"),
                Spawn::NeverEnds => pending().await,
                Spawn::Narrates(count) => {
                    for n in 0..count {
                        let narration = Narration::info("test", "spawn", n.to_string());
                        dispatcher.spawn_progress(target, narration).await;
                    }
                    pending().await
                }
            }
        })
    }
}

fn start(script: &[Spawn]) -> (Dispatcher, Arc<ScriptedSource>) {
    let source = Arc::new(ScriptedSource {
        script: Mutex::new(script.to_vec()),
        ..ScriptedSource::default()
    });
    let scheduler = Scheduler::new(SchedulerSettings::new("local".parse().unwrap()));
    let dispatcher = Dispatcher::start(scheduler, Clock::start(), source.clone());
    (dispatcher, source)
}

async fn submit(dispatcher: &Dispatcher, id: &str) -> OpenRequest {
    let request = NewRequest {
        id: id.parse().unwrap(),
        requirements: WorkerRequirements::model("mock:a=1".parse().unwrap()),
        deadline: dispatcher.clock().deadline_in(10 * HOUR),
    };
    dispatcher.submit(request).await.unwrap()
}

fn heartbeat(sequence: u64) -> WorkerHeartbeat {
    serde_json::from_value(json!({
        "worker": {
            "id": "w-0", "generation": 1, "hive_id": "local", "model_id": "mock:a=1",
            "device": "CPU-0", "port": 8081, "pid": 7, "status": "ready",
            "implementation": "rbee-mock", "version": "1", "slots_total": 1, "slots_free": 1,
            "queue_depth": 0, "context_length": 512, "memory_bytes": 1,
            "kv_cache": {"total": 100, "used": 0},
        },
        "timestamp": "2026-01-01T00:00:00Z", "sequence": sequence,
    }))
    .unwrap()
}

/// The next order, and the narration before it.
async fn next_order(request: &mut OpenRequest) -> (Order, Vec<String>) {
    let mut narration = Vec::new();
    let order = async {
        loop {
            match request.next().await {
                Directive::Order(order) => return order,
                Directive::Narration(n) => narration.push(n.message),
            }
        }
    };
    let order = timeout(HOUR, order).await.unwrap();
    (order, narration)
}

async fn ended_with(request: &mut OpenRequest) -> Diagnostic {
    match next_order(request).await {
        (Order::End(error), _) => error,
        (Order::Run(assignment), _) => panic!("{assignment:?}"),
    }
}

async fn counts(dispatcher: &Dispatcher) -> RequestCounts {
    let snapshot = dispatcher.snapshot(WorkerFilter::default()).await.unwrap();
    snapshot.counts
}

#[tokio::test(start_paused = true)]
async fn a_spawn_that_panics_fails_its_requests_and_is_tried_again() {
    let (dispatcher, source) = start(&[Spawn::Panics, Spawn::Fails]);
    let error = ended_with(&mut submit(&dispatcher, "r1").await).await;
    assert_eq!(error.code, Code::Internal);
    let error = ended_with(&mut submit(&dispatcher, "r2").await).await;
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(*source.started.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_spawn_that_never_ends_is_abandoned_and_tried_again() {
    let (dispatcher, source) = start(&[Spawn::NeverEnds, Spawn::Fails]);
    let begun = Instant::now();
    let error = ended_with(&mut submit(&dispatcher, "r1").await).await;
    assert_eq!(error.code, Code::LoadingTimeout);
    assert!(begun.elapsed() < Duration::from_secs(601));
    let error = ended_with(&mut submit(&dispatcher, "r2").await).await;
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(*source.running.lock().unwrap(), 0, "its future is dropped");
}

#[tokio::test(start_paused = true)]
async fn narration_that_nobody_reads_does_not_displace_an_order() {
    let (dispatcher, source) = start(&[Spawn::Narrates(100)]);
    let mut request = submit(&dispatcher, "r1").await;
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let (order, narration) = next_order(&mut request).await;
    assert!(matches!(order, Order::Run(_)), "{order:?}");
    assert!(!narration.is_empty());
    assert_eq!(*source.started.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_cancelled_and_frees_its_slot() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let mut first = submit(&dispatcher, "r1").await;
    assert!(matches!(next_order(&mut first).await.0, Order::Run(_)));
    let mut second = submit(&dispatcher, "r2").await;
    drop(first);
    assert!(matches!(next_order(&mut second).await.0, Order::Run(_)));
    assert_eq!(counts(&dispatcher).await.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_task_panics_has_failed() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    let request = submit(&dispatcher, "r1").await;
    let task = tokio::spawn(async move {
        let _request = request;
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
    let expected = RequestCounts {
        failed: 1,
        ..RequestCounts::default()
    };
    assert_eq!(counts(&dispatcher).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_late_report_does_not_touch_a_later_request_with_the_same_id() {
    let (dispatcher, _) = start(&[Spawn::Fails, Spawn::NeverEnds]);
    let mut first = submit(&dispatcher, "same").await;
    ended_with(&mut first).await;
    let _second = submit(&dispatcher, "same").await;
    first
        .attempt_failed(AttemptFailure::Fault(Diagnostic::internal("late")))
        .await;
    first.finish(RequestOutcome::Completed).await;
    let expected = RequestCounts {
        waiting: 1,
        failed: 1,
        ..RequestCounts::default()
    };
    assert_eq!(counts(&dispatcher).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_request_frees_its_slot_when_its_owner_reports_the_end() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let mut request = submit(&dispatcher, "r1").await;
    assert!(matches!(next_order(&mut request).await.0, Order::Run(_)));
    let error = Diagnostic::new(Code::Cancelled, "by the client");
    dispatcher.cancel("r1".parse().unwrap(), error).await;
    assert_eq!(request.ended().await.code, Code::Cancelled);
    assert_eq!(counts(&dispatcher).await.running, 1);
    request.finish(RequestOutcome::Cancelled).await;
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
}
