use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use input_validation::{Backend, NodeName, WorkerId};
use proptest::prelude::*;
use scheduling_policy::Policy;
use worker_registry::WorkerFilter;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Submit {
        other_model: bool,
        node: u8,
        gpu: bool,
    },
    /// The states of the nodes change: starting, up, up with a GPU, down, or not registered.
    Nodes {
        local: u8,
        attic: u8,
    },
    Heartbeat {
        worker: u8,
        status: u8,
        respawned: bool,
    },
    /// Ends the attempt of a running request.
    EndAttempt {
        nth: usize,
        how: u8,
    },
    Cancel(usize),
    EndSpawn {
        ok: bool,
        code: u8,
    },
    SpawnProgress,
    /// A user has a worker stopped.
    Stop {
        worker: u8,
    },
    /// The process of a worker that is being stopped exits.
    EndStop,
    /// The policy changes.
    Policy(usize),
    Wait {
        ms: u64,
    },
}

/// Scripts that refuse, prefer and fail, each for some candidates.
const POLICIES: [&str; 4] = [
    "fn route(request, worker) { if request.priority == \"batch\" { \"never\" } }
     fn place(request, place) { if place.node == \"local\" { \"not here\" } }",
    "fn route(request, worker) { worker.running }
     fn place(request, place) { if place.needs_room { \"full\" } else { -place.free_bytes } }",
    "fn route(request, worker) { if worker.name == \"w1\" { throw \"no\" } }",
    "fn place(request, place) { place.rank / request.failures }",
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (any::<bool>(), 0u8..9, prop::bool::weighted(0.2))
            .prop_map(|(other_model, node, gpu)| Op::Submit { other_model, node, gpu }),
        1 => (0u8..5, 0u8..5).prop_map(|(local, attic)| Op::Nodes { local, attic }),
        3 => (0u8..3, 0u8..5, prop::bool::weighted(0.2))
            .prop_map(|(worker, status, respawned)| Op::Heartbeat { worker, status, respawned }),
        5 => (any::<usize>(), 0u8..8).prop_map(|(nth, how)| Op::EndAttempt { nth, how }),
        1 => any::<usize>().prop_map(Op::Cancel),
        2 => (any::<bool>(), 0u8..5).prop_map(|(ok, code)| Op::EndSpawn { ok, code }),
        1 => Just(Op::SpawnProgress),
        1 => (0u8..3).prop_map(|worker| Op::Stop { worker }),
        2 => Just(Op::EndStop),
        1 => (0..=POLICIES.len()).prop_map(Op::Policy),
        3 => (0u64..20_000).prop_map(|ms| Op::Wait { ms }),
        1 => (0u64..700_000).prop_map(|ms| Op::Wait { ms }),
    ]
}

fn facts(state: u8) -> Option<NodeFacts> {
    let device = |backend| DeviceFacts {
        id: device_id(backend, 0),
        backend,
        free_bytes: u64::from(state),
        has_worker: true,
    };
    let mut devices = vec![device(Backend::Cpu)];
    if state == 2 {
        devices.push(device(Backend::Cuda));
    }
    let error = Diagnostic::new(Code::SshUnreachable, "down");
    let state = match state {
        0 => NodeState::Starting,
        1 | 2 => NodeState::Up,
        3 => NodeState::Down(error),
        _ => return None,
    };
    Some(NodeFacts {
        state,
        devices,
        ..NodeFacts::default()
    })
}

/// What a shell around the scheduler knows.
#[derive(Default)]
struct Shell {
    submitted: Vec<RequestId>,
    finished: HashMap<RequestId, u32>,
    running: Vec<(RequestId, SpawnId)>,
    /// The number of the last assignment.
    assignments: HashMap<RequestId, u32>,
    stopping: HashSet<RequestId>,
    spawning: Vec<SpawnTarget>,
    nodes: NodeMap,
    /// The backend and the node that each request requires.
    required: HashMap<RequestId, (Option<Backend>, Option<NodeName>)>,
    /// Workers that are being stopped.
    to_stop: Vec<SpawnId>,
    /// Generation and sequence of each worker's last heartbeat.
    heartbeats: HashMap<WorkerId, (u64, u64)>,
}

impl Shell {
    fn finish(&mut self, id: &RequestId) {
        *self.finished.entry(id.clone()).or_default() += 1;
        self.running.retain(|(running, _)| running != id);
    }

    fn is_running(&self, id: &RequestId) -> bool {
        self.running.iter().any(|(running, _)| running == id)
    }

    fn apply(&mut self, effects: Vec<SchedulerEffect>) {
        for effect in effects {
            match effect {
                SchedulerEffect::Assign(id, assignment) => {
                    assert!(!self.is_running(&id), "{id} runs twice");
                    assert!(!self.finished.contains_key(&id), "{id} runs after its end");
                    assert!((1..=3).contains(&assignment.attempt));
                    let last = self.assignments.insert(id.clone(), assignment.number);
                    assert_eq!(assignment.number, last.unwrap_or(0) + 1);
                    let spawn = assignment.spawn_id();
                    assert!(
                        !self.to_stop.contains(&spawn),
                        "{id} runs on a stopping worker"
                    );
                    self.running.push((id, spawn));
                }
                SchedulerEffect::Fail(id, _) => {
                    assert!(!self.is_running(&id), "{id} fails while it runs");
                    self.finish(&id);
                }
                SchedulerEffect::Stop(id, _) => {
                    self.stopping.insert(id);
                }
                SchedulerEffect::Spawn(target) => {
                    assert!(!self.spawning.contains(&target), "two spawns of {target:?}");
                    if let Some(facts) = self.nodes.get(&target.node) {
                        assert!(
                            !matches!(facts.state, NodeState::Down(_)),
                            "{target:?} is down"
                        );
                        let has = facts.devices.iter().any(|d| d.backend == target.backend);
                        assert!(has, "no device for {target:?}");
                    }
                    let fits = self.required.iter().any(|(id, (backend, node))| {
                        !self.finished.contains_key(id)
                            && backend.is_none_or(|backend| backend == target.backend)
                            && node.as_ref().is_none_or(|node| *node == target.node)
                    });
                    assert!(fits, "no request requires {target:?}");
                    self.spawning.push(target);
                }
                SchedulerEffect::AbandonSpawn(target) => {
                    let before = self.spawning.len();
                    self.spawning.retain(|spawning| *spawning != target);
                    assert_eq!(self.spawning.len(), before - 1, "no spawn of {target:?}");
                }
                SchedulerEffect::StopWorker(spawn, cause) => {
                    let used = self.running.iter().any(|(_, on)| *on == spawn);
                    let must_be_idle = matches!(cause, StopCause::Idle | StopCause::Memory);
                    assert!(
                        !(used && must_be_idle),
                        "{spawn:?} is unloaded while it runs a request"
                    );
                    assert!(!self.to_stop.contains(&spawn), "{spawn:?} is stopped twice");
                    self.to_stop.push(spawn);
                }
                SchedulerEffect::Waiting(..)
                | SchedulerEffect::CheckProcess(_)
                | SchedulerEffect::WorkerExpired(_)
                | SchedulerEffect::PolicyFailed { .. } => {}
            }
        }
    }

    fn check(&self, s: &Scheduler, now: Duration) {
        for entry in s.registry().snapshot(&WorkerFilter::default(), now) {
            assert!(
                entry.active_requests <= entry.info.slots_total,
                "overbooked"
            );
            let spawn = SpawnId::of(&entry.info);
            let held = self.running.iter().filter(|(_, s)| *s == spawn).count();
            assert!(entry.active_requests as usize <= held, "a slot is lost");
        }
        let counts = s.counts();
        assert_eq!(counts.running as usize, self.running.len());
        assert_eq!(
            counts.waiting + counts.running,
            (self.submitted.len() - self.finished.len()) as u64
        );
        assert!(
            self.finished.values().all(|n| *n == 1),
            "a request finished twice"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_request_finishes_exactly_once_whatever_fails(
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut s = scheduler();
        let mut shell = Shell::default();
        let mut now = T0;
        for op in ops {
            let effects = match op {
                Op::Submit { other_model, node, gpu } => {
                    let id = format!("r{}", shell.submitted.len());
                    let model = if other_model { "mock:a=1" } else { HAIKU };
                    let mut request = new_request(&id, model, now + secs(60));
                    request.requirements.node = match node {
                        0 => Some("local".parse().unwrap()),
                        1 => Some("attic".parse().unwrap()),
                        _ => None,
                    };
                    request.requirements.backend = gpu.then_some(Backend::Cuda);
                    let number = shell.submitted.len() as u64;
                    request.client = ClientKey::new(number % 4);
                    if number.is_multiple_of(3) {
                        request.priority = Priority::Batch;
                    }
                    let id = request.id.clone();
                    let WorkerRequirements { backend, node, .. } = request.requirements.clone();
                    shell.required.insert(id.clone(), (backend, node));
                    shell.submitted.push(id.clone());
                    match s.submit(request, now) {
                        Ok(effects) => effects,
                        Err(error) => {
                            let refusals = [Code::QueueFull, Code::DeadlineExceeded];
                            prop_assert!(refusals.contains(&error.code), "{error}");
                            shell.finish(&id);
                            Vec::new()
                        }
                    }
                }
                Op::Heartbeat { worker: nth, status, respawned } => {
                    let mut info = worker(&format!("w{nth}"), 1, 2);
                    let (generation, sequence) =
                        shell.heartbeats.entry(info.id.clone()).or_insert((1, 0));
                    *generation += u64::from(respawned);
                    *sequence += 1;
                    info.generation = Generation(*generation);
                    info.status = [
                        WorkerStatus::Ready, WorkerStatus::Ready, WorkerStatus::Busy,
                        WorkerStatus::Starting, WorkerStatus::Draining,
                    ][usize::from(status)];
                    if nth == 2 {
                        info.model_id = "mock:a=1".parse().unwrap();
                    }
                    let sequence = *sequence;
                    beat(&mut s, info, sequence, now)
                }
                Op::EndAttempt { nth, how } => {
                    if shell.running.is_empty() {
                        continue;
                    }
                    let (id, _) = shell.running[nth % shell.running.len()].clone();
                    let error = Diagnostic::new(Code::WorkerLinkLost, "x");
                    let failure = match how {
                        _ if shell.stopping.contains(&id) => None,
                        0 => Some(AttemptFailure::Link(error)),
                        1 => Some(AttemptFailure::Fault(error)),
                        2 => Some(AttemptFailure::Refused(error)),
                        3 => Some(AttemptFailure::Crashed(error)),
                        4 => Some(AttemptFailure::Stalled(error)),
                        _ => None,
                    };
                    if let Some(failure) = failure {
                        shell.running.retain(|(running, _)| *running != id);
                        s.handle(SchedulerEvent::AttemptFailed(id, failure), now)
                    } else {
                        shell.finish(&id);
                        s.handle(SchedulerEvent::Finished(id, RequestOutcome::Completed), now)
                    }
                }
                Op::Cancel(nth) => {
                    if shell.submitted.is_empty() {
                        continue;
                    }
                    let id = shell.submitted[nth % shell.submitted.len()].clone();
                    s.handle(SchedulerEvent::Cancel(id, Diagnostic::new(Code::Cancelled, "x")), now)
                }
                Op::EndSpawn { ok, code } => {
                    let Some(target) = shell.spawning.pop() else { continue };
                    if ok {
                        s.handle(SchedulerEvent::Spawned(target, spawn_id("w0", 1)), now)
                    } else {
                        let code = [Code::WorkerStartFailed, Code::InvalidModelFile, Code::HiveUnreachable,
                            Code::InsufficientRam, Code::InsufficientVram]
                            [usize::from(code)];
                        s.handle(SchedulerEvent::SpawnFailed(target, Diagnostic::new(code, "x")), now)
                    }
                }
                Op::SpawnProgress => match shell.spawning.last() {
                    Some(target) => s.handle(SchedulerEvent::SpawnProgress(target.clone()), now),
                    None => continue,
                },
                Op::Stop { worker } => {
                    let id = format!("w{worker}").parse().unwrap();
                    let Some(info) = s.registry().get(&id) else { continue };
                    let spawn = SpawnId::of(info);
                    shell.to_stop.push(spawn.clone());
                    s.handle(SchedulerEvent::Stopping(spawn), now)
                }
                Op::EndStop => {
                    let Some(SpawnId { worker, generation }) = shell.to_stop.pop() else { continue };
                    let lowest = Generation(generation.0 + 1);
                    let (known, _) = shell.heartbeats.entry(worker.clone()).or_insert((1, 0));
                    *known = (*known).max(lowest.0);
                    s.handle(SchedulerEvent::Fence(worker, lowest), now)
                }
                Op::Nodes { local, attic } => {
                    let nodes = [("local", local), ("attic", attic)];
                    let nodes = nodes.into_iter().filter_map(|(name, state)| {
                        Some((name.parse().unwrap(), facts(state)?))
                    });
                    shell.nodes = nodes.collect();
                    s.handle(SchedulerEvent::Nodes(shell.nodes.clone()), now)
                }
                Op::Policy(nth) => {
                    let script = POLICIES.get(nth);
                    let policy = script.map(|script| Arc::new(Policy::compile(script).unwrap()));
                    s.handle(SchedulerEvent::Policy(policy), now)
                }
                Op::Wait { ms } => {
                    now += Duration::from_millis(ms);
                    s.handle(SchedulerEvent::Tick, now)
                }
            };
            shell.apply(effects);
            shell.check(&s, now);
        }
        // Running requests finish and waiting ones reach their deadline: none is left.
        while let Some((id, _)) = shell.running.first().cloned() {
            shell.finish(&id);
            let effects = s.handle(SchedulerEvent::Finished(id, RequestOutcome::Failed), now);
            shell.apply(effects);
        }
        now += secs(61);
        let effects = s.handle(SchedulerEvent::Tick, now);
        shell.apply(effects);
        shell.check(&s, now);
        prop_assert_eq!(shell.finished.len(), shell.submitted.len());
        prop_assert_eq!(s.counts().waiting + s.counts().running, 0);
        // Spawns that never end are abandoned, and no target is kept for ever.
        for _ in 0..2 {
            now += secs(700);
            let effects = s.handle(SchedulerEvent::Tick, now);
            shell.apply(effects);
        }
        prop_assert_eq!(&shell.spawning, &[]);
        prop_assert_eq!(s.targets().count(), 0);
    }
}
