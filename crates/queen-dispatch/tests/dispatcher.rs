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
use input_validation::{Generation, NodeName};
use queen_contract::{Priority, RequestCounts};
use queen_dispatch::{Clock, Directive, Dispatcher, Notice, OpenRequest, Order, WorkerSource};
use request_queue::ClientKey;
use scheduler::{
    AttemptFailure, NewRequest, NodeFacts, NodeMap, PromptPrefixes, RequestOutcome, Scheduler,
    SchedulerEvent, SchedulerSettings, SpawnTarget, StopCause, WorkerRequirements,
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use worker_contract::{WorkerHeartbeat, WorkerStatus};
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter};

/// Longer than every limit of the dispatcher; passes at once, as time is paused.
const HOUR: Duration = Duration::from_secs(3600);

/// What the source does with each spawn, in order; the last one repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spawn {
    /// Returns the worker of [`heartbeat`].
    Succeeds,
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
                Spawn::Succeeds => Ok(worker()),
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

fn start(script: &[Spawn]) -> (Dispatcher, Arc<ScriptedSource>) {
    let source = Arc::new(ScriptedSource {
        script: Mutex::new(script.to_vec()),
        ..ScriptedSource::default()
    });
    let mut scheduler = Scheduler::new(SchedulerSettings::default());
    let local = ("local".parse().unwrap(), NodeFacts::default());
    scheduler.handle(
        SchedulerEvent::Nodes(NodeMap::from([local])),
        Duration::ZERO,
    );
    let dispatcher = Dispatcher::start(scheduler, Clock::start(), source.clone());
    (dispatcher, source)
}

fn new_request(dispatcher: &Dispatcher, id: &str, time: Duration) -> NewRequest {
    NewRequest {
        prompt: PromptPrefixes::default(),
        id: id.parse().unwrap(),
        requirements: WorkerRequirements::model("mock:a=1".parse().unwrap()),
        priority: Priority::Interactive,
        client: ClientKey::default(),
        deadline: dispatcher.clock().deadline_in(time),
    }
}

async fn submit(dispatcher: &Dispatcher, id: &str) -> OpenRequest {
    let request = new_request(dispatcher, id, 10 * HOUR);
    dispatcher.submit(request).await.unwrap()
}

fn worker() -> SpawnId {
    SpawnId {
        worker: "w-0".parse().unwrap(),
        generation: Generation(1),
    }
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
                Directive::Notice(Notice::Narration(n)) => narration.push(n.message),
                Directive::Notice(Notice::Waiting(waiting)) => narration.push(waiting.message),
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
async fn unread_narration_does_not_displace_an_order() {
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

#[tokio::test(start_paused = true)]
async fn an_id_can_be_used_again_as_soon_as_its_request_has_finished() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    // Both messages are pending when the dispatcher runs, and it must not choose among them.
    for n in 0..64 {
        let mut request = submit(&dispatcher, "same").await;
        let (order, _) = next_order(&mut request).await;
        assert!(matches!(order, Order::Run(_)), "{n}: {order:?}");
        request.finish(RequestOutcome::Completed).await;
    }
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
    assert_eq!(counts(&dispatcher).await.completed, 64);
}

#[tokio::test(start_paused = true)]
async fn idle_resolves_when_the_last_waiting_request_expires() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    let minute = Duration::from_secs(60);
    let request = new_request(&dispatcher, "r1", minute);
    let mut request = dispatcher.submit(request).await.unwrap();
    let begun = Instant::now();
    let (idle, error) = tokio::join!(
        timeout(2 * minute, dispatcher.idle()),
        ended_with(&mut request)
    );
    idle.expect("idle").unwrap();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(begun.elapsed() < minute + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn idle_waits_for_waiting_and_running_requests() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let mut running = submit(&dispatcher, "r1").await;
    assert!(matches!(next_order(&mut running).await.0, Order::Run(_)));
    let waiting = submit(&dispatcher, "r2").await;
    let minute = Duration::from_secs(60);
    timeout(minute, dispatcher.idle()).await.unwrap_err();
    waiting.finish(RequestOutcome::Cancelled).await;
    timeout(minute, dispatcher.idle()).await.unwrap_err();
    running.finish(RequestOutcome::Completed).await;
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_is_refused_and_its_request_keeps_running() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let mut first = submit(&dispatcher, "same").await;
    assert!(matches!(next_order(&mut first).await.0, Order::Run(_)));
    let second = new_request(&dispatcher, "same", HOUR);
    let error = dispatcher.submit(second).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(counts(&dispatcher).await.running, 1);
    first.finish(RequestOutcome::Completed).await;
    timeout(HOUR, dispatcher.idle()).await.unwrap().unwrap();
    assert_eq!(counts(&dispatcher).await.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_heartbeat_of_a_spawn_is_awaited_unless_it_is_exiting() {
    let (dispatcher, _) = start(&[Spawn::NeverEnds]);
    let minute = Duration::from_secs(60);
    let mut awaited = Box::pin(dispatcher.next_heartbeat(worker()));
    let mut sequence = 0;
    let mut beat = async |status, generation| {
        sequence += 1;
        let mut heartbeat = heartbeat(sequence);
        heartbeat.worker.status = status;
        heartbeat.worker.generation = Generation(generation);
        dispatcher.heartbeat(heartbeat).await
    };
    timeout(minute, &mut awaited).await.unwrap_err();
    beat(WorkerStatus::Draining, 1).await.unwrap();
    timeout(minute, &mut awaited).await.unwrap_err();
    beat(WorkerStatus::Starting, 1).await.unwrap();
    timeout(minute, awaited).await.unwrap().unwrap();

    // The heartbeat of another spawn does not count.
    let mut awaited = Box::pin(dispatcher.next_heartbeat(worker()));
    timeout(minute, &mut awaited).await.unwrap_err();
    let registered = beat(WorkerStatus::Ready, 2).await;
    assert_eq!(registered, Ok(HeartbeatResult::Registered));
    timeout(minute, &mut awaited).await.unwrap_err();
    let fenced = beat(WorkerStatus::Ready, 1).await.unwrap_err();
    assert_eq!(fenced.code, Code::Fenced);
    timeout(minute, &mut awaited).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_shows_targets_that_are_starting_or_delayed() {
    let (dispatcher, _) = start(&[Spawn::Fails, Spawn::Succeeds]);
    let targets = async || {
        let snapshot = dispatcher.snapshot(WorkerFilter::default()).await.unwrap();
        let states = snapshot.targets.into_iter();
        states.map(|t| (t.starting, t.pause)).collect::<Vec<_>>()
    };
    assert_eq!(targets().await, []);
    let error = ended_with(&mut submit(&dispatcher, "r1").await).await;
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(targets().await, [(false, Duration::from_secs(1))]);
    let mut request = submit(&dispatcher, "r2").await;
    // The spawn is reported after the pause, and the first heartbeat is awaited.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(targets().await, [(true, Duration::ZERO)]);
    dispatcher.heartbeat(heartbeat(0)).await.unwrap();
    let (order, narration) = next_order(&mut request).await;
    assert!(matches!(order, Order::Run(_)), "{order:?}");
    let expected = [
        "the last spawn failed; next attempt in 1 s",
        "waiting for a worker to load the model",
    ];
    assert_eq!(narration, expected);
    assert_eq!(targets().await, [(false, Duration::ZERO)]);
}
