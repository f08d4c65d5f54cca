//! Decisions by the policy of the user.

use std::sync::Arc;

use input_validation::Backend;
use queen_contract::{Decision, DecisionKind};
use scheduling_policy::Policy;

use super::*;

const GIB: u64 = 1 << 30;

fn use_policy(s: &mut Scheduler, script: &str) -> Vec<SchedulerEffect> {
    let policy = Arc::new(Policy::compile(script).unwrap());
    s.handle(SchedulerEvent::Policy(Some(policy)), T0)
}

fn why(s: &Scheduler, about: &str) -> Vec<Decision> {
    s.decisions(Some(about), 100, |at| Timestamp::UNIX_EPOCH + at)
}

/// A node that is up, with this free memory and, if so, the files of the model.
fn node(free_gib: u64, has_files: bool) -> NodeFacts {
    let model = (HAIKU.parse().unwrap(), 2 * GIB);
    NodeFacts {
        state: NodeState::Up,
        devices: vec![DeviceFacts {
            id: device_id(Backend::Cpu, 0),
            backend: Backend::Cpu,
            free_bytes: free_gib * GIB,
            has_worker: true,
        }],
        models: has_files.then_some(model).into_iter().collect(),
        yielded: std::collections::BTreeMap::new(),
    }
}

fn spawned_on(effects: &[SchedulerEffect]) -> Vec<String> {
    let spawns = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.node.to_string()),
        _ => None,
    });
    spawns.collect()
}

/// A scheduler with the workers a, b and c, which have 4 slots.
fn with_workers() -> Scheduler {
    let mut s = scheduler();
    for name in ["a", "b", "c"] {
        beat(&mut s, worker(name, 1, 4), 0, T0);
    }
    s
}

fn batch(name: &str) -> NewRequest {
    NewRequest {
        priority: Priority::Batch,
        ..new_request(name, HAIKU, secs(600))
    }
}

#[test]
fn a_script_prefers_and_refuses_workers_and_why_says_so() {
    let mut s = with_workers();
    use_policy(
        &mut s,
        "fn route(request, worker) {
            if worker.name == \"a\" { return \"a is mine\"; }
            if worker.name == \"c\" { 2.5 }
        }",
    );
    assert_eq!(assigned(&submit(&mut s, "r-1", T0)), pair("r-1", "c"));
    let route = &why(&s, "r-1")[0];
    assert_eq!(route.reason, "it comes first of 3 workers by the policy");
    let notes: Vec<_> = route
        .candidates
        .iter()
        .map(|c| (c.name.as_str(), c.chosen, c.note.as_str()))
        .collect();
    assert_eq!(
        notes,
        [
            (
                "c",
                true,
                "node local, 4 of 4 slots free; score of the policy: 2.5"
            ),
            ("b", false, "node local, 4 of 4 slots free"),
            (
                "a",
                false,
                "node local, 4 of 4 slots free; the policy refuses it: a is mine"
            ),
        ]
    );
    s.handle(SchedulerEvent::Policy(None), T0);
    assert_eq!(assigned(&submit(&mut s, "r-2", T0)), pair("r-2", "a"));
}

#[test]
fn a_score_does_not_bring_back_a_worker_that_failed_the_request() {
    let mut s = with_workers();
    use_policy(
        &mut s,
        "fn route(request, worker) { if worker.name == \"b\" { 100 } }",
    );
    assert_eq!(assigned(&submit(&mut s, "r-1", T0)), pair("r-1", "b"));
    let fault = AttemptFailure::Fault(Diagnostic::new(Code::Internal, "bug"));
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r-1"), fault), T0);
    assert_eq!(assigned(&effects), pair("r-1", "a"));
}

#[test]
fn a_request_waits_while_the_policy_refuses_all_workers_and_others_pass_it() {
    let mut s = with_workers();
    use_policy(
        &mut s,
        "fn route(request, worker) { if request.priority == \"batch\" { \"not now\" } }",
    );
    let effects = s.submit(batch("r-1"), T0).unwrap();
    assert_eq!(waits(&effects), [("r-1".to_owned(), WaitReason::Policy)]);
    let wait = &why(&s, "r-1")[0];
    assert_eq!(wait.kind, DecisionKind::Wait);
    assert_eq!(
        wait.reason,
        "the policy refuses all workers that could run it now"
    );
    assert_eq!(wait.candidates.len(), 3);
    assert!(
        wait.candidates[0]
            .note
            .ends_with("the policy refuses it: not now"),
        "{wait:?}"
    );
    assert_eq!(assigned(&submit(&mut s, "r-2", T0)), pair("r-2", "a"));
    // A policy that permits it is asked at once.
    let effects = use_policy(&mut s, "fn route(request, worker) { 1 }");
    assert_eq!(assigned(&effects), pair("r-1", "b"));
}

#[test]
fn an_interactive_request_behind_a_refused_one_of_the_same_kind_is_asked_for_itself() {
    let mut s = with_workers();
    use_policy(
        &mut s,
        "fn route(request, worker) { if request.prompt_bytes > 1000 { \"too long\" } }",
    );
    let long = NewRequest {
        prompt: PromptPrefixes::new(Vec::new(), 5000),
        ..new_request("r-1", HAIKU, secs(600))
    };
    assert_eq!(assigned(&s.submit(long, T0).unwrap()), []);
    assert_eq!(assigned(&submit(&mut s, "r-2", T0)), pair("r-2", "a"));
}

#[test]
fn a_script_that_fails_changes_nothing_and_is_reported_once() {
    let mut s = with_workers();
    use_policy(&mut s, "fn route(request, worker) { 1 / 0 }");
    let effects = submit(&mut s, "r-1", T0);
    assert_eq!(assigned(&effects), pair("r-1", "a"));
    let notices = |effects: &[SchedulerEffect]| {
        let notices = effects.iter().filter_map(|effect| match effect {
            SchedulerEffect::PolicyFailed { suspended, .. } => Some(*suspended),
            _ => None,
        });
        notices.collect::<Vec<_>>()
    };
    assert_eq!(notices(&effects), [false]);
    let decisions = why(&s, "r-1");
    assert_eq!(decisions[0].kind, DecisionKind::PolicyFailed);
    assert_eq!(
        decisions[0].reason,
        "the default decides: `route` failed for a: line 1, column 31: Division by zero: 1 / 0"
    );
    assert_eq!(decisions[1].reason, "it has the least load of 3 workers");
    // Not run any more after ten failures in a row.
    let later: Vec<bool> = (2..=11)
        .flat_map(|n| notices(&submit(&mut s, &format!("r-{n}"), T0)))
        .collect();
    assert_eq!(later, [true]);
    let state = s.policy_state();
    assert_eq!((state.failures, state.suspended), (10, true));
    use_policy(&mut s, "fn route(request, worker) { 1 / 0 }");
    assert_eq!(s.policy_state().failures, 0, "a new version is run again");
}

#[test]
fn a_script_that_never_ends_does_not_stop_the_queen() {
    let mut s = with_workers();
    use_policy(&mut s, "fn route(request, worker) { loop { } }");
    assert_eq!(assigned(&submit(&mut s, "r-1", T0)), pair("r-1", "a"));
    let (_, failure) = s.policy_state().last_failure.clone().unwrap();
    assert!(failure.message.contains("50000 operations"), "{failure}");
}

#[test]
fn a_script_decides_where_workers_start() {
    let nodes = [
        ("attic", node(4, true)),
        ("garage", node(16, false)),
        ("laptop", node(8, true)),
    ];
    let mut s = with_nodes(&nodes);
    assert_eq!(spawned_on(&submit(&mut s, "r-1", T0)), ["laptop"]);

    let mut s = with_nodes(&nodes);
    use_policy(
        &mut s,
        "fn place(request, place) {
            if place.node == \"laptop\" && request.model_bytes > gib(1) { return \"too big\"; }
            if place.node == \"garage\" { 1 }
        }",
    );
    assert_eq!(spawned_on(&submit(&mut s, "r-1", T0)), ["garage"]);
    let spawn = &why(&s, "r-1")[0];
    assert_eq!(
        spawn.reason,
        "no worker has the model; this place comes first by the policy"
    );
    let notes: Vec<_> = spawn
        .candidates
        .iter()
        .map(|c| (c.name.as_str(), c.note.as_str()))
        .collect();
    assert_eq!(
        notes,
        [
            (
                "garage cpu",
                "does not have the files, 16.0 GiB free; score of the policy: 1"
            ),
            ("attic cpu", "has the files, 4.0 GiB free"),
            ("laptop cpu", "the policy refuses it: too big"),
        ]
    );
}

#[test]
fn a_place_that_is_not_connected_is_not_preferred_by_a_score() {
    let mut connecting = node(64, true);
    connecting.state = NodeState::Starting;
    let mut s = with_nodes(&[("attic", connecting), ("local", node(8, true))]);
    use_policy(
        &mut s,
        "fn place(request, place) { if place.node == \"attic\" { 100 } }",
    );
    assert_eq!(spawned_on(&submit(&mut s, "r-1", T0)), ["local"]);
}

#[test]
fn a_request_without_a_permitted_place_ends_with_the_reasons() {
    let mut s = with_nodes(&[("attic", node(8, true)), ("local", node(8, true))]);
    use_policy(&mut s, "fn place(request, place) { `no ${place.node}` }");
    let effects = submit(&mut s, "r-1", T0);
    assert_eq!(
        failures(&effects),
        [("r-1".to_owned(), Code::PolicyRefused)]
    );
    let refused = why(&s, "r-1").pop().unwrap();
    assert_eq!(
        refused.reason,
        "the policy permits no place for a worker of builtin:haiku: attic cpu: the policy refuses \
         it: no attic; local cpu: the policy refuses it: no local"
    );
}

#[test]
fn a_batch_request_can_be_kept_from_stopping_other_models() {
    let short = Diagnostic::new(Code::InsufficientRam, "too little")
        .detail("need_bytes", 4 * GIB)
        .detail("available_bytes", GIB);
    let outcome = |priority| {
        let mut s = with_nodes(&[("local", node(1, true))]);
        let mut other = worker("other", 1, 4);
        other.model_id = "mock:other".parse().unwrap();
        other.memory_bytes = 8 * GIB;
        beat(&mut s, other, 0, T0);
        use_policy(
            &mut s,
            "fn place(request, place) {
                if request.priority == \"batch\" && place.needs_room { \"stops no other model\" }
            }",
        );
        let request = NewRequest {
            priority,
            ..batch("r-1")
        };
        let effects = s.submit(request, T0).unwrap();
        assert_eq!(spawns(&effects), 1);
        let refused = SchedulerEvent::SpawnFailed(target(), short.clone());
        let effects = s.handle(refused, secs(1));
        let stopped = effects
            .iter()
            .any(|effect| matches!(effect, SchedulerEffect::StopWorker(..)));
        (stopped, failures(&effects))
    };
    assert_eq!(outcome(Priority::Interactive), (true, vec![]));
    assert_eq!(
        outcome(Priority::Batch),
        (false, vec![("r-1".to_owned(), Code::PolicyRefused)])
    );
}

#[test]
fn workers_of_deployments_start_where_the_script_prefers() {
    let mut s = with_nodes(&[("attic", node(4, true)), ("local", node(8, true))]);
    use_policy(
        &mut s,
        "fn place(request, place) {
            if request.origin == \"deployment\" && place.device == \"CPU-0\" && place.node == \"attic\" { 1 }
        }",
    );
    let deployment = Deployment {
        min_workers: 1,
        max_workers: 1,
        nodes: std::collections::BTreeSet::new(),
        parts: std::collections::BTreeSet::new(),
        backend: None,
        keep_alive: secs(300),
        priority: 0,
    };
    let model: input_validation::ModelRef = HAIKU.parse().unwrap();
    let wanted: DeploymentMap = [(model.clone(), deployment)].into_iter().collect();
    let effects = s.handle(
        SchedulerEvent::Deployments(wanted, [model].into_iter().collect()),
        T0,
    );
    assert_eq!(spawned_on(&effects), ["attic"]);
}

#[test]
fn a_dry_run_shows_both_decisions_and_changes_nothing() {
    let mut s = with_workers();
    let script = "fn route(request, worker) { if worker.name == \"c\" { 1 } }";
    let policy = Arc::new(Policy::compile(script).unwrap());
    let before = format!("{s:?}");
    let run = |policy| {
        let time = |at| Timestamp::UNIX_EPOCH + at;
        let request = new_request("r-1", HAIKU, secs(600));
        let decisions = s.dry_run(request, policy, T0, time).unwrap();
        decisions[0].worker.clone().unwrap().to_string()
    };
    assert_eq!(run(None), "a");
    assert_eq!(run(Some(policy)), "c");
    assert_eq!(format!("{s:?}"), before);
    assert_eq!(assigned(&submit(&mut s, "r-1", T0)), pair("r-1", "a"));
}
