//! Requests, deployments and workers on nodes that sleep.

use std::collections::{BTreeMap, BTreeSet};

use input_validation::{Backend, ModelRef};

use super::*;

const GIB: u64 = 1 << 30;

fn node(state: NodeState, has_files: bool) -> NodeFacts {
    let models = has_files.then(|| (HAIKU.parse().unwrap(), GIB));
    NodeFacts {
        state,
        devices: vec![DeviceFacts {
            id: device_id(Backend::Cpu, 0),
            backend: Backend::Cpu,
            free_bytes: 64 * GIB,
            has_worker: true,
        }],
        models: models.into_iter().collect(),
        yielded: BTreeMap::new(),
    }
}

fn sleeping(for_requests: bool, for_deployments: bool) -> NodeState {
    NodeState::Asleep(Sleeping {
        leaves: false,
        for_requests,
        for_deployments,
        reason: Diagnostic::new(Code::NodeAsleep, "node attic is asleep"),
    })
}

fn leaving() -> NodeState {
    NodeState::Asleep(Sleeping {
        leaves: true,
        for_requests: true,
        for_deployments: false,
        reason: Diagnostic::new(Code::NodeAsleep, "node attic is asleep"),
    })
}

fn spawned_on(effects: &[SchedulerEffect]) -> Vec<String> {
    let nodes = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.node.to_string()),
        _ => None,
    });
    nodes.collect()
}

fn stopped(effects: &[SchedulerEffect]) -> Vec<(String, StopCause)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::StopWorker(spawn, cause) => Some((spawn.worker.to_string(), *cause)),
        _ => None,
    });
    stops.collect()
}

fn on(name: &str, node: &str) -> WorkerInfo {
    WorkerInfo {
        hive_id: node.parse().unwrap(),
        ..worker(name, 1, 2)
    }
}

fn deploy(s: &mut Scheduler, min_workers: u32, nodes: &[&str], now: Duration) -> Vec<String> {
    let model: ModelRef = HAIKU.parse().unwrap();
    let deployment = Deployment {
        min_workers,
        max_workers: min_workers.max(1),
        nodes: nodes.iter().map(|node| node.parse().unwrap()).collect(),
        parts: BTreeSet::new(),
        backend: None,
        keep_alive: secs(60),
        priority: 0,
    };
    let wanted = BTreeMap::from([(model.clone(), deployment)]);
    let effects = s.handle(
        SchedulerEvent::Deployments(wanted, BTreeSet::from([model])),
        now,
    );
    spawned_on(&effects)
}

#[test]
fn an_awake_node_is_preferred_unless_only_sleeping_ones_have_the_files() {
    let asleep = |has_files| ("attic", node(sleeping(true, true), has_files));
    let awake = |has_files| ("local", node(NodeState::Up, has_files));
    for (attic, local, expected) in [
        (true, true, "local"),
        (false, false, "local"),
        (false, true, "local"),
        (true, false, "attic"),
    ] {
        let mut s = with_nodes(&[asleep(attic), awake(local)]);
        let effects = submit(&mut s, "r", T0);
        assert_eq!(spawned_on(&effects), [expected], "{attic} {local}");
        let mut s = with_nodes(&[asleep(attic), awake(local)]);
        assert_eq!(deploy(&mut s, 1, &[], T0), [expected], "{attic} {local}");
    }
}

#[test]
fn a_request_wakes_the_node_waits_for_it_and_says_so() {
    let mut s = with_nodes(&[("attic", node(sleeping(true, false), true))]);
    let effects = submit(&mut s, "r", T0);
    assert_eq!(spawned_on(&effects), ["attic"]);
    assert_eq!(waits(&effects), [("r".to_owned(), WaitReason::Waking)]);
    let time = |_| Timestamp::UNIX_EPOCH;
    let decisions = s.decisions(Some("r"), 9, time);
    let notes: Vec<&str> = decisions[0]
        .candidates
        .iter()
        .map(|c| c.note.as_str())
        .collect();
    assert!(notes[0].contains("asleep and has to be woken"), "{notes:?}");
    assert!(
        decisions[1].reason.contains("is woken for it"),
        "{decisions:?}"
    );
    // A second one waits for the same node.
    let effects = submit(&mut s, "r2", secs(1));
    assert_eq!(spawns(&effects), 0);
    assert_eq!(waits(&effects), [("r2".to_owned(), WaitReason::Waking)]);
    let effects = set_nodes(&mut s, &[("attic", node(NodeState::Up, true))], secs(20));
    let loading = |id: &str| (id.to_owned(), WaitReason::Loading);
    assert_eq!(waits(&effects), [loading("r"), loading("r2")]);
    assert_eq!(spawns(&effects), 0, "the spawn goes on");
}

#[test]
fn the_time_to_wake_a_node_is_not_part_of_the_time_to_load_a_model() {
    let mut s = with_nodes(&[("attic", node(sleeping(true, false), true))]);
    submit(&mut s, "r", T0);
    set_nodes(&mut s, &[("attic", node(NodeState::Up, true))], secs(100));
    let at_attic = SpawnTarget {
        node: "attic".parse().unwrap(),
        ..target()
    };
    s.handle(
        SchedulerEvent::Spawned(at_attic, spawn_id("w", 1)),
        secs(103),
    );
    let model: ModelRef = HAIKU.parse().unwrap();
    assert_eq!(s.residency.load_time(&model), Some(secs(3)));
}

#[test]
fn a_node_that_is_not_woken_is_named_in_the_refusal() {
    let mut s = with_nodes(&[("attic", node(sleeping(false, false), true))]);
    let effects = submit(&mut s, "r", T0);
    assert_eq!(failures(&effects), [("r".to_owned(), Code::NodeAsleep)]);
    let mut request = new_request("named", HAIKU, secs(600));
    request.requirements.node = Some("attic".parse().unwrap());
    let effects = s.submit(request, T0).unwrap();
    assert_eq!(failures(&effects), [("named".to_owned(), Code::NodeAsleep)]);
}

#[test]
fn a_node_that_was_not_woken_in_time_refuses_the_requests_that_waited() {
    let mut s = with_nodes(&[("attic", node(sleeping(true, false), true))]);
    submit(&mut s, "r", T0);
    let at_attic = SpawnTarget {
        node: "attic".parse().unwrap(),
        ..target()
    };
    let error = Diagnostic::new(Code::WakeFailed, "node attic did not wake up");
    let down = NodeState::Down(error.clone());
    let mut effects = set_nodes(&mut s, &[("attic", node(down, true))], secs(120));
    effects.extend(s.handle(SchedulerEvent::SpawnFailed(at_attic, error), secs(120)));
    assert_eq!(failures(&effects), [("r".to_owned(), Code::WakeFailed)]);
}

#[test]
fn the_workers_of_a_node_that_is_put_to_sleep_are_stopped_once_and_get_no_request() {
    let up = [
        ("attic", node(NodeState::Up, true)),
        ("local", node(NodeState::Up, true)),
    ];
    let mut s = with_nodes(&up);
    beat(&mut s, on("attic-0", "attic"), 0, T0);
    beat(&mut s, on("local-0", "local"), 0, T0);
    let leaves = [
        ("attic", node(leaving(), true)),
        ("local", node(NodeState::Up, true)),
    ];
    let effects = set_nodes(&mut s, &leaves, secs(1));
    assert_eq!(
        stopped(&effects),
        [("attic-0".to_owned(), StopCause::Sleep)]
    );
    assert_eq!(stopped(&s.handle(SchedulerEvent::Tick, secs(2))), []);
    for number in 0..2 {
        let effects = submit(&mut s, &format!("r{number}"), secs(2));
        assert_eq!(assigned(&effects)[0].1, "local-0");
    }
    let time = |_| Timestamp::UNIX_EPOCH;
    let why = s.decisions(Some("attic-0"), 9, time);
    assert!(
        why.last().unwrap().reason.contains("put to sleep"),
        "{why:?}"
    );
    // The workers of one that is lost are not touched: they may come back.
    let lost = [("attic", node(sleeping(true, true), true))];
    let mut s = with_nodes(&[("attic", node(NodeState::Up, true))]);
    beat(&mut s, on("attic-0", "attic"), 0, T0);
    assert_eq!(stopped(&set_nodes(&mut s, &lost, secs(1))), []);
}

#[test]
fn a_deployment_moves_to_an_awake_node_or_waits_and_wakes_only_what_it_may() {
    let mut s = with_nodes(&[("attic", node(sleeping(true, false), true))]);
    assert_eq!(deploy(&mut s, 1, &["attic"], T0), [""; 0]);
    let (_, short) = s.shortfalls().next().unwrap();
    assert!(short.error.message.contains("it is not woken"), "{short:?}");
    let wakes = [("attic", node(sleeping(true, true), true))];
    let effects = set_nodes(&mut s, &wakes, secs(1));
    let effects = [effects, s.handle(SchedulerEvent::Tick, secs(1))].concat();
    assert_eq!(spawned_on(&effects), ["attic"]);
}

#[test]
fn a_node_is_in_use_while_it_has_something_to_do_and_not_for_idle_workers() {
    let up = [
        ("attic", node(NodeState::Up, true)),
        ("local", node(NodeState::Up, false)),
    ];
    let used = |s: &Scheduler, now| -> Vec<String> {
        let nodes = s.nodes_in_use(now).into_iter();
        nodes.map(|node| node.to_string()).collect()
    };
    let mut s = with_nodes(&up);
    assert_eq!(used(&s, T0), [""; 0]);
    submit(&mut s, "r", T0);
    assert_eq!(used(&s, T0), ["attic"], "a worker is being spawned");
    let at_attic = SpawnTarget {
        node: "attic".parse().unwrap(),
        ..target()
    };
    beat(&mut s, on("w", "attic"), 0, secs(1));
    s.handle(SchedulerEvent::Spawned(at_attic, spawn_id("w", 1)), secs(1));
    assert_eq!(used(&s, secs(1)), ["attic"], "the request runs");
    s.handle(
        SchedulerEvent::Finished(id("r"), RequestOutcome::Completed),
        secs(2),
    );
    assert_eq!(used(&s, secs(2)), [""; 0], "the worker is idle");
    let mut busy = on("w", "attic");
    busy.slots_free = 1;
    beat(&mut s, on("w", "attic"), 1, secs(3));
    beat(&mut s, busy, 2, secs(3));
    assert_eq!(
        used(&s, secs(3)),
        ["attic"],
        "a client uses it without the queen"
    );
    beat(&mut s, on("w", "attic"), 3, secs(4));
    assert_eq!(used(&s, secs(4)), [""; 0]);
    deploy(&mut s, 1, &[], secs(5));
    assert_eq!(used(&s, secs(5)), ["attic"], "a deployment keeps it");
    deploy(&mut s, 0, &[], secs(6));
    assert_eq!(used(&s, secs(6)), [""; 0], "it may have none");
}
