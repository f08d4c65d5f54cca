//! Which workers and nodes belong to a deployment or to a target, and which times of targets count.

use std::collections::BTreeSet;

use input_validation::{Backend, NodeName};

use super::*;

fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn deployment(nodes: &[&str], parts: &[&str], backend: Option<Backend>) -> Deployment {
    Deployment {
        min_workers: 1,
        max_workers: 1,
        nodes: names(nodes),
        parts: names(parts),
        backend,
        keep_alive: secs(300),
        priority: 0,
    }
}

#[test]
fn a_deployment_has_workers_on_its_nodes_and_devices_only() {
    let cuda = Some(Backend::Cuda);
    for (nodes, backend, node, on_gpu, on_cpu) in [
        (&[][..], None, "attic", true, true),
        (&["attic"], None, "attic", true, true),
        (&["attic"], None, "local", false, false),
        (&[], cuda, "attic", true, false),
        (&["attic"], cuda, "attic", true, false),
        (&["attic"], cuda, "local", false, false),
    ] {
        let deployment = deployment(nodes, &[], backend);
        let node: NodeName = node.parse().unwrap();
        let case = format!("{deployment:?} {node}");
        assert_eq!(deployment.allows(&node, Backend::Cuda), on_gpu, "{case}");
        assert_eq!(deployment.allows(&node, Backend::Cpu), on_cpu, "{case}");
        let runs_on = |device: &str| deployment.may_run_on(&node, device.parse().unwrap());
        assert_eq!(runs_on("GPU-0"), on_gpu, "{case}");
        assert_eq!(runs_on("CPU-0"), on_cpu, "{case}");
    }
}

#[test]
fn a_split_model_misses_any_node_and_another_one_only_all_of_them() {
    let known = |nodes: &[&str]| -> NodeMap {
        let nodes = names(nodes).into_iter();
        nodes.map(|node| (node, NodeFacts::default())).collect()
    };
    for (nodes, parts, present, removed) in [
        (&["a", "b"][..], &[][..], &["a"][..], &[][..]),
        (&["a", "b"], &[], &["c"], &["a", "b"]),
        (&[], &[], &[], &[]),
        (&["a"], &["b", "c"], &["a", "b"], &["c"]),
        (&["a"], &["b", "c"], &["b", "c"], &["a"]),
        (&["a"], &["b"], &["a", "b"], &[]),
    ] {
        let deployment = deployment(nodes, parts, None);
        let found = deployment.removed_nodes(&known(present));
        let found: BTreeSet<NodeName> = found.into_iter().cloned().collect();
        assert_eq!(found, names(removed), "{nodes:?} {parts:?} {present:?}");
    }
}

#[test]
fn a_target_covers_the_workers_of_its_model_node_backend_and_device() {
    let gpu = |device: Option<&str>| SpawnTarget {
        backend: Backend::Cuda,
        device: device.map(|device| device.parse().unwrap()),
        ..target()
    };
    let worker_on = |model: &str, node: &str, device: &str| WorkerInfo {
        model_id: model.parse().unwrap(),
        hive_id: node.parse().unwrap(),
        device: device.parse().unwrap(),
        ..worker("w", 1, 1)
    };
    for (target, model, node, device, covers) in [
        (target(), HAIKU, "local", "CPU-0", true),
        (target(), "mock:a=1", "local", "CPU-0", false),
        (target(), HAIKU, "attic", "CPU-0", false),
        (target(), HAIKU, "local", "GPU-0", false),
        (gpu(None), HAIKU, "local", "GPU-1", true),
        (gpu(Some("GPU-1")), HAIKU, "local", "GPU-1", true),
        (gpu(Some("GPU-0")), HAIKU, "local", "GPU-1", false),
        (gpu(Some("GPU-1")), HAIKU, "attic", "GPU-1", false),
    ] {
        let info = worker_on(model, node, device);
        assert_eq!(target.covers(&info), covers, "{target:?} {info:?}");
    }
}

/// Which waits clients were informed of, with their estimates in seconds.
fn estimates(effects: &[SchedulerEffect]) -> Vec<(WaitReason, Option<u64>)> {
    let waits = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Waiting(_, waiting) => Some((
            waiting.reason,
            waiting.estimate.map(|estimate| estimate.as_secs()),
        )),
        _ => None,
    });
    waits.collect()
}

/// Starts a worker of the default model in 20 s, and removes it.
fn load(s: &mut Scheduler) -> Duration {
    submit(s, "load", T0);
    let now = secs(20);
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), now);
    beat(s, worker("w", 1, 1), 0, now);
    let cancelled = SchedulerEvent::Finished(id("load"), RequestOutcome::Cancelled);
    s.handle(cancelled, now);
    let gone = SchedulerEvent::Fence("w".parse().unwrap(), Generation(2));
    s.handle(gone, now);
    now
}

#[test]
fn a_request_that_waits_for_the_next_start_waits_for_the_pause_and_the_load() {
    let mut s = scheduler();
    let now = load(&mut s);
    submit(&mut s, "r1", now);
    let error = || Diagnostic::new(Code::WorkerStartFailed, "exit 1");
    s.handle(SchedulerEvent::SpawnFailed(target(), error()), now);
    let effects = submit(&mut s, "r2", now);
    let remaining = secs(1);
    let reason = WaitReason::Backoff { remaining };
    assert_eq!(estimates(&effects), [(reason, Some(21))]);
    // Half of the pause has passed.
    let later = now + Duration::from_millis(500);
    let third = s.submit(new_request("r3", HAIKU, secs(600)), later);
    assert_eq!(estimates(&third.unwrap())[0].1, Some(20));
}

#[test]
fn a_model_that_began_to_load_earlier_does_not_shorten_the_load_of_another() {
    let mut s = scheduler();
    let now = load(&mut s);
    let other = new_request("other", "mock:a=1", secs(600));
    assert_eq!(spawns(&s.submit(other, now).unwrap()), 1);
    let effects = submit(&mut s, "r1", now + secs(15));
    assert_eq!(estimates(&effects), [(WaitReason::Loading, Some(20))]);
    let effects = submit(&mut s, "r2", now + secs(20));
    assert_eq!(estimates(&effects), [(WaitReason::Loading, Some(15))]);
}

#[test]
fn a_worker_that_starts_for_one_backend_is_not_awaited_for_another() {
    use Backend::{Cpu, Cuda};
    let mut s = scheduler();
    for (name, backend, starts) in [
        ("r1", Cuda, 1),
        ("r2", Cpu, 1),
        ("r3", Cuda, 0),
        ("r4", Cpu, 0),
    ] {
        let mut request = new_request(name, HAIKU, secs(600));
        request.requirements.backend = Some(backend);
        let effects = s.submit(request, T0).unwrap();
        assert_eq!(spawns(&effects), starts, "{name}");
    }
    for (backend, expected) in [(Cuda, ["r1", "r3"]), (Cpu, ["r2", "r4"])] {
        let target = SpawnTarget {
            backend,
            ..target()
        };
        let waiting: Vec<String> = s.waiting_for(&target).map(ToString::to_string).collect();
        assert_eq!(waiting, expected);
    }
}
