//! Feature 030, in process: the registry and time as the scenario lets it pass.
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

use std::time::Duration;

use bdd::World;
use cucumber::{gherkin::Step, given, then, when};
use diagnostics::{Code, Diagnostic};
use input_validation::{Generation, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use worker_contract::WorkerHeartbeat;
use worker_registry::{Filter, Heard, Lease, Registry};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["030-queen-worker-registry"]).await
}

/// The queen's side, the workers that go on by themselves, and the queen's time.
#[derive(Default)]
struct Queen {
    registry: Registry,
    now: Duration,
    heard: Option<Result<Heard, Diagnostic>>,
    sequence: u64,
    /// Workers that are heard every 5 s, with the time of the next heartbeat.
    regular: Vec<(String, Duration)>,
}

const EVERY: Duration = Duration::from_secs(5);

impl Queen {
    /// A heartbeat of a ready worker with 4 slots, changed by the named fields.
    fn heartbeat(&mut self, worker: &str, fields: &[(String, String)]) -> WorkerHeartbeat {
        self.sequence += 1;
        let mut beat = json!({
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
                "kv_used" => beat["worker"]["kv_cache"]["used"] = value,
                "sequence" | "timestamp" => beat[name] = value,
                _ => beat["worker"][name] = value,
            }
        }
        serde_json::from_value(beat).unwrap()
    }

    fn hear(&mut self, worker: &str, fields: &[(String, String)]) {
        let beat = self.heartbeat(worker, fields);
        self.heard = Some(self.registry.heartbeat(beat, self.now));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.regular.iter().map(|(_, at)| *at).min();
            let Some(next) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            for i in 0..self.regular.len() {
                if self.regular[i].1 == next {
                    self.regular[i].1 += EVERY;
                    let worker = self.regular[i].0.clone();
                    self.hear(&worker, &[]);
                }
            }
            self.registry.expire(self.now);
        }
        self.now = end;
        self.registry.expire(self.now);
    }

    fn all(&self) -> Vec<WorkerEntry> {
        self.registry.snapshot(&Filter::default(), self.now)
    }

    fn find(&self, worker: &str) -> Option<WorkerEntry> {
        self.all()
            .into_iter()
            .find(|w| w.info.id.as_str() == worker)
    }

    fn entry(&self, worker: &str) -> WorkerEntry {
        self.find(worker)
            .unwrap_or_else(|| panic!("there is no {worker}"))
    }

    fn lease(&self, worker: &str) -> Lease {
        let info = self.entry(worker).info;
        Lease {
            worker: info.id,
            generation: info.generation,
        }
    }

    fn candidates(&self) -> Vec<String> {
        self.registry
            .candidates(&Filter::default(), self.now)
            .map(|c| c.info.id.to_string())
            .collect()
    }
}

fn queen(world: &mut World) -> &mut Queen {
    world.get::<Queen>()
}

/// The rows of a step's table.
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
fn empty(world: &mut World) {
    *queen(world) = Queen::default();
}

#[given(regex = r"^(w-\d+) was heard(?: with)?$")]
#[when(regex = r"^(w-\d+) is heard(?: with)?$")]
fn heard(world: &mut World, worker: String, step: &Step) {
    queen(world).hear(&worker, &pairs(step));
}

#[given("these workers were heard")]
fn these(world: &mut World, step: &Step) {
    let mut rows = rows(step).into_iter();
    let names = rows.next().unwrap();
    for row in rows {
        let fields: Vec<_> = names.iter().cloned().zip(row.clone()).skip(1).collect();
        queen(world).hear(&row[0], &fields);
    }
}

#[given(regex = r"^(\d+) workers that are heard every 5 s$")]
fn regular(world: &mut World, count: u64) {
    let queen = queen(world);
    // Spread over the interval, as real ones are.
    queen.regular = (0..count)
        .map(|n| (format!("w-{n}"), EVERY * n as u32 / count as u32))
        .collect();
}

#[when("the registry is lost")]
fn lost(world: &mut World) {
    queen(world).registry = Registry::default();
}

#[given(regex = r"^([\d.]+) s pass$")]
#[when(regex = r"^([\d.]+) s pass$")]
fn pass(world: &mut World, seconds: f64) {
    queen(world).pass(Duration::from_secs_f64(seconds));
}

#[when(regex = r"^the connection to (w-\d+) breaks$")]
fn breaks(world: &mut World, worker: String) {
    let queen = queen(world);
    let lease = queen.lease(&worker);
    queen.registry.link_failed(&lease);
}

#[when(regex = r"^the connection to (w-\d+) of generation (\d+) breaks$")]
fn old_breaks(world: &mut World, worker: String, generation: u64) {
    let lease = Lease {
        worker: worker.parse().unwrap(),
        generation: Generation(generation),
    };
    queen(world).registry.link_failed(&lease);
}

#[when(regex = r"^(w-\d+) is stopped$")]
fn stopped(world: &mut World, worker: String) {
    let queen = queen(world);
    let lease = queen.lease(&worker);
    queen
        .registry
        .fence(&lease.worker, Generation(lease.generation.0 + 1));
}

#[given(regex = r"^(w-\d+) got a request$")]
#[when(regex = r"^(w-\d+) gets a request$")]
fn request(world: &mut World, worker: String) {
    let queen = queen(world);
    assert!(queen.candidates().contains(&worker));
    let lease = queen.lease(&worker);
    queen.registry.reserve(&lease);
}

#[when(regex = r"^a request of (w-\d+) ends$")]
fn request_ends(world: &mut World, worker: String) {
    let queen = queen(world);
    let lease = queen.lease(&worker);
    queen.registry.release(&lease);
}

#[when(regex = r"^(w-\d+) answers that every slot is taken$")]
fn full(world: &mut World, worker: String) {
    let queen = queen(world);
    let lease = queen.lease(&worker);
    queen.registry.refused(&lease, queen.now);
}

/// One owner behind a bounded channel, as in the queen.
#[when(regex = r"^(\d+) workers send (\d+) heartbeats each, all at once$")]
async fn at_once(world: &mut World, workers: u64, each: u64) {
    let mut registry = Registry::default();
    let now = queen(world).now;
    let mut beats = Vec::new();
    for n in 0..each {
        for worker in 0..workers {
            let fields = [
                ("memory_bytes".to_owned(), (n + 1).to_string()),
                ("sequence".to_owned(), n.to_string()),
            ];
            beats.push(queen(world).heartbeat(&format!("w-{worker}"), &fields));
        }
    }
    let (sender, mut mailbox) = mpsc::channel(64);
    let owner = tokio::spawn(async move {
        let mut heard = 0;
        while let Some(beat) = mailbox.recv().await {
            registry.heartbeat(beat, now).unwrap();
            heard += 1;
        }
        (registry, heard)
    });
    for beat in beats {
        let sender = sender.clone();
        world.spawn(async move { sender.send(beat).await.unwrap() });
    }
    drop(sender);
    let (registry, heard) = bdd::within(Duration::from_secs(20), "all heartbeats", owner)
        .await
        .unwrap();
    assert_eq!(heard, workers * each);
    queen(world).registry = registry;
}

#[then(regex = r"^the registry has (\d+) workers?$")]
fn size(world: &mut World, count: usize) {
    assert_eq!(queen(world).all().len(), count);
}

#[then(regex = r"^(w-\d+) is (available|silent|failed)$")]
fn availability(world: &mut World, worker: String, expected: String) {
    let found = queen(world).entry(&worker).availability;
    assert_eq!(json!(found), Value::from(expected));
}

#[then("every worker is available")]
fn all_available(world: &mut World) {
    for worker in queen(world).all() {
        assert_eq!(
            worker.availability,
            Availability::Available,
            "{}",
            worker.info.id
        );
    }
}

#[then("every worker shows its last heartbeat")]
fn all_last(world: &mut World) {
    for worker in queen(world).all() {
        assert_eq!(worker.info.memory_bytes, 10, "{}", worker.info.id);
    }
}

#[then(regex = r"^(w-\d+) may get (a|no) request$")]
fn may(world: &mut World, worker: String, which: String) {
    let queen = queen(world);
    assert_eq!(queen.candidates().contains(&worker), which == "a");
}

#[then(regex = r"^the workers that may get a request are (.*)$")]
fn may_all(world: &mut World, expected: String) {
    assert_eq!(queen(world).candidates().join(", "), expected);
}

#[then(regex = r"^(w-\d+) runs (\d+) requests?$")]
fn runs(world: &mut World, worker: String, count: u32) {
    assert_eq!(queen(world).entry(&worker).active_requests, count);
}

#[then("it is fenced")]
fn fenced(world: &mut World) {
    match queen(world).heard.take() {
        Some(Err(error)) => assert_eq!(error.code, Code::Fenced),
        other => panic!("not fenced: {other:?}"),
    }
}

#[then(regex = r"^there is no (w-\d+)$")]
fn none(world: &mut World, worker: String) {
    let queen = queen(world);
    assert!(queen.find(&worker).is_none());
    let id: WorkerId = worker.parse().unwrap();
    assert!(queen.registry.get(&id).is_none());
}

#[then(regex = r"^(w-\d+) shows$")]
fn shows(world: &mut World, worker: String, step: &Step) {
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
fn filtered(world: &mut World, filter: String, expected: String) {
    let mut wanted = Filter::default();
    for part in filter.split(", ").filter(|part| *part != "any") {
        let (name, value) = part.split_once(' ').unwrap();
        match name {
            "model" => wanted.model = Some(value.parse().unwrap()),
            "node" => wanted.node = Some(value.parse().unwrap()),
            "backend" => wanted.backend = Some(value.parse().unwrap()),
            "status" => wanted.status = Some(serde_json::from_value(json!(value)).unwrap()),
            _ => panic!("no such filter: {name}"),
        }
    }
    let queen = queen(world);
    let names: Vec<String> = queen
        .registry
        .snapshot(&wanted, queen.now)
        .iter()
        .map(|w| w.info.id.to_string())
        .collect();
    let expected = if expected == "none" { "" } else { &expected };
    assert_eq!(names.join(", "), expected);
}
