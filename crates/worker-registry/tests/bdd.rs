//! Feature 030 in process: the registry with simulated time, and the queen's dispatcher.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

use std::{future::pending, sync::Arc, time::Duration};

use bdd::World;
use cucumber::{gherkin::Step, given, then, when};
use diagnostics::{Code, Diagnostic};
use futures_util::future::BoxFuture;
use input_validation::{Generation, NodeName, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use queen_dispatch::{Clock, Dispatcher, WorkerSource};
use scheduler::{
    NodeFacts, NodeMap, Scheduler, SchedulerEvent, SchedulerSettings, SpawnTarget, StopCause,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter, WorkerRegistry};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["030-queen-worker-registry"]).await
}

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// A registry and its clock, and workers that send heartbeats as time passes.
#[derive(Default)]
struct Queen {
    registry: WorkerRegistry,
    now: Duration,
    last_result: Option<Result<HeartbeatResult, Diagnostic>>,
    /// Sequence number of the last heartbeat.
    sequence: u64,
    /// Workers that send a heartbeat every 5 s, with the time of the next one.
    periodic: Vec<(String, Duration)>,
}

impl Queen {
    /// Builds a heartbeat of a ready worker with 4 slots, then sets the given fields.
    fn heartbeat(&mut self, worker: &str, fields: &[(String, String)]) -> WorkerHeartbeat {
        self.sequence += 1;
        let mut heartbeat = json!({
            "worker": {
                "id": worker, "generation": 1, "hive_id": "local", "model_id": "mock:a",
                "device": "CPU-0", "port": 8081, "pid": 7, "status": "ready",
                "implementation": "rbee-mock", "version": "1", "slots_total": 4, "slots_free": 4,
                "queue_depth": 0, "context_length": 512, "memory_bytes": 1,
                "kv_cache": {"total": 100, "used": 0},
            },
            "timestamp": "2026-01-01T00:00:00Z", "sequence": self.sequence,
        });
        for (name, text) in fields {
            let value = text.parse().map_or(json!(text), |n: u64| json!(n));
            match name.as_str() {
                "kv_used" => heartbeat["worker"]["kv_cache"]["used"] = value,
                "sequence" | "timestamp" => heartbeat[name] = value,
                _ => heartbeat["worker"][name] = value,
            }
        }
        serde_json::from_value(heartbeat).unwrap()
    }

    fn receive_heartbeat(&mut self, worker: &str, fields: &[(String, String)]) {
        let heartbeat = self.heartbeat(worker, fields);
        self.last_result = Some(self.registry.heartbeat(heartbeat, self.now));
    }

    /// Advances the clock and delivers the periodic heartbeats that become due.
    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.periodic.iter().map(|(_, at)| *at).min();
            let Some(next) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            for i in 0..self.periodic.len() {
                if self.periodic[i].1 == next {
                    self.periodic[i].1 += HEARTBEAT_INTERVAL;
                    let worker = self.periodic[i].0.clone();
                    self.receive_heartbeat(&worker, &[]);
                }
            }
            self.registry.expire(self.now);
        }
        self.now = end;
        self.registry.expire(self.now);
    }

    fn workers(&self) -> Vec<WorkerEntry> {
        self.registry.snapshot(&WorkerFilter::default(), self.now)
    }

    fn find(&self, worker: &str) -> Option<WorkerEntry> {
        self.workers()
            .into_iter()
            .find(|w| w.info.id.as_str() == worker)
    }

    fn entry(&self, worker: &str) -> WorkerEntry {
        self.find(worker)
            .unwrap_or_else(|| panic!("{worker} is not registered"))
    }

    fn spawn_id(&self, worker: &str) -> SpawnId {
        SpawnId::of(&self.entry(worker).info)
    }

    fn candidates(&self) -> Vec<String> {
        self.registry
            .candidates(&WorkerFilter::default(), self.now)
            .map(|c| c.info.id.to_string())
            .collect()
    }
}

/// A worker source whose spawns never end.
struct NeverSpawns;

impl WorkerSource for NeverSpawns {
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

/// What a dispatcher returned for concurrent heartbeats, and its workers afterwards.
#[derive(Default)]
struct Dispatched {
    results: Vec<HeartbeatResult>,
    workers: Vec<WorkerEntry>,
    heartbeats_per_worker: u64,
}

fn queen(world: &mut World) -> &mut Queen {
    world.get::<Queen>()
}

fn rows(step: &Step) -> Vec<Vec<String>> {
    step.table
        .as_ref()
        .map_or_else(Vec::new, |t| t.rows.clone())
}

fn pairs(step: &Step) -> Vec<(String, String)> {
    rows(step)
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect()
}

#[given("an empty registry")]
fn empty_registry(world: &mut World) {
    *queen(world) = Queen::default();
}

#[given(regex = r"^(w-\d+) has sent a heartbeat(?: with)?$")]
#[when(regex = r"^(w-\d+) sends a heartbeat(?: with)?$")]
fn send_heartbeat(world: &mut World, worker: String, step: &Step) {
    queen(world).receive_heartbeat(&worker, &pairs(step));
}

#[given("these workers have sent heartbeats")]
fn send_heartbeats_of_table(world: &mut World, step: &Step) {
    let mut rows = rows(step).into_iter();
    let names = rows.next().unwrap();
    for row in rows {
        let fields: Vec<_> = names.iter().cloned().zip(row.clone()).skip(1).collect();
        queen(world).receive_heartbeat(&row[0], &fields);
    }
}

#[given(regex = r"^(\d+) workers send a heartbeat every 5 s$")]
fn start_periodic_workers(world: &mut World, count: u64) {
    let queen = queen(world);
    // Spread over the interval, as those of real workers are.
    queen.periodic = (0..count)
        .map(|n| {
            let first = HEARTBEAT_INTERVAL * n as u32 / count as u32;
            (format!("w-{n}"), first)
        })
        .collect();
}

#[when("the queen restarts with an empty registry")]
fn restart(world: &mut World) {
    queen(world).registry = WorkerRegistry::default();
}

#[given(regex = r"^([\d.]+) s pass$")]
#[when(regex = r"^([\d.]+) s pass$")]
fn advance(world: &mut World, seconds: f64) {
    queen(world).advance(Duration::from_secs_f64(seconds));
}

#[when(regex = r"^a connection to (w-\d+) fails$")]
fn fail_connection(world: &mut World, worker: String) {
    let queen = queen(world);
    let spawn = queen.spawn_id(&worker);
    assert!(queen.registry.connection_failed(&spawn));
}

#[when(regex = r"^a connection to generation (\d+) of (w-\d+) fails$")]
fn fail_old_connection(world: &mut World, generation: u64, worker: String) {
    let spawn = SpawnId {
        worker: worker.parse().unwrap(),
        generation: Generation(generation),
    };
    assert!(!queen(world).registry.connection_failed(&spawn));
}

#[when(regex = r"^a request finds that (w-\d+) has stalled$")]
fn stall(world: &mut World, worker: String) {
    let queen = queen(world);
    let spawn = queen.spawn_id(&worker);
    assert!(queen.registry.stalled(&spawn, queen.now));
}

#[then(regex = r"^(w-\d+) (must|need not) be stopped$")]
fn lost_to_stall(world: &mut World, worker: String, must: String) {
    let queen = queen(world);
    let lost = queen.registry.lost_to_stall(queen.now);
    assert_eq!(lost.contains(&queen.spawn_id(&worker)), must == "must");
}

#[when(regex = r"^(w-\d+) is stopped$")]
fn stop(world: &mut World, worker: String) {
    let queen = queen(world);
    let SpawnId { worker, generation } = queen.spawn_id(&worker);
    queen.registry.fence(&worker, Generation(generation.0 + 1));
}

#[given(regex = r"^a request is assigned to (w-\d+)$")]
#[when(regex = r"^a request is assigned to (w-\d+)$")]
fn assign_request(world: &mut World, worker: String) {
    let queen = queen(world);
    assert!(queen.candidates().contains(&worker));
    let spawn = queen.spawn_id(&worker);
    queen.registry.reserve(&spawn);
}

#[when(regex = r"^a request on (w-\d+) finishes$")]
fn finish_request(world: &mut World, worker: String) {
    let queen = queen(world);
    let spawn = queen.spawn_id(&worker);
    queen.registry.release(&spawn);
}

#[when(regex = r"^(w-\d+) refuses a request because all its slots are busy$")]
fn refuse_request(world: &mut World, worker: String) {
    let queen = queen(world);
    let spawn = queen.spawn_id(&worker);
    queen.registry.all_slots_busy(&spawn, queen.now);
}

#[when(regex = r"^(\d+) workers each send (\d+) heartbeats to the dispatcher, all concurrently$")]
async fn send_concurrent_heartbeats(world: &mut World, workers: u64, heartbeats: u64) {
    let mut scheduler = Scheduler::new(SchedulerSettings::default());
    let local = ("local".parse().unwrap(), NodeFacts::default());
    scheduler.handle(
        SchedulerEvent::Nodes(NodeMap::from([local])),
        Duration::ZERO,
    );
    let dispatcher = Dispatcher::start(scheduler, Clock::start(), Arc::new(NeverSpawns));
    let mut sending = JoinSet::new();
    for sequence in 1..=heartbeats {
        for worker in 0..workers {
            let fields = [
                ("memory_bytes".to_owned(), sequence.to_string()),
                ("sequence".to_owned(), sequence.to_string()),
            ];
            let heartbeat = queen(world).heartbeat(&format!("w-{worker}"), &fields);
            let dispatcher = dispatcher.clone();
            sending.spawn(async move { dispatcher.heartbeat(heartbeat).await.unwrap() });
        }
    }
    let limit = Duration::from_secs(20);
    let results = bdd::within(limit, "all heartbeats", sending.join_all()).await;
    let workers = dispatcher.workers(WorkerFilter::default()).await.unwrap();
    *world.get::<Dispatched>() = Dispatched {
        results,
        workers,
        heartbeats_per_worker: heartbeats,
    };
}

#[then(regex = r"^the dispatcher has registered each of the (\d+) workers once$")]
fn registered_once(world: &mut World, count: usize) {
    let dispatched = world.get::<Dispatched>();
    let registered = dispatched
        .results
        .iter()
        .filter(|result| **result == HeartbeatResult::Registered);
    assert_eq!(registered.count(), count);
    assert_eq!(dispatched.workers.len(), count);
}

#[then("every worker shows its last heartbeat")]
fn last_heartbeats(world: &mut World) {
    let dispatched = world.get::<Dispatched>();
    assert_ne!(dispatched.workers.len(), 0);
    for worker in &dispatched.workers {
        let shown = worker.info.memory_bytes;
        assert_eq!(
            shown, dispatched.heartbeats_per_worker,
            "{}",
            worker.info.id
        );
    }
}

#[then(regex = r"^the registry contains (\d+) workers?$")]
fn size(world: &mut World, count: usize) {
    assert_eq!(queen(world).workers().len(), count);
}

#[then(regex = r"^(w-\d+) is (available|silent|failed|stalled)$")]
fn availability(world: &mut World, worker: String, expected: String) {
    let found = queen(world).entry(&worker).availability;
    assert_eq!(json!(found), Value::from(expected));
}

#[then("every worker is available")]
fn all_available(world: &mut World) {
    for worker in queen(world).workers() {
        assert_eq!(
            worker.availability,
            Availability::Available,
            "{}",
            worker.info.id
        );
    }
}

#[then(regex = r"^(w-\d+) can receive new requests$")]
fn is_candidate(world: &mut World, worker: String) {
    assert!(queen(world).candidates().contains(&worker));
}

#[then(regex = r"^(w-\d+) receives no new requests$")]
fn is_not_candidate(world: &mut World, worker: String) {
    assert!(!queen(world).candidates().contains(&worker));
}

#[then(regex = r"^the workers that can receive new requests are (.*)$")]
fn candidates(world: &mut World, expected: String) {
    assert_eq!(queen(world).candidates().join(", "), expected);
}

#[then(regex = r"^(w-\d+) runs (\d+) requests?$")]
fn active_requests(world: &mut World, worker: String, count: u32) {
    assert_eq!(queen(world).entry(&worker).active_requests, count);
}

#[then("the heartbeat is refused with FENCED")]
fn refused_as_fenced(world: &mut World) {
    match queen(world).last_result.take() {
        Some(Err(error)) => assert_eq!(error.code, Code::Fenced),
        other => panic!("not refused: {other:?}"),
    }
}

#[then(regex = r"^(w-\d+) is not registered$")]
fn not_registered(world: &mut World, worker: String) {
    let queen = queen(world);
    assert_eq!(queen.find(&worker), None);
    let id: WorkerId = worker.parse().unwrap();
    assert_eq!(queen.registry.get(&id), None);
}

#[then(regex = r"^(w-\d+) is registered with$")]
fn registered_with(world: &mut World, worker: String, step: &Step) {
    let entry = json!(queen(world).entry(&worker));
    for (name, expected) in pairs(step) {
        let found = match name.as_str() {
            "kv_used" => &entry["kv_cache"]["used"],
            _ => &entry[&name],
        };
        let found = found.as_str().map_or(found.to_string(), str::to_owned);
        assert_eq!(found, expected, "{name}");
    }
}

#[then(regex = r"^the workers with (.*) are (.*)$")]
fn filtered(world: &mut World, criteria: String, expected: String) {
    let mut filter = WorkerFilter::default();
    for criterion in criteria.split(", ").filter(|part| *part != "any") {
        let (name, value) = criterion.split_once(' ').unwrap();
        match name {
            "model" => filter.model = Some(value.parse().unwrap()),
            "node" => filter.node = Some(value.parse().unwrap()),
            "backend" => filter.backend = Some(value.parse().unwrap()),
            "status" => filter.status = Some(serde_json::from_value(json!(value)).unwrap()),
            _ => panic!("unknown criterion: {name}"),
        }
    }
    let queen = queen(world);
    let workers: Vec<String> = queen
        .registry
        .snapshot(&filter, queen.now)
        .iter()
        .map(|w| w.info.id.to_string())
        .collect();
    let expected = if expected == "none" { "" } else { &expected };
    assert_eq!(workers.join(", "), expected);
}
