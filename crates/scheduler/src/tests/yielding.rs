//! GPUs that are left to other programs.

use std::collections::{BTreeMap, BTreeSet};

use input_validation::{Backend, ModelRef};

use super::*;

const GIB: u64 = 1 << 30;
const GAME: &str = "GPU-0 is left to game.exe (pid 4242, 9.0 GiB)";

/// A node with a CPU and GPUs that have the model.
fn gaming_pc(gpus: u16, left: &[u16]) -> NodeFacts {
    let gpu = |index| DeviceFacts {
        id: device_id(Backend::Cuda, index),
        backend: Backend::Cuda,
        free_bytes: 24 * GIB,
        has_worker: true,
    };
    let cpu = DeviceFacts {
        id: device_id(Backend::Cpu, 0),
        backend: Backend::Cpu,
        free_bytes: 64 * GIB,
        has_worker: true,
    };
    let left = left.iter();
    NodeFacts {
        state: NodeState::Up,
        devices: [cpu].into_iter().chain((0..gpus).map(gpu)).collect(),
        models: BTreeMap::from([(HAIKU.parse().unwrap(), GIB)]),
        yielded: left
            .map(|index| (device_id(Backend::Cuda, *index), GAME.to_owned()))
            .collect(),
    }
}

fn on(name: &str, device: &str) -> WorkerInfo {
    WorkerInfo {
        device: device.parse().unwrap(),
        ..worker(name, 1, 2)
    }
}

fn stops(effects: &[SchedulerEffect]) -> Vec<(String, StopCause)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::StopWorker(spawn, cause) => Some((spawn.worker.to_string(), *cause)),
        _ => None,
    });
    stops.collect()
}

fn spawned_on(effects: &[SchedulerEffect]) -> Vec<Backend> {
    let targets = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.backend),
        _ => None,
    });
    targets.collect()
}

fn on_gpu(name: &str) -> NewRequest {
    let mut request = new_request(name, HAIKU, secs(600));
    request.requirements.backend = Some(Backend::Cuda);
    request
}

#[test]
fn the_workers_of_a_gpu_that_is_left_are_stopped_once_and_others_stay() {
    let mut s = with_nodes(&[("local", gaming_pc(2, &[]))]);
    beat(&mut s, on("gone", "GPU-0"), 0, T0);
    beat(&mut s, on("other", "GPU-1"), 0, T0);
    beat(&mut s, on("cpu", "CPU-0"), 0, T0);
    let effects = set_nodes(&mut s, &[("local", gaming_pc(2, &[0]))], secs(1));
    assert_eq!(stops(&effects), [("gone".to_owned(), StopCause::Yield)]);
    assert_eq!(stops(&s.handle(SchedulerEvent::Tick, secs(2))), []);
    for number in 0..4 {
        let effects = submit(&mut s, &format!("r{number}"), secs(2));
        let assigned = assigned(&effects);
        assert!(
            assigned.len() == 1 && assigned[0].1 != "gone",
            "{assigned:?}"
        );
    }
    let time = |_| Timestamp::UNIX_EPOCH;
    let why = s.decisions(Some("gone"), 9, time);
    let why = why.last().unwrap();
    assert_eq!(why.reason, GAME);
    assert_eq!(why.node.as_ref().unwrap().as_str(), "local");
}

#[test]
fn a_worker_that_appears_on_a_gpu_that_is_left_is_stopped_as_well() {
    let mut s = with_nodes(&[("local", gaming_pc(1, &[0]))]);
    beat(&mut s, on("w", "GPU-0"), 0, secs(1));
    let effects = s.handle(SchedulerEvent::Tick, secs(2));
    assert_eq!(stops(&effects), [("w".to_owned(), StopCause::Yield)]);
}

#[test]
fn requests_go_to_the_cpu_or_to_another_gpu_meanwhile() {
    let mut s = with_nodes(&[("local", gaming_pc(1, &[0]))]);
    assert_eq!(spawned_on(&submit(&mut s, "r", T0)), [Backend::Cpu]);
    let mut s = with_nodes(&[("local", gaming_pc(2, &[0]))]);
    assert_eq!(
        spawned_on(&s.submit(on_gpu("r"), T0).unwrap()),
        [Backend::Cuda]
    );
    let nodes = [("attic", gaming_pc(1, &[])), ("local", gaming_pc(1, &[0]))];
    let mut s = with_nodes(&nodes);
    let effects = s.submit(on_gpu("r"), T0).unwrap();
    let mut targets = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Spawn(target) => Some(target.node.as_str()),
        _ => None,
    });
    assert_eq!(targets.next(), Some("attic"));
}

#[test]
fn a_request_that_requires_the_gpu_is_refused_with_the_reason() {
    for node in [None, Some("local")] {
        let mut s = with_nodes(&[("local", gaming_pc(1, &[0]))]);
        let mut request = on_gpu("r");
        request.requirements.node = node.map(|node| node.parse().unwrap());
        let effects = s.submit(request, T0).unwrap();
        let [SchedulerEffect::Fail(_, error)] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(error.code, Code::BackendUnavailable);
        assert_eq!(error.message, format!("node local: {GAME}"));
        let hint = error.hint.as_ref().unwrap();
        assert!(
            hint.contains("rbee-keeper node yield local --never"),
            "{hint}"
        );
    }
}

#[test]
fn a_deployment_moves_to_the_cpu_and_back_when_its_worker_there_is_idle() {
    let mut s = with_nodes(&[("local", gaming_pc(1, &[]))]);
    beat(&mut s, on("gpu", "GPU-0"), 0, T0);
    let model: ModelRef = HAIKU.parse().unwrap();
    let one = Deployment {
        min_workers: 1,
        max_workers: 1,
        nodes: BTreeSet::new(),
        backend: None,
        keep_alive: secs(300),
        priority: 0,
        parts: BTreeSet::new(),
    };
    let wanted = DeploymentMap::from([(model, one)]);
    s.handle(SchedulerEvent::Deployments(wanted, BTreeSet::new()), T0);
    set_nodes(&mut s, &[("local", gaming_pc(1, &[0]))], secs(10));
    let effects = s.handle(SchedulerEvent::Tick, secs(11));
    assert_eq!(spawned_on(&effects), [Backend::Cpu]);
    s.handle(
        SchedulerEvent::Fence("gpu".parse().unwrap(), Generation(2)),
        secs(12),
    );
    let spawned = SchedulerEvent::Spawned(target(), spawn_id("cpu", 1));
    s.handle(spawned, secs(13));
    beat(&mut s, on("cpu", "CPU-0"), 0, secs(13));
    assert_eq!(assigned(&submit(&mut s, "r", secs(14))), pair("r", "cpu"));
    let effects = set_nodes(&mut s, &[("local", gaming_pc(1, &[]))], secs(90));
    assert_eq!(stops(&effects), [], "it runs a request");
    let finished = SchedulerEvent::Finished(id("r"), RequestOutcome::Completed);
    s.handle(finished, secs(91));
    beat(&mut s, on("cpu", "CPU-0"), 1, secs(91));
    let effects = s.handle(SchedulerEvent::Tick, secs(92));
    assert_eq!(stops(&effects), [("cpu".to_owned(), StopCause::Return)]);
    assert_eq!(spawned_on(&effects), [Backend::Cuda]);
    let later = s.handle(SchedulerEvent::Tick, secs(93));
    assert_eq!(stops(&later), []);
}

#[test]
fn a_worker_on_the_cpu_that_was_there_before_stays() {
    let mut s = with_nodes(&[("local", gaming_pc(1, &[]))]);
    beat(&mut s, on("cpu", "CPU-0"), 0, T0);
    beat(&mut s, on("gpu", "GPU-0"), 0, T0);
    let effects = set_nodes(&mut s, &[("local", gaming_pc(1, &[0]))], secs(10));
    assert_eq!(stops(&effects), [("gpu".to_owned(), StopCause::Yield)]);
    set_nodes(&mut s, &[("local", gaming_pc(1, &[]))], secs(20));
    beat(&mut s, on("cpu", "CPU-0"), 1, secs(20));
    assert_eq!(stops(&s.handle(SchedulerEvent::Tick, secs(21))), []);
}
