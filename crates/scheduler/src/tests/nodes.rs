//! On which node a worker is spawned.

use input_validation::Backend;

use super::*;

const GIB: u64 = 1 << 30;

fn device(backend: Backend, free_gib: u64) -> DeviceFacts {
    DeviceFacts {
        id: device_id(backend, 0),
        backend,
        free_bytes: free_gib * GIB,
        has_worker: true,
    }
}

/// A node that is up, with this free memory and these models.
fn up(free_gib: u64, models: &[&str]) -> NodeFacts {
    NodeFacts {
        state: NodeState::Up,
        devices: vec![device(Backend::Cpu, free_gib)],
        models: models
            .iter()
            .map(|model| (model.parse().unwrap(), 2 * GIB))
            .collect(),
        yielded: std::collections::BTreeMap::new(),
    }
}

fn with_gpu(mut facts: NodeFacts) -> NodeFacts {
    facts.devices.push(device(Backend::Cuda, 24));
    facts
}

fn down(facts: NodeFacts) -> NodeFacts {
    NodeFacts {
        state: NodeState::Down(unreachable()),
        ..facts
    }
}

fn starting(facts: NodeFacts) -> NodeFacts {
    NodeFacts {
        state: NodeState::Starting,
        ..facts
    }
}

fn unreachable() -> Diagnostic {
    Diagnostic::new(Code::SshUnreachable, "no route to attic")
}

fn request(name: &str, node: Option<&str>, backend: Option<Backend>) -> NewRequest {
    let mut request = new_request(name, HAIKU, secs(600));
    request.requirements.node = node.map(|node| node.parse().unwrap());
    request.requirements.backend = backend;
    request
}

fn spawned_on(effects: &[SchedulerEffect]) -> Vec<String> {
    let targets = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.node.to_string()),
        _ => None,
    });
    targets.collect()
}

fn place(nodes: &[(&str, NodeFacts)], request: NewRequest) -> Vec<SchedulerEffect> {
    with_nodes(nodes).submit(request, T0).unwrap()
}

fn error(effects: &[SchedulerEffect]) -> Diagnostic {
    let [SchedulerEffect::Fail(_, error)] = effects else {
        panic!("{effects:?}");
    };
    error.clone()
}

#[test]
fn the_node_with_the_files_is_chosen_then_the_one_with_the_most_free_memory() {
    for (attic, local, expected) in [
        (up(4, &[]), up(64, &[]), "local"),
        (up(64, &[]), up(4, &[]), "attic"),
        (up(4, &[HAIKU]), up(64, &[]), "attic"),
        (up(4, &["mock:a=1"]), up(64, &[]), "local"),
        (up(4, &[HAIKU]), up(64, &[HAIKU]), "local"),
        (down(up(64, &[HAIKU])), up(4, &[]), "local"),
        (starting(up(64, &[HAIKU])), up(4, &[]), "local"),
        (starting(up(64, &[])), down(up(4, &[])), "attic"),
    ] {
        let nodes = [("attic", attic), ("local", local)];
        let effects = place(&nodes, request("r", None, None));
        assert_eq!(spawned_on(&effects), [expected], "{nodes:?}");
    }
}

#[test]
fn a_loaded_model_is_used_wherever_the_files_are() {
    let mut s = with_nodes(&[("attic", up(64, &[HAIKU])), ("local", up(4, &[]))]);
    beat(&mut s, worker("w", 1, 1), 0, T0);
    let effects = submit(&mut s, "r", T0);
    assert_eq!(assigned(&effects), pair("r", "w"));
}

#[test]
fn a_named_node_is_used_and_its_error_is_that_of_the_request() {
    let nodes = [
        ("attic", down(up(64, &[HAIKU]))),
        ("local", up(64, &[HAIKU])),
        ("shed", up(1, &[])),
    ];
    let effects = place(&nodes, request("r", Some("shed"), None));
    assert_eq!(spawned_on(&effects), ["shed"]);
    let effects = place(&nodes, request("r", Some("attic"), None));
    assert_eq!(error(&effects), unreachable());
    assert_eq!(spawns(&effects), 0);
}

#[test]
fn a_gpu_request_is_only_placed_on_a_node_with_that_gpu() {
    let cuda = Some(Backend::Cuda);
    let nodes = [("attic", with_gpu(up(1, &[]))), ("local", up(64, &[HAIKU]))];
    let effects = place(&nodes, request("r", None, cuda));
    assert_eq!(spawned_on(&effects), ["attic"]);

    let nodes = [("attic", up(1, &[])), ("local", up(64, &[HAIKU]))];
    let refused = error(&place(&nodes, request("r", None, cuda)));
    assert_eq!(refused.code, Code::BackendUnavailable);
    assert_eq!(
        refused.message,
        "no node has a cuda device; available: attic: cpu; local: cpu"
    );
    let refused = error(&place(&nodes, request("r", Some("attic"), cuda)));
    assert_eq!(
        refused.message,
        "node attic has no cuda device; available: cpu"
    );

    let nodes = [
        ("attic", down(with_gpu(up(1, &[])))),
        ("local", up(64, &[HAIKU])),
    ];
    let refused = error(&place(&nodes, request("r", None, cuda)));
    assert_eq!(refused, unreachable(), "the GPU is on a node that is down");
}

fn gpu(free_gib: u64, has_worker: bool) -> DeviceFacts {
    DeviceFacts {
        has_worker,
        ..device(Backend::Cuda, free_gib)
    }
}

fn with(mut facts: NodeFacts, gpus: &[DeviceFacts]) -> NodeFacts {
    facts.devices.extend(gpus);
    facts
}

fn places(effects: &[SchedulerEffect]) -> Vec<(String, Backend)> {
    let targets = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some((target.node.to_string(), target.backend)),
        _ => None,
    });
    targets.collect()
}

#[test]
fn without_a_backend_a_gpu_with_a_worker_and_room_is_preferred() {
    use Backend::{Cpu, Cuda};
    for (attic, local, node, expected) in [
        (
            with(up(4, &[]), &[gpu(8, true)]),
            up(64, &[]),
            None,
            ("attic", Cuda),
        ),
        (
            with(up(4, &[]), &[gpu(8, false)]),
            up(64, &[]),
            None,
            ("local", Cpu),
        ),
        // The model has 2 GiB.
        (
            with(up(4, &[HAIKU]), &[gpu(1, true)]),
            up(64, &[]),
            None,
            ("attic", Cpu),
        ),
        (
            with(up(4, &[HAIKU]), &[gpu(2, true)]),
            up(64, &[]),
            None,
            ("attic", Cuda),
        ),
        (
            with(up(4, &[]), &[gpu(1, true)]),
            up(64, &[HAIKU]),
            None,
            ("local", Cpu),
        ),
        (
            with(up(4, &[]), &[gpu(8, true)]),
            up(64, &[HAIKU]),
            None,
            ("local", Cpu),
        ),
        // The GPU that would be used decides, not the sum or the first.
        (
            with(up(4, &[]), &[gpu(3, true), gpu(20, true)]),
            with(up(4, &[]), &[gpu(16, true), gpu(16, true)]),
            None,
            ("attic", Cuda),
        ),
        (
            with(up(4, &[]), &[gpu(20, true)]),
            with(up(4, &[]), &[gpu(8, true)]),
            Some("local"),
            ("local", Cuda),
        ),
        (
            down(with(up(4, &[]), &[gpu(20, true)])),
            up(4, &[]),
            None,
            ("local", Cpu),
        ),
    ] {
        let nodes = [("attic", attic), ("local", local)];
        let effects = place(&nodes, request("r", node, None));
        let expected = (expected.0.to_owned(), expected.1);
        assert_eq!(places(&effects), [expected], "{nodes:?}");
    }
}

#[test]
fn a_gpu_that_nobody_required_is_replaced_by_the_cpu_and_another_never() {
    let nodes = [("attic", with(up(4, &[]), &[gpu(8, true)]))];
    let full = || Diagnostic::new(Code::InsufficientVram, "no memory");
    let on = |backend| SpawnTarget {
        node: "attic".parse().unwrap(),
        backend,
        ..target()
    };
    for node in [None, Some("attic")] {
        let mut s = with_nodes(&nodes);
        s.submit(request("r", node, None), T0).unwrap();
        let failed = SchedulerEvent::SpawnFailed(on(Backend::Cuda), full());
        let effects = s.handle(failed, T0);
        assert_eq!(places(&effects), [("attic".to_owned(), Backend::Cpu)]);
        let failed = SchedulerEvent::SpawnFailed(on(Backend::Cpu), full());
        assert_eq!(error(&s.handle(failed, T0)), full());

        let mut s = with_nodes(&nodes);
        s.submit(request("r", node, Some(Backend::Cuda)), T0)
            .unwrap();
        let failed = SchedulerEvent::SpawnFailed(on(Backend::Cuda), full());
        assert_eq!(error(&s.handle(failed, T0)), full());
    }
}

#[test]
fn a_request_moves_to_the_next_node_if_no_worker_can_be_spawned() {
    let mut s = with_nodes(&[("attic", up(64, &[HAIKU])), ("local", up(4, &[]))]);
    let effects = submit(&mut s, "r", T0);
    assert_eq!(spawned_on(&effects), ["attic"]);
    let target = |node: &str| SpawnTarget {
        node: node.parse().unwrap(),
        ..target()
    };
    let failed = SchedulerEvent::SpawnFailed(target("attic"), unreachable());
    let effects = s.handle(failed, T0);
    assert_eq!(spawned_on(&effects), ["local"]);
    assert_eq!(failures(&effects), []);

    let other = Diagnostic::new(Code::WorkerStartFailed, "exit 1");
    let effects = s.handle(SchedulerEvent::SpawnFailed(target("local"), other), T0);
    let failure = error(&effects);
    assert_eq!(failure.code, Code::SshUnreachable);
    assert_eq!(
        failure.message,
        "no route to attic; 2 nodes were tried, and the last one failed: exit 1"
    );
}

#[test]
fn a_request_that_names_a_node_or_an_invalid_model_does_not_move() {
    let nodes = [("attic", up(64, &[HAIKU])), ("local", up(4, &[]))];
    let attic = SpawnTarget {
        node: "attic".parse().unwrap(),
        ..target()
    };
    let mut s = with_nodes(&nodes);
    s.submit(request("r", Some("attic"), None), T0).unwrap();
    let failed = SchedulerEvent::SpawnFailed(attic.clone(), unreachable());
    assert_eq!(error(&s.handle(failed, T0)), unreachable());

    let mut s = with_nodes(&nodes);
    submit(&mut s, "r", T0);
    let damaged = Diagnostic::new(Code::InvalidModelFile, "damaged");
    let failed = SchedulerEvent::SpawnFailed(attic, damaged.clone());
    assert_eq!(error(&s.handle(failed, T0)), damaged);
}

#[test]
fn a_node_that_goes_down_or_is_removed_during_a_spawn_gives_its_requests_away() {
    let up_nodes = [("attic", up(64, &[HAIKU])), ("local", up(4, &[]))];
    for after in [
        &[("attic", down(up(64, &[HAIKU]))), ("local", up(4, &[]))][..],
        &[("local", up(4, &[]))],
    ] {
        let mut s = with_nodes(&up_nodes);
        submit(&mut s, "any", T0);
        s.submit(request("named", Some("attic"), None), T0).unwrap();
        let effects = set_nodes(&mut s, after, T0);
        let abandoned = effects
            .iter()
            .filter(|effect| matches!(effect, SchedulerEffect::AbandonSpawn(_)));
        assert_eq!(abandoned.count(), 1);
        assert_eq!(spawned_on(&effects), ["local"]);
        let failed = failures(&effects);
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].0, "named");
    }
}

#[test]
fn memory_that_a_starting_worker_takes_does_not_cause_a_second_spawn() {
    let mut s = with_nodes(&[("attic", up(64, &[])), ("local", up(32, &[]))]);
    assert_eq!(spawned_on(&submit(&mut s, "r1", T0)), ["attic"]);
    let effects = set_nodes(&mut s, &[("attic", up(8, &[])), ("local", up(32, &[]))], T0);
    assert_eq!(spawns(&effects), 0);
    assert_eq!(spawns(&submit(&mut s, "r2", T0)), 0);
    let waiting: Vec<String> = s
        .waiting_for(&SpawnTarget {
            node: "attic".parse().unwrap(),
            ..target()
        })
        .map(ToString::to_string)
        .collect();
    assert_eq!(waiting, ["r1", "r2"]);
}

#[test]
fn a_pause_after_failures_belongs_to_the_node_where_they_happened() {
    let nodes = [("attic", up(64, &[])), ("local", up(4, &[]))];
    let mut s = with_nodes(&nodes);
    submit(&mut s, "r1", T0);
    let attic = SpawnTarget {
        node: "attic".parse().unwrap(),
        ..target()
    };
    let exit = Diagnostic::new(Code::WorkerStartFailed, "exit 1");
    let effects = s.handle(SchedulerEvent::SpawnFailed(attic, exit.clone()), T0);
    assert_eq!(spawned_on(&effects), ["local"]);
    s.handle(SchedulerEvent::SpawnFailed(target(), exit), T0);
    // Both pause for a second now; afterwards the first choice is the first again.
    assert_eq!(spawns(&submit(&mut s, "r2", T0)), 0);
    assert_eq!(
        spawned_on(&s.handle(SchedulerEvent::Tick, secs(1))),
        ["attic"]
    );
}

#[test]
fn without_nodes_the_error_says_how_to_add_one() {
    let mut s = Scheduler::new(SchedulerSettings::default());
    let refused = error(&submit(&mut s, "r", T0));
    assert_eq!(refused.code, Code::NodeNotFound);
    assert!(refused.hint.unwrap().contains("rbee-keeper node add"));
}
