//! Tests of the deployments: the workers that are started and stopped for them.

use std::collections::BTreeMap;

use input_validation::{Backend, NodeName};
use worker_contract::{WorkerInfo, WorkerStatus};

use super::*;

const GIB: u64 = 1 << 30;

fn deployment(min_workers: u32, max_workers: u32) -> Deployment {
    Deployment {
        min_workers,
        max_workers,
        nodes: std::collections::BTreeSet::new(),
        parts: std::collections::BTreeSet::new(),
        backend: None,
        keep_alive: secs(300),
        priority: 0,
    }
}

fn devices(backends: &[Backend]) -> NodeFacts {
    let mut counts: BTreeMap<Backend, u16> = BTreeMap::new();
    let devices = backends.iter().map(|&backend| {
        let count = counts.entry(backend).or_default();
        let id = device_id(backend, *count);
        *count += 1;
        DeviceFacts {
            id,
            backend,
            free_bytes: 8 * GIB,
            has_worker: true,
        }
    });
    NodeFacts {
        state: NodeState::Up,
        devices: devices.collect(),
        models: BTreeMap::from([(HAIKU.parse().unwrap(), GIB)]),
        yielded: std::collections::BTreeMap::new(),
    }
}

fn deploy(
    s: &mut Scheduler,
    deployments: &[(&str, Deployment)],
    now: Duration,
) -> Vec<SchedulerEffect> {
    let deployments = deployments.iter();
    let deployments = deployments.map(|(model, wanted)| (model.parse().unwrap(), wanted.clone()));
    let wanted: DeploymentMap = deployments.collect();
    let renewed = wanted.keys().cloned().collect();
    s.handle(SchedulerEvent::Deployments(wanted, renewed), now)
}

fn spawned(effects: &[SchedulerEffect]) -> Vec<SpawnTarget> {
    let spawns = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.clone()),
        _ => None,
    });
    spawns.collect()
}

fn stopped(effects: &[SchedulerEffect]) -> Vec<(String, StopCause)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::StopWorker(spawn, cause) => Some((spawn.worker.to_string(), *cause)),
        _ => None,
    });
    stops.collect()
}

fn on(name: &str, node: &str, device: &str) -> WorkerInfo {
    WorkerInfo {
        hive_id: node.parse().unwrap(),
        device: device.parse().unwrap(),
        ..worker(name, 1, 1)
    }
}

/// Completes the spawns: the workers are named after their nodes and devices.
fn complete(s: &mut Scheduler, effects: &[SchedulerEffect], now: Duration) -> Vec<SpawnTarget> {
    let targets = spawned(effects);
    for target in &targets {
        let device = target.device.unwrap_or(device_id(target.backend, 0));
        let name = format!("{}-{device}", target.node);
        let event = SchedulerEvent::Spawned(target.clone(), spawn_id(&name, 1));
        s.handle(event, now);
        beat(
            s,
            on(&name, target.node.as_str(), &device.to_string()),
            0,
            now,
        );
    }
    targets
}

fn seats(targets: &[SpawnTarget]) -> Vec<String> {
    let seats = targets.iter().map(|target| match target.device {
        Some(device) => format!("{} {device}", target.node),
        None => format!("{} {}", target.node, target.backend),
    });
    seats.collect()
}

fn tick(s: &mut Scheduler, now: Duration) -> Vec<SchedulerEffect> {
    s.handle(SchedulerEvent::Tick, now)
}

#[test]
fn a_deployment_starts_its_workers_without_a_request() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    assert_eq!(seats(&complete(&mut s, &effects, secs(1))), ["local cpu"]);
    assert_eq!(tick(&mut s, secs(2)), []);
    assert_eq!(s.shortfalls().count(), 0);
}

#[test]
fn each_device_has_one_worker_of_a_deployment() {
    use Backend::{Cpu, Cuda};
    let nodes = [
        ("attic", devices(&[Cpu, Cuda, Cuda])),
        ("local", devices(&[Cpu])),
    ];
    let mut s = with_nodes(&nodes);
    let effects = deploy(&mut s, &[(HAIKU, deployment(3, 3))], T0);
    let targets = complete(&mut s, &effects, T0);
    assert_eq!(
        seats(&targets),
        ["attic GPU-0", "attic GPU-1", "attic cpu"],
        "GPUs first"
    );
    let effects = deploy(&mut s, &[(HAIKU, deployment(5, 5))], secs(1));
    assert_eq!(seats(&complete(&mut s, &effects, secs(1))), ["local cpu"]);
    let (_, short) = s.shortfalls().next().unwrap();
    assert_eq!((short.wanted, short.present), (5, 4));
    let message = &short.error.message;
    assert!(
        message.contains("local cpu: its device has a worker"),
        "{message}"
    );
}

#[test]
fn a_split_model_has_a_worker_on_its_own_node_only_and_none_without_all_its_nodes() {
    let up = || devices(&[Backend::Cpu]);
    let split = || Deployment {
        nodes: ["attic".parse().unwrap()].into(),
        parts: ["desk".parse().unwrap()].into(),
        ..deployment(1, 1)
    };
    let mut s = with_nodes(&[("attic", up()), ("desk", up()), ("local", up())]);
    let effects = deploy(&mut s, &[(HAIKU, split())], T0);
    assert_eq!(seats(&spawned(&effects)), ["attic cpu"]);
    let decisions = s.decisions(Some(HAIKU), 9, |_| jiff::Timestamp::UNIX_EPOCH);
    let notes: Vec<(&str, &str)> = decisions[0]
        .candidates
        .iter()
        .map(|place| (place.name.as_str(), place.note.as_str()))
        .collect();
    assert!(
        notes.contains(&("local cpu", "the deployment names other nodes")),
        "{notes:?}"
    );
    let has_part = "it computes a part of the model for the worker, which runs on another node";
    assert!(notes.contains(&("desk cpu", has_part)), "{notes:?}");

    let mut s = with_nodes(&[("attic", up()), ("local", up())]);
    assert_eq!(spawned(&deploy(&mut s, &[(HAIKU, split())], T0)), []);
    let (_, short) = s.shortfalls().next().unwrap();
    let message = &short.error.message;
    assert!(
        message.contains("names the node desk, which was removed"),
        "{message}"
    );
    let effects = submit(&mut s, "r", secs(1));
    let refused = failures(&effects);
    assert_eq!(refused, [("r".to_owned(), Code::NodeNotFound)]);
    // It is added again.
    set_nodes(&mut s, &[("attic", up()), ("desk", up())], secs(2));
    assert_eq!(seats(&spawned(&tick(&mut s, secs(3)))), ["attic cpu"]);
}

#[test]
fn only_a_deployment_without_any_of_its_nodes_says_that_they_were_removed() {
    let on_two = || Deployment {
        nodes: ["attic".parse().unwrap(), "desk".parse().unwrap()].into(),
        ..deployment(1, 1)
    };
    let mut s = with_nodes(&[("desk", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, on_two())], T0);
    assert_eq!(seats(&spawned(&effects)), ["desk cpu"]);
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    assert_eq!(spawned(&deploy(&mut s, &[(HAIKU, on_two())], T0)), []);
    let (_, short) = s.shortfalls().next().unwrap();
    let message = &short.error.message;
    assert!(
        message.contains("names the nodes attic, desk, which were removed"),
        "{message}"
    );
}

#[test]
fn a_worker_that_is_lost_is_replaced_at_another_node() {
    let down = NodeFacts {
        state: NodeState::Down(Diagnostic::new(Code::SshUnreachable, "no route")),
        ..devices(&[Backend::Cpu])
    };
    let up = || devices(&[Backend::Cpu]);
    let mut s = with_nodes(&[("attic", up()), ("local", up())]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    assert_eq!(seats(&complete(&mut s, &effects, T0)), ["attic cpu"]);
    set_nodes(&mut s, &[("attic", down), ("local", up())], secs(1));
    let effects = tick(&mut s, secs(2));
    assert_eq!(seats(&complete(&mut s, &effects, secs(2))), ["local cpu"]);
    // Its worker was there all the time.
    let effects = set_nodes(&mut s, &[("attic", up()), ("local", up())], secs(3));
    assert_eq!(stopped(&effects), []);
    let effects = tick(&mut s, secs(4));
    assert_eq!(stopped(&effects).len(), 1);
    assert_eq!(stopped(&effects)[0].1, StopCause::Surplus);
}

#[test]
fn a_worker_whose_process_has_exited_is_replaced_at_once_and_later_ones_after_a_pause() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let mut effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    let mut now = secs(1);
    // One failure is no reason to wait; after each further one, the pause is twice as long.
    for pause in [0, 1, 2] {
        complete(&mut s, &effects, now);
        let spawn = spawn_id("local-CPU-0", 1);
        let late = tick(&mut s, now + secs(7));
        assert_eq!(late, [SchedulerEffect::CheckProcess(spawn.clone())]);
        now += secs(8);
        s.handle(SchedulerEvent::Exited(spawn), now);
        if pause > 0 {
            let before = now + Duration::from_millis(pause * 1000 - 1);
            assert_eq!(spawned(&tick(&mut s, before)), [], "{pause} s");
        }
        now += secs(pause);
        effects = tick(&mut s, now);
        assert_eq!(spawned(&effects).len(), 1, "{pause} s");
    }
}

/// Where a deployment of one worker starts it, of two nodes with one device each.
fn seat_of_two(attic: NodeFacts, local: NodeFacts) -> Vec<String> {
    let mut s = with_nodes(&[("attic", attic), ("local", local)]);
    seats(&spawned(&deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0)))
}

#[test]
fn the_node_with_the_files_is_chosen_then_a_gpu_then_the_most_free_memory() {
    use Backend::{Cpu, Cuda};
    let with = |backend, free_bytes| {
        let mut facts = devices(&[backend]);
        facts.devices[0].free_bytes = free_bytes;
        facts
    };
    let without_files = NodeFacts {
        models: BTreeMap::new(),
        ..with(Cuda, 64 * GIB)
    };
    let (large, small) = (with(Cuda, 16 * GIB), with(Cuda, 8 * GIB));
    let cpu = with(Cpu, 64 * GIB);
    assert_eq!(seat_of_two(without_files, cpu.clone()), ["local cpu"]);
    assert_eq!(seat_of_two(cpu, small.clone()), ["local cuda"]);
    assert_eq!(seat_of_two(small, large), ["local cuda"]);
}

#[test]
fn a_deployment_stays_on_its_nodes_and_devices() {
    use Backend::{Cpu, Cuda};
    let nodes = [("attic", devices(&[Cpu, Cuda])), ("local", devices(&[Cpu]))];
    let mut s = with_nodes(&nodes);
    let local: NodeName = "local".parse().unwrap();
    let on_local = Deployment {
        nodes: [local].into(),
        ..deployment(2, 2)
    };
    let effects = deploy(&mut s, &[(HAIKU, on_local.clone())], T0);
    assert_eq!(seats(&spawned(&effects)), ["local cpu"]);
    let on_gpu = Deployment {
        backend: Some(Cuda),
        ..deployment(2, 2)
    };
    let mut s = with_nodes(&nodes);
    let effects = deploy(&mut s, &[(HAIKU, on_gpu)], T0);
    assert_eq!(seats(&spawned(&effects)), ["attic cuda"]);
    // Requests stay there as well, unless they name a node.
    let mut s = with_nodes(&nodes);
    deploy(
        &mut s,
        &[(
            HAIKU,
            Deployment {
                min_workers: 0,
                ..on_local
            },
        )],
        T0,
    );
    let effects = submit(&mut s, "1", T0);
    assert_eq!(seats(&spawned(&effects)), ["local cpu"]);
}

#[test]
fn waiting_requests_add_workers_and_idle_ones_are_stopped() {
    let up = || devices(&[Backend::Cpu]);
    let mut s = with_nodes(&[("a", up()), ("b", up()), ("c", up())]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 2))], T0);
    complete(&mut s, &effects, T0);
    for request in ["1", "2", "3"] {
        submit(&mut s, request, secs(1));
    }
    assert_eq!(spawned(&tick(&mut s, secs(2))), []);
    let beats = |s: &mut Scheduler, sequence, now| {
        beat(s, on("a-CPU-0", "a", "CPU-0"), sequence, now);
    };
    beats(&mut s, 1, secs(6));
    let effects = tick(&mut s, secs(7));
    assert_eq!(seats(&complete(&mut s, &effects, secs(8))), ["b cpu"]);
    // One request still waits, and two workers are the maximum.
    beats(&mut s, 2, secs(14));
    beat(&mut s, on("b-CPU-0", "b", "CPU-0"), 1, secs(14));
    let effects = tick(&mut s, secs(15));
    assert_eq!((spawned(&effects), stopped(&effects)), (vec![], vec![]));
    for request in ["1", "2", "3"] {
        s.handle(
            SchedulerEvent::Finished(id(request), RequestOutcome::Completed),
            secs(16),
        );
    }
    for (sequence, now) in (3..).zip((20..=315).step_by(5)) {
        for node in ["a", "b"] {
            beat(
                &mut s,
                on(&format!("{node}-CPU-0"), node, "CPU-0"),
                sequence,
                secs(now),
            );
        }
        assert_eq!(tick(&mut s, secs(now)), [], "at {now} s");
    }
    let effects = tick(&mut s, secs(316));
    assert_eq!(stopped(&effects).len(), 1);
    assert_eq!(tick(&mut s, secs(317)), [], "the minimum stays");
}

#[test]
fn a_worker_that_cannot_be_started_is_tried_again_later_and_its_error_is_known() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    let target = spawned(&effects).remove(0);
    let fail = |s: &mut Scheduler, code, now| {
        let error = Diagnostic::new(code, "because");
        s.handle(SchedulerEvent::SpawnFailed(target.clone(), error), now)
    };
    // The input is wrong: in 30 s it may have been mended.
    fail(&mut s, Code::InvalidModelFile, secs(1));
    assert_eq!(tick(&mut s, secs(30)), []);
    let (_, short) = s.shortfalls().next().unwrap();
    assert_eq!(short.error.message, "because");
    assert_eq!(spawned(&tick(&mut s, secs(31))).len(), 1);
    // A crash is tried again after a pause that grows.
    fail(&mut s, Code::WorkerCrashed, secs(32));
    assert_eq!(spawned(&tick(&mut s, secs(32))).len(), 0);
    assert_eq!(spawned(&tick(&mut s, secs(33))).len(), 1);
    fail(&mut s, Code::WorkerCrashed, secs(34));
    assert_eq!(spawned(&tick(&mut s, secs(35))).len(), 0);
    assert_eq!(spawned(&tick(&mut s, secs(36))).len(), 1);
    // A changed deployment is tried at once.
    fail(&mut s, Code::InvalidModelFile, secs(37));
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 2))], secs(60));
    assert_eq!(spawned(&effects).len(), 1);
}

#[test]
fn a_deployment_takes_the_memory_of_idle_models_but_not_of_other_deployments() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let other = || WorkerInfo {
        model_id: "mock:a=1".parse().unwrap(),
        memory_bytes: 8 * GIB,
        ..worker("other", 1, 1)
    };
    beat(&mut s, other(), 0, T0);
    let lacks_memory =
        || Diagnostic::new(Code::InsufficientRam, "no room").detail("missing_bytes", 4 * GIB);
    let wanted = [("mock:a=1", deployment(1, 1)), (HAIKU, deployment(1, 1))];
    let effects = deploy(&mut s, &wanted, T0);
    let target = spawned(&effects).remove(0);
    let failed = SchedulerEvent::SpawnFailed(target.clone(), lacks_memory());
    let effects = s.handle(failed.clone(), secs(1));
    assert_eq!(stopped(&effects), [], "the other one is deployed as well");
    // Of a higher priority, it takes the memory.
    let important = Deployment {
        priority: 1,
        ..deployment(1, 1)
    };
    deploy(
        &mut s,
        &[("mock:a=1", deployment(1, 1)), (HAIKU, important)],
        secs(40),
    );
    beat(&mut s, other(), 1, secs(41));
    let effects = s.handle(failed, secs(41));
    let effects = [effects, tick(&mut s, secs(42))].concat();
    assert_eq!(stopped(&effects), [("other".to_owned(), StopCause::Memory)]);
    // The worker starts when the memory is free, although no request waits.
    let fence = SchedulerEvent::Fence("other".parse().unwrap(), input_validation::Generation(2));
    let effects = s.handle(fence, secs(43));
    let effects = [effects, tick(&mut s, secs(44))].concat();
    assert_eq!(spawned(&effects), [target]);
}

#[test]
fn only_workers_of_the_same_gpu_make_room_on_it() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cuda, Backend::Cuda]))]);
    let other = |device: &str| WorkerInfo {
        model_id: "mock:a=1".parse().unwrap(),
        memory_bytes: 8 * GIB,
        ..on(&format!("other-{device}"), "local", device)
    };
    beat(&mut s, other("GPU-0"), 0, T0);
    tick(&mut s, secs(20));
    let effects = deploy(&mut s, &[(HAIKU, deployment(2, 2))], secs(20));
    let targets = spawned(&effects);
    assert_eq!(seats(&targets), ["local GPU-0", "local GPU-1"]);
    let no_room = Diagnostic::new(Code::InsufficientVram, "no room").detail("missing_bytes", GIB);
    let failed = SchedulerEvent::SpawnFailed(targets[1].clone(), no_room);
    let registered = SchedulerEvent::Spawned(targets[0].clone(), spawn_id("haiku", 1));
    s.handle(registered, secs(21));
    beat(&mut s, on("haiku", "local", "GPU-0"), 0, secs(21));
    beat(&mut s, other("GPU-0"), 1, secs(21));
    let effects = s.handle(failed.clone(), secs(22));
    assert_eq!(stopped(&effects), [], "that would not help");
    beat(&mut s, other("GPU-1"), 0, secs(40));
    let effects = [s.handle(failed, secs(41)), tick(&mut s, secs(42))].concat();
    assert_eq!(
        stopped(&effects),
        [("other-GPU-1".to_owned(), StopCause::Memory)]
    );
}

#[test]
fn nothing_is_started_before_workers_of_the_previous_queen_can_have_registered() {
    let mut s = Scheduler::new(SchedulerSettings {
        settle: secs(11),
        ..SchedulerSettings::default()
    });
    set_nodes(&mut s, &[("local", devices(&[Backend::Cpu]))], T0);
    assert_eq!(deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0), []);
    beat(&mut s, on("old", "local", "CPU-0"), 7, secs(8));
    assert_eq!(tick(&mut s, secs(12)), []);
}

#[test]
fn the_last_workers_of_a_deployment_are_not_unloaded() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    complete(&mut s, &effects, T0);
    let model = HAIKU.parse().unwrap();
    s.handle(SchedulerEvent::KeepLoaded(model, Some(T0)), secs(1));
    assert_eq!(tick(&mut s, secs(2)), []);
    // Loading ones of a deployment without a minimum are not stopped either.
    deploy(&mut s, &[(HAIKU, deployment(0, 1))], secs(3));
    let loading = WorkerInfo {
        status: WorkerStatus::Starting,
        ..on("local-CPU-0", "local", "CPU-0")
    };
    beat(&mut s, loading, 1, secs(4));
    assert_eq!(tick(&mut s, secs(5)), []);
}

#[test]
fn a_deployment_that_names_another_node_moves_there() {
    let up = || devices(&[Backend::Cpu]);
    let mut s = with_nodes(&[("attic", up()), ("local", up())]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    assert_eq!(seats(&complete(&mut s, &effects, T0)), ["attic cpu"]);
    let on_local = Deployment {
        nodes: ["local".parse().unwrap()].into(),
        keep_alive: secs(5),
        ..deployment(1, 1)
    };
    let effects = deploy(&mut s, &[(HAIKU, on_local)], secs(1));
    assert_eq!(stopped(&effects), [], "the new one is not there yet");
    assert_eq!(seats(&complete(&mut s, &effects, secs(2))), ["local cpu"]);
    assert_eq!(tick(&mut s, secs(4)), []);
    assert_eq!(
        stopped(&tick(&mut s, secs(6))),
        [("attic-CPU-0".to_owned(), StopCause::Surplus)]
    );
}

#[test]
fn a_worker_that_starts_when_its_deployment_is_removed_is_stopped() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    deploy(&mut s, &[], secs(1));
    let spawned_event = |worker: &str| {
        let target = spawned(&effects).remove(0);
        SchedulerEvent::Spawned(target, spawn_id(worker, 1))
    };
    let stops = s.handle(spawned_event("w"), secs(2));
    assert_eq!(stopped(&stops), [("w".to_owned(), StopCause::Surplus)]);
    // That it never registers is no failure.
    assert_eq!(tick(&mut s, secs(60)), []);
    assert_eq!(s.targets().count(), 0);
    // A worker that a user starts later is not stopped.
    beat(&mut s, on("other", "local", "CPU-0"), 0, secs(61));
    assert_eq!(tick(&mut s, secs(62)), []);
    // A request for the model wants a worker again.
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    deploy(&mut s, &[], secs(1));
    submit(&mut s, "1", secs(1));
    complete(&mut s, &effects, secs(2));
    assert_eq!(stopped(&tick(&mut s, secs(3))), []);
}

#[test]
fn a_node_loads_few_models_at_a_time() {
    let mut s = with_nodes(&[("local", devices(&[Backend::Cpu]))]);
    let names: Vec<String> = (0..10).map(|n| format!("mock:x{n}=1")).collect();
    let wanted: Vec<(&str, Deployment)> = names
        .iter()
        .map(|name| (name.as_str(), deployment(1, 1)))
        .collect();
    let effects = deploy(&mut s, &wanted, T0);
    assert_eq!(spawned(&effects).len(), 4);
    let first = spawned(&effects).remove(0);
    let error = Diagnostic::new(Code::InvalidModelFile, "because");
    s.handle(SchedulerEvent::SpawnFailed(first, error), secs(1));
    assert_eq!(spawned(&tick(&mut s, secs(2))).len(), 1);
}

#[test]
fn a_worker_that_runs_a_request_since_before_it_registered_again_is_not_surplus() {
    let up = || devices(&[Backend::Cpu]);
    let mut s = with_nodes(&[("attic", up()), ("local", up())]);
    let effects = deploy(&mut s, &[(HAIKU, deployment(1, 1))], T0);
    complete(&mut s, &effects, T0);
    submit(&mut s, "1", secs(1));
    let again = WorkerInfo {
        pid: 8,
        ..on("attic-CPU-0", "attic", "CPU-0")
    };
    beat(&mut s, again, 0, secs(2));
    let on_local = Deployment {
        nodes: ["local".parse().unwrap()].into(),
        keep_alive: T0,
        ..deployment(1, 1)
    };
    let effects = deploy(&mut s, &[(HAIKU, on_local)], secs(3));
    assert_eq!(seats(&complete(&mut s, &effects, secs(3))), ["local cpu"]);
    assert_eq!(stopped(&tick(&mut s, secs(4))), []);
    let finished = SchedulerEvent::Finished(id("1"), RequestOutcome::Completed);
    s.handle(finished, secs(5));
    assert_eq!(stopped(&tick(&mut s, secs(6))).len(), 1);
}

#[test]
fn a_worker_that_registers_before_the_end_of_its_spawn_is_not_surplus() {
    let mut s = with_nodes(&[("a", devices(&[Backend::Cuda]))]);
    tick(&mut s, secs(20));
    let started = deploy(&mut s, &[(HAIKU, deployment(1, 1))], secs(20));
    assert_eq!(seats(&spawned(&started)), ["a cuda"]);
    let its_worker = on("a-GPU-0", "a", "GPU-0");
    let registered = beat(&mut s, its_worker.clone(), 0, secs(25));
    let ticked = tick(&mut s, secs(26));
    assert_eq!(stopped(&[registered, ticked].concat()), []);
    let event = SchedulerEvent::Spawned(target_on_gpu(), spawn_id("a-GPU-0", 1));
    s.handle(event, secs(27));
    beat(&mut s, its_worker, 1, secs(27));
    assert_eq!(tick(&mut s, secs(28)), []);
}

fn target_on_gpu() -> SpawnTarget {
    SpawnTarget {
        node: "a".parse().unwrap(),
        backend: Backend::Cuda,
        ..target()
    }
}
