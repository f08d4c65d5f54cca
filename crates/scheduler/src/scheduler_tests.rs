use std::collections::{HashMap, HashSet};

use input_validation::{Generation, WorkerId};
use jiff::Timestamp;
use proptest::prelude::*;
use worker_contract::{KvCacheUse, WorkerInfo, WorkerStatus};

use super::*;

const T0: Duration = Duration::ZERO;
const HAIKU: &str = "builtin:haiku";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn scheduler() -> Scheduler {
    Scheduler::new(Settings::new("local".parse().unwrap()))
}

fn want(model: &str) -> Want {
    Want {
        model: model.parse().unwrap(),
        backend: None,
        node: None,
    }
}

fn submit(id: &str) -> Event {
    Event::Submit(Submission {
        id: id.parse().unwrap(),
        want: want(HAIKU),
        deadline: secs(600),
    })
}

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

fn worker(name: &str, generation: u64, slots: u32) -> WorkerInfo {
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
    }
}

fn beat(worker: WorkerInfo, sequence: u64) -> Event {
    Event::Heartbeat(Box::new(WorkerHeartbeat {
        worker,
        timestamp: Timestamp::UNIX_EPOCH,
        sequence,
    }))
}

fn target() -> Target {
    scheduler().target_of(&want(HAIKU))
}

fn lease(name: &str, generation: u64) -> Lease {
    Lease {
        worker: name.parse().unwrap(),
        generation: Generation(generation),
    }
}

fn assigned(effects: &[Effect]) -> Vec<(String, String)> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Assign(id, a) => Some((id.to_string(), a.worker.id.to_string())),
            _ => None,
        })
        .collect()
}

fn failures(effects: &[Effect]) -> Vec<(String, Code)> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Fail(id, error) => Some((id.to_string(), error.code)),
            _ => None,
        })
        .collect()
}

fn spawns(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|e| matches!(e, Effect::Spawn(_)))
        .count()
}

fn broke() -> Lost {
    Lost::Link(Diagnostic::new(Code::WorkerLinkLost, "reset"))
}

fn pair(a: &str, b: &str) -> Vec<(String, String)> {
    vec![(a.to_owned(), b.to_owned())]
}

#[test]
fn many_requests_for_an_absent_model_spawn_one_worker_and_then_run_in_order() {
    let mut s = scheduler();
    let first = s.handle(submit("r1"), T0);
    assert_eq!(spawns(&first), 1);
    assert!(first.contains(&Effect::Waits(id("r1"), Wait::Loading)));
    for n in 2..5 {
        assert_eq!(spawns(&s.handle(submit(&format!("r{n}")), T0)), 0);
    }
    let waiting: Vec<String> = s.waiting_for(&target()).map(ToString::to_string).collect();
    assert_eq!(waiting, ["r1", "r2", "r3", "r4"]);
    assert!(
        s.handle(Event::Spawned(target(), lease("w", 1)), secs(1))
            .is_empty()
    );
    let effects = s.handle(beat(worker("w", 1, 2), 0), secs(1));
    assert_eq!(
        assigned(&effects),
        [pair("r1", "w"), pair("r2", "w")].concat()
    );
    let effects = s.handle(Event::Ended(id("r2"), Outcome::Completed), secs(2));
    assert_eq!(assigned(&effects), pair("r3", "w"));
    assert_eq!(s.counts().running, 2);
    assert_eq!(s.counts().waiting, 1);
}

#[test]
fn the_least_loaded_worker_is_chosen() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 4), 0), T0);
    s.handle(beat(worker("b", 1, 4), 0), T0);
    let chosen: Vec<_> = (0..6)
        .flat_map(|n| assigned(&s.handle(submit(&format!("r{n}")), T0)))
        .map(|(_, worker)| worker)
        .collect();
    assert_eq!(chosen, ["a", "b", "a", "b", "a", "b"]);
}

#[test]
fn a_failed_start_fails_what_waits_and_the_next_attempt_comes_after_the_pause() {
    let mut s = scheduler();
    s.handle(submit("r1"), T0);
    let error = Diagnostic::new(Code::WorkerStartFailed, "exit 1");
    let effects = s.handle(Event::SpawnFailed(target(), error), T0);
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerStartFailed)]
    );
    let effects = s.handle(submit("r2"), T0);
    assert_eq!(spawns(&effects), 0);
    assert!(matches!(
        effects[..],
        [Effect::Waits(_, Wait::Backoff { .. })]
    ));
    assert_eq!(
        spawns(&s.handle(Event::Tick, Duration::from_millis(900))),
        0
    );
    assert_eq!(spawns(&s.handle(Event::Tick, secs(1))), 1);
}

#[test]
fn an_unusable_model_is_told_at_once_every_time() {
    let mut s = scheduler();
    for n in 0..9 {
        let name = format!("r{n}");
        assert_eq!(spawns(&s.handle(submit(&name), T0)), 1);
        let error = Diagnostic::new(Code::UnsupportedQuantization, "IQ2");
        let effects = s.handle(Event::SpawnFailed(target(), error), T0);
        assert_eq!(failures(&effects), [(name, Code::UnsupportedQuantization)]);
    }
}

#[test]
fn a_target_is_forgotten_when_its_failures_are() {
    let mut s = scheduler();
    s.handle(submit("r1"), T0);
    for (code, kept) in [(Code::InvalidModelFile, 0), (Code::WorkerStartFailed, 300)] {
        s.handle(
            Event::SpawnFailed(target(), Diagnostic::new(code, "no")),
            T0,
        );
        for now in [0, 299, 300] {
            s.handle(Event::Tick, secs(now));
            assert_eq!(s.targets().count(), usize::from(now < kept), "{code}");
        }
    }
}

#[test]
fn five_failures_refuse_at_once_with_the_time_of_the_next_attempt() {
    let mut s = scheduler();
    let mut now = T0;
    for n in 0..5 {
        s.handle(submit(&format!("r{n}")), now);
        s.handle(Event::Tick, now);
        s.handle(
            Event::SpawnFailed(target(), Diagnostic::new(Code::WorkerStartFailed, "exit 1")),
            now,
        );
        now += secs(20);
    }
    let effects = s.handle(submit("late"), now);
    let [Effect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(
        error.details.as_ref().unwrap()["retry_after_seconds"],
        serde_json::json!(200)
    );
}

/// Crashes the worker under a request `times` times; tells whether a request is refused after it.
fn crash(s: &mut Scheduler, times: u64, generation: &mut u64, now: &mut Duration) -> bool {
    for _ in 0..times {
        *generation += 1;
        let name = format!("crash-{generation}");
        s.handle(beat(worker("a", *generation, 1), 0), *now);
        assert_eq!(assigned(&s.handle(submit(&name), *now)), pair(&name, "a"));
        let effects = s.handle(Event::Lost(id(&name), broke()), *now);
        if spawns(&effects) == 1 {
            let next = lease("a", *generation + 1);
            s.handle(Event::Spawned(target(), next), *now);
        }
        s.handle(Event::Ended(id(&name), Outcome::Cancelled), *now);
        *now += secs(10);
    }
    let name = format!("probe-{generation}");
    let effects = s.handle(submit(&name), *now);
    let refused = !failures(&effects).is_empty();
    if spawns(&effects) == 1 {
        let next = lease("a", *generation + 1);
        s.handle(Event::Spawned(target(), next), *now);
    }
    s.handle(Event::Ended(id(&name), Outcome::Cancelled), *now);
    refused
}

#[test]
fn an_answered_request_clears_the_crashes_before_it() {
    let (mut generation, mut now) = (0, T0);
    assert!(
        crash(&mut scheduler(), 5, &mut generation, &mut now),
        "five crashes without an answer refuse"
    );

    let (mut generation, mut now) = (0, T0);
    let mut s = scheduler();
    assert!(!crash(&mut s, 4, &mut generation, &mut now));
    generation += 1;
    s.handle(beat(worker("a", generation, 1), 0), now);
    assert_eq!(assigned(&s.handle(submit("good"), now)), pair("good", "a"));
    s.handle(Event::Ended(id("good"), Outcome::Completed), now);
    assert!(!crash(&mut s, 4, &mut generation, &mut now));
}

#[test]
fn a_lost_request_goes_to_another_worker_first_in_line_and_only_three_times() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 1), 0), T0);
    s.handle(beat(worker("b", 1, 1), 0), T0);
    assert_eq!(assigned(&s.handle(submit("r1"), T0)), pair("r1", "a"));
    assert_eq!(
        assigned(&s.handle(Event::Lost(id("r1"), broke()), T0)),
        pair("r1", "b")
    );
    // Nobody is left: a worker is asked for, after the pause of a second crash.
    assert_eq!(spawns(&s.handle(Event::Lost(id("r1"), broke()), T0)), 0);
    assert_eq!(spawns(&s.handle(Event::Tick, secs(1))), 1);
    let effects = s.handle(beat(worker("a", 2, 1), 0), T0);
    assert_eq!(assigned(&effects), pair("r1", "a"));
    let effects = s.handle(Event::Lost(id("r1"), broke()), T0);
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerLinkLost)]
    );
    assert_eq!(s.counts().failed, 1);
}

#[test]
fn a_request_that_lost_its_worker_tells_so_when_no_other_can_be_had() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 1), 0), T0);
    s.handle(submit("r1"), T0);
    assert_eq!(spawns(&s.handle(Event::Lost(id("r1"), broke()), T0)), 1);
    let no_hive = Diagnostic::new(Code::HiveUnreachable, "no hive");
    let effects = s.handle(Event::SpawnFailed(target(), no_hive), T0);
    let [Effect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::WorkerLinkLost);
    assert!(error.message.contains("no hive"), "{error}");
}

#[test]
fn a_worker_that_dies_before_its_spawn_is_told_is_replaced() {
    let mut s = scheduler();
    s.handle(submit("r1"), T0);
    let served = s.handle(beat(worker("w", 1, 1), 0), secs(1));
    assert_eq!(assigned(&served), pair("r1", "w"));
    assert_eq!(
        spawns(&s.handle(Event::Lost(id("r1"), broke()), secs(1))),
        0
    );
    let ended = Diagnostic::new(Code::WorkerStartFailed, "signal 9");
    let effects = s.handle(Event::SpawnFailed(target(), ended.clone()), secs(1));
    assert_eq!((failures(&effects), spawns(&effects)), (vec![], 1));
    // The next one never came so far.
    let effects = s.handle(Event::SpawnFailed(target(), ended), secs(1));
    assert_eq!(failures(&effects).len(), 1);
}

#[test]
fn a_fault_prefers_another_worker_but_the_faulty_one_keeps_its_other_work() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 2), 0), T0);
    s.handle(submit("r1"), T0);
    s.handle(beat(worker("b", 1, 1), 0), T0);
    let fault = Lost::Fault(Diagnostic::new(Code::Internal, "bug"));
    assert_eq!(
        assigned(&s.handle(Event::Lost(id("r1"), fault), T0)),
        pair("r1", "b")
    );
    assert_eq!(assigned(&s.handle(submit("r2"), T0)), pair("r2", "a"));
}

#[test]
fn a_worker_without_a_slot_is_no_failure_however_often() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 1), 0), T0);
    s.handle(submit("r1"), T0);
    let mut now = T0;
    for sequence in 1..10 {
        let refused = Lost::Refused(Diagnostic::new(Code::AllSlotsBusy, "busy"));
        let effects = s.handle(Event::Lost(id("r1"), refused), now);
        assert_eq!(assigned(&effects), []);
        assert_eq!(failures(&effects), []);
        now += secs(1);
        let effects = s.handle(beat(worker("a", 1, 1), sequence), now);
        assert_eq!(assigned(&effects), pair("r1", "a"));
        assert!(matches!(&effects[0], Effect::Assign(_, a) if a.attempt == 1));
    }
}

#[test]
fn a_full_queue_refuses_with_the_time_to_come_back() {
    let mut s = scheduler();
    for n in 0..256 {
        assert_eq!(failures(&s.handle(submit(&format!("r{n}")), T0)), []);
    }
    let effects = s.handle(submit("one-more"), T0);
    let [Effect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::QueueFull);
    assert!(
        error
            .details
            .as_ref()
            .unwrap()
            .contains_key("retry_after_seconds")
    );
}

#[test]
fn waiting_ends_at_the_deadline_by_cancel_and_by_abort() {
    let mut s = scheduler();
    for name in ["late", "cancelled", "aborted"] {
        let mut submission = Submission {
            id: id(name),
            want: want(HAIKU),
            deadline: secs(100),
        };
        if name == "late" {
            submission.deadline = secs(5);
        }
        s.handle(Event::Submit(submission), T0);
    }
    let effects = s.handle(Event::Tick, secs(5));
    assert_eq!(
        failures(&effects),
        [("late".to_owned(), Code::DeadlineExceeded)]
    );
    let gone = Diagnostic::new(Code::Cancelled, "asked");
    let effects = s.handle(Event::Cancel(id("cancelled"), gone), secs(5));
    assert_eq!(
        failures(&effects),
        [("cancelled".to_owned(), Code::Cancelled)]
    );
    s.handle(Event::Drain, secs(5));
    assert_eq!(
        failures(&s.handle(submit("new"), secs(5))),
        [("new".to_owned(), Code::Draining)]
    );
    let effects = s.handle(
        Event::Abort(Diagnostic::new(Code::Draining, "stop")),
        secs(6),
    );
    assert_eq!(failures(&effects), [("aborted".to_owned(), Code::Draining)]);
    assert_eq!(
        s.counts(),
        RequestCounts {
            failed: 3,
            cancelled: 1,
            ..RequestCounts::default()
        }
    );
}

#[test]
fn a_request_behind_one_that_waits_for_a_gpu_is_served_by_the_cpu() {
    let mut s = scheduler();
    s.handle(beat(worker("a", 1, 1), 0), T0);
    let mut gpu = want(HAIKU);
    gpu.backend = Some(Backend::Cuda);
    let effects = s.handle(
        Event::Submit(Submission {
            id: id("gpu"),
            want: gpu,
            deadline: secs(9),
        }),
        T0,
    );
    assert!(matches!(&effects[0], Effect::Spawn(t) if t.backend == Backend::Cuda));
    assert_eq!(assigned(&s.handle(submit("cpu"), T0)), pair("cpu", "a"));
}

#[test]
fn a_worker_that_is_never_heard_fails_its_start() {
    let mut s = scheduler();
    s.handle(submit("r1"), T0);
    s.handle(Event::Spawned(target(), lease("w", 1)), secs(1));
    assert_eq!(spawns(&s.handle(Event::Tick, secs(15))), 0);
    let effects = s.handle(Event::Tick, secs(16));
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerStartFailed)]
    );
}

#[test]
fn a_worker_that_was_stopped_before_its_spawn_was_reported_is_not_waited_for() {
    let mut s = scheduler();
    s.handle(submit("r1"), T0);
    s.handle(beat(worker("w", 1, 1), 0), T0);
    s.handle(Event::Ended(id("r1"), Outcome::Completed), T0);
    s.handle(Event::Fence("w".parse().unwrap(), Generation(2)), T0);
    s.handle(Event::Spawned(target(), lease("w", 1)), T0);
    assert_eq!(spawns(&s.handle(submit("r2"), T0)), 1);
}

#[test]
fn a_loading_worker_found_after_a_restart_is_waited_for() {
    let mut s = scheduler();
    let mut loading = worker("w", 4, 1);
    loading.status = WorkerStatus::Starting;
    s.handle(beat(loading, 0), T0);
    let effects = s.handle(submit("r1"), T0);
    assert_eq!(effects, [Effect::Waits(id("r1"), Wait::Loading)]);
    assert_eq!(
        assigned(&s.handle(beat(worker("w", 4, 1), 1), T0)),
        pair("r1", "w")
    );
}

#[derive(Debug, Clone)]
enum Op {
    Submit(u8),
    Beat {
        worker: u8,
        status: u8,
        restart: bool,
    },
    Settle {
        nth: usize,
        how: u8,
    },
    Cancel(usize),
    Spawned {
        ok: bool,
        code: u8,
    },
    Gone(u8),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u8..2).prop_map(Op::Submit),
        3 => (0u8..3, 0u8..5, prop::bool::weighted(0.2))
            .prop_map(|(worker, status, restart)| Op::Beat { worker, status, restart }),
        5 => (any::<usize>(), 0u8..6).prop_map(|(nth, how)| Op::Settle { nth, how }),
        1 => any::<usize>().prop_map(Op::Cancel),
        2 => (any::<bool>(), 0u8..3).prop_map(|(ok, code)| Op::Spawned { ok, code }),
        1 => (0u8..3).prop_map(Op::Gone),
        3 => (0u64..20_000).prop_map(Op::Wait),
    ]
}

/// The world around a scheduler: what was asked for and what became of it.
#[derive(Default)]
struct World {
    submitted: Vec<RequestId>,
    ended: HashMap<RequestId, u32>,
    running: Vec<(RequestId, Lease)>,
    stopping: HashSet<RequestId>,
    spawning: Vec<Target>,
    sequences: HashMap<WorkerId, (u64, u64)>,
}

impl World {
    fn end(&mut self, id: &RequestId) {
        *self.ended.entry(id.clone()).or_default() += 1;
        self.running.retain(|(running, _)| running != id);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Assign(id, assignment) => {
                    assert!(
                        self.running.iter().all(|(r, _)| *r != id),
                        "{id} runs twice"
                    );
                    assert!(!self.ended.contains_key(&id), "{id} runs after its end");
                    assert!((1..=3).contains(&assignment.attempt));
                    self.running.push((id, assignment.lease()));
                }
                Effect::Fail(id, _) => {
                    assert!(
                        self.running.iter().all(|(r, _)| *r != id),
                        "{id} fails while it runs"
                    );
                    self.end(&id);
                }
                Effect::Stop(id, _) => {
                    self.stopping.insert(id);
                }
                Effect::Spawn(target) => {
                    assert!(!self.spawning.contains(&target), "two spawns of {target:?}");
                    self.spawning.push(target);
                }
                Effect::Waits(..) | Effect::Forgotten(_) => {}
            }
        }
    }

    fn check(&self, s: &Scheduler, now: Duration) {
        for entry in s.registry().snapshot(&Filter::default(), now) {
            assert!(
                entry.active_requests <= entry.info.slots_total,
                "overbooked"
            );
            let held = self
                .running
                .iter()
                .filter(|(_, l)| l.worker == entry.info.id && l.generation == entry.info.generation)
                .count();
            assert!(entry.active_requests as usize <= held, "a slot is lost");
        }
        let counts = s.counts();
        assert_eq!(counts.running as usize, self.running.len());
        assert_eq!(
            counts.waiting + counts.running,
            (self.submitted.len() - self.ended.len()) as u64
        );
        assert!(
            self.ended.values().all(|n| *n == 1),
            "a request ended twice"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_request_ends_exactly_once_whatever_fails(ops in prop::collection::vec(op(), 1..250)) {
        let mut s = scheduler();
        let mut world = World::default();
        let mut now = T0;
        for op in ops {
            let effects = match op {
                Op::Submit(model) => {
                    let id = id(&format!("r{}", world.submitted.len()));
                    world.submitted.push(id.clone());
                    let model = if model == 0 { HAIKU } else { "mock:a=1" };
                    s.handle(Event::Submit(Submission {
                        id, want: want(model), deadline: now + secs(60),
                    }), now)
                }
                Op::Beat { worker: nth, status, restart } => {
                    let mut info = worker(&format!("w{nth}"), 1, 2);
                    let (generation, sequence) =
                        world.sequences.entry(info.id.clone()).or_insert((1, 0));
                    *generation += u64::from(restart);
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
                    s.handle(beat(info, sequence), now)
                }
                Op::Settle { nth, how } => {
                    let Some((id, _)) = (!world.running.is_empty())
                        .then(|| world.running[nth % world.running.len()].clone())
                    else {
                        continue;
                    };
                    let error = Diagnostic::new(Code::WorkerLinkLost, "x");
                    let lost = match how {
                        _ if world.stopping.contains(&id) => None,
                        0 => Some(Lost::Link(error)),
                        1 => Some(Lost::Fault(error)),
                        2 => Some(Lost::Refused(error)),
                        _ => None,
                    };
                    if let Some(lost) = lost {
                        world.running.retain(|(running, _)| *running != id);
                        s.handle(Event::Lost(id, lost), now)
                    } else {
                        world.end(&id);
                        s.handle(Event::Ended(id, Outcome::Completed), now)
                    }
                }
                Op::Cancel(nth) => {
                    let Some(id) = (!world.submitted.is_empty())
                        .then(|| world.submitted[nth % world.submitted.len()].clone())
                    else {
                        continue;
                    };
                    s.handle(Event::Cancel(id, Diagnostic::new(Code::Cancelled, "x")), now)
                }
                Op::Spawned { ok, code } => {
                    let Some(target) = world.spawning.pop() else { continue };
                    if ok {
                        s.handle(Event::Spawned(target, lease("w0", 1)), now)
                    } else {
                        let code = [Code::WorkerStartFailed, Code::InvalidModelFile, Code::HiveUnreachable]
                            [usize::from(code)];
                        s.handle(Event::SpawnFailed(target, Diagnostic::new(code, "x")), now)
                    }
                }
                Op::Gone(nth) => s.handle(Event::Gone(lease(&format!("w{nth}"), 1)), now),
                Op::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    s.handle(Event::Tick, now)
                }
            };
            world.apply(effects);
            world.check(&s, now);
        }
        // What runs ends, what waits meets its deadline: nothing is left.
        while let Some((id, _)) = world.running.first().cloned() {
            world.end(&id);
            let effects = s.handle(Event::Ended(id, Outcome::Failed), now);
            world.apply(effects);
        }
        now += secs(61);
        let effects = s.handle(Event::Tick, now);
        world.apply(effects);
        world.check(&s, now);
        prop_assert_eq!(world.ended.len(), world.submitted.len());
        prop_assert_eq!(s.counts().waiting + s.counts().running, 0);
        prop_assert!(s.requests.is_empty() && s.queues.is_empty());
        // Nor is anything remembered once the last failure is long past.
        while let Some(target) = world.spawning.pop() {
            s.handle(Event::SpawnFailed(target, Diagnostic::new(Code::InvalidModelFile, "x")), now);
        }
        for _ in 0..2 {
            now += secs(400);
            s.handle(Event::Tick, now);
        }
        prop_assert_eq!(s.targets().count(), 0);
    }
}
