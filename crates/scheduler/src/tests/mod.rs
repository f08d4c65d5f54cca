//! Helpers for the tests of the scheduler.

mod behavior;
mod counters;
mod decisions;
mod deployments;
mod estimates;
mod idle;
mod node_sleep;
mod nodes;
mod placement;
mod policy;
mod properties;
mod room;
mod sleeping;
mod stopping;
mod targets;
mod yielding;

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, DeviceId, Generation, RequestId};
use jiff::Timestamp;
use queen_contract::Priority;
use request_queue::{ClientKey, Deadline};
use worker_contract::{KvCacheUse, SamplingValues, WorkerHeartbeat, WorkerInfo, WorkerStatus};
use worker_registry::SpawnId;

use crate::*;

pub const T0: Duration = Duration::ZERO;
pub const HAIKU: &str = "builtin:haiku";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn scheduler() -> Scheduler {
    with_nodes(&[("local", NodeFacts::default())])
}

/// A scheduler of a queen with these nodes.
pub fn with_nodes(nodes: &[(&str, NodeFacts)]) -> Scheduler {
    let mut s = Scheduler::new(SchedulerSettings::default());
    set_nodes(&mut s, nodes, T0);
    s
}

pub fn set_nodes(
    s: &mut Scheduler,
    nodes: &[(&str, NodeFacts)],
    now: Duration,
) -> Vec<SchedulerEffect> {
    let nodes = nodes.iter();
    let nodes = nodes.map(|(name, facts)| (name.parse().unwrap(), facts.clone()));
    s.handle(SchedulerEvent::Nodes(nodes.collect()), now)
}

pub fn requirements(model: &str) -> WorkerRequirements {
    WorkerRequirements::model(model.parse().unwrap())
}

pub fn new_request(id: &str, model: &str, deadline: Duration) -> NewRequest {
    NewRequest {
        prompt: PromptPrefixes::default(),
        id: id.parse().unwrap(),
        requirements: requirements(model),
        priority: Priority::Interactive,
        client: ClientKey::default(),
        deadline: Deadline::at(deadline),
    }
}

/// Submits a request for the default model that must be accepted.
pub fn submit(s: &mut Scheduler, id: &str, now: Duration) -> Vec<SchedulerEffect> {
    s.submit(new_request(id, HAIKU, secs(600)), now).unwrap()
}

pub fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

pub fn worker(name: &str, generation: u64, slots: u32) -> WorkerInfo {
    WorkerInfo {
        id: name.parse().unwrap(),
        generation: Generation(generation),
        hive_id: "local".parse().unwrap(),
        model_id: HAIKU.parse().unwrap(),
        device: "CPU-0".parse().unwrap(),
        port: 8081,
        pid: 7,
        status: WorkerStatus::Ready,
        implementation: "rbee-mock".into(),
        version: "1".into(),
        capabilities: Vec::new(),
        slots_total: slots,
        slots_free: slots,
        queue_depth: 0,
        context_length: 512,
        memory_bytes: 1,
        kv_cache: KvCacheUse::default(),
        prefix_digest: None,
        last_step_ms: None,
        sampling: SamplingValues::default(),
    }
}

/// Applies a heartbeat that must be accepted.
pub fn beat(
    s: &mut Scheduler,
    worker: WorkerInfo,
    sequence: u64,
    now: Duration,
) -> Vec<SchedulerEffect> {
    let heartbeat = WorkerHeartbeat {
        worker,
        timestamp: Timestamp::UNIX_EPOCH,
        sequence,
    };
    let (result, effects) = s.heartbeat(heartbeat, now);
    result.unwrap();
    effects
}

pub fn device_id(backend: Backend, index: u16) -> DeviceId {
    match backend {
        Backend::Cpu => DeviceId::Cpu(index),
        _ => DeviceId::Gpu(index),
    }
}

pub fn target() -> SpawnTarget {
    SpawnTarget {
        model: HAIKU.parse().unwrap(),
        node: "local".parse().unwrap(),
        backend: input_validation::Backend::Cpu,
        device: None,
    }
}

pub fn spawn_id(name: &str, generation: u64) -> SpawnId {
    SpawnId {
        worker: name.parse().unwrap(),
        generation: Generation(generation),
    }
}

pub fn assigned(effects: &[SchedulerEffect]) -> Vec<(String, String)> {
    effects
        .iter()
        .filter_map(|e| match e {
            SchedulerEffect::Assign(id, a) => Some((id.to_string(), a.worker.id.to_string())),
            _ => None,
        })
        .collect()
}

pub fn waits(effects: &[SchedulerEffect]) -> Vec<(String, WaitReason)> {
    effects
        .iter()
        .filter_map(|e| match e {
            SchedulerEffect::Waiting(id, waiting) => Some((id.to_string(), waiting.reason)),
            _ => None,
        })
        .collect()
}

pub fn failures(effects: &[SchedulerEffect]) -> Vec<(String, Code)> {
    effects
        .iter()
        .filter_map(|e| match e {
            SchedulerEffect::Fail(id, error) => Some((id.to_string(), error.code)),
            _ => None,
        })
        .collect()
}

pub fn spawns(effects: &[SchedulerEffect]) -> usize {
    effects
        .iter()
        .filter(|e| matches!(e, SchedulerEffect::Spawn(_)))
        .count()
}

pub fn broke() -> AttemptFailure {
    AttemptFailure::Link(Diagnostic::new(Code::WorkerLinkLost, "reset"))
}

pub fn pair(request: &str, worker: &str) -> Vec<(String, String)> {
    vec![(request.to_owned(), worker.to_owned())]
}
