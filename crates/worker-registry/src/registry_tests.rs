use std::collections::HashMap;

use input_validation::Backend;
use jiff::Timestamp;
use proptest::prelude::*;
use worker_contract::{KvCacheUse, SamplingValues};

use super::*;
use crate::SILENT_AFTER;

pub(super) fn heartbeat(id: &str, generation: u64, sequence: u64) -> WorkerHeartbeat {
    WorkerHeartbeat {
        worker: WorkerInfo {
            id: id.parse().unwrap(),
            generation: Generation(generation),
            hive_id: "local".parse().unwrap(),
            model_id: "builtin:haiku".parse().unwrap(),
            device: "CPU-0".parse().unwrap(),
            port: 8081,
            pid: 100 + generation as u32,
            status: WorkerStatus::Ready,
            implementation: "rbee-mock".into(),
            version: "1".into(),
            capabilities: Vec::new(),
            slots_total: 2,
            slots_free: 2,
            queue_depth: 0,
            context_length: 512,
            memory_bytes: 1,
            kv_cache: KvCacheUse::default(),
            prefix_digest: None,
            last_step_ms: None,
            sampling: SamplingValues::default(),
        },
        timestamp: Timestamp::UNIX_EPOCH,
        sequence,
    }
}

pub(super) fn spawn(id: &str, generation: u64) -> SpawnId {
    SpawnId {
        worker: id.parse().unwrap(),
        generation: Generation(generation),
    }
}

fn free(registry: &WorkerRegistry, now: Duration) -> u32 {
    registry
        .candidates(&WorkerFilter::default(), now)
        .map(|c| c.free_slots)
        .sum()
}

pub(super) const T0: Duration = Duration::ZERO;

#[test]
fn reserved_slots_count_between_heartbeats() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&spawn("a", 1));
    registry.reserve(&spawn("a", 1));
    assert_eq!(free(&registry, T0), 0);
    registry.release(&spawn("a", 1));
    assert_eq!(free(&registry, T0), 1);
}

#[test]
fn a_heartbeat_sent_before_our_request_finished_occupies_no_slot() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&spawn("a", 1));
    registry.release(&spawn("a", 1));
    for (sequence, expected) in [(1, 2), (2, 1)] {
        let mut one_used = heartbeat("a", 1, sequence);
        one_used.worker.slots_free = 1;
        registry.heartbeat(one_used, T0).unwrap();
        // The second heartbeat was sent after the first, so no request of ours explains it.
        assert_eq!(free(&registry, T0), expected, "heartbeat {sequence}");
    }
}

#[test]
fn slots_used_by_other_clients_are_not_free() {
    let mut registry = WorkerRegistry::default();
    let mut shared = heartbeat("a", 1, 0);
    shared.worker.slots_free = 1;
    registry.heartbeat(shared, T0).unwrap();
    assert_eq!(free(&registry, T0), 1);
    let mut busy = heartbeat("a", 1, 1);
    busy.worker.status = WorkerStatus::Busy;
    busy.worker.slots_free = 0;
    registry.heartbeat(busy, T0).unwrap();
    assert_eq!(free(&registry, T0), 0);
}

#[test]
fn a_busy_worker_is_avoided_for_1_2_and_4_seconds() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    let mut now = T0;
    for pause in [1, 2, 4, 4] {
        registry.all_slots_busy(&spawn("a", 1), now);
        let until = now + Duration::from_secs(pause);
        assert_eq!(
            free(&registry, until.saturating_sub(Duration::from_millis(1))),
            0,
            "{pause}"
        );
        assert_eq!(free(&registry, until), 2, "{pause}");
        now = until;
    }
    registry.all_slots_busy(&spawn("a", 1), now);
    registry.heartbeat(heartbeat("a", 1, 1), now).unwrap();
    assert_eq!(free(&registry, now), 2, "a heartbeat ends the back-off");
}

#[test]
fn requests_of_an_old_spawn_do_not_free_slots_of_the_new_one() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&spawn("a", 1));
    registry.heartbeat(heartbeat("a", 2, 0), T0).unwrap();
    registry.reserve(&spawn("a", 2));
    registry.release(&spawn("a", 1));
    let entries = registry.snapshot(&WorkerFilter::default(), T0);
    assert_eq!(entries[0].active_requests, 1);
    assert!(
        !registry.connection_failed(&spawn("a", 1)),
        "the failed connection of an old spawn is ignored"
    );
    assert_eq!(free(&registry, T0), 1);
}

#[test]
fn a_heartbeat_that_is_not_newer_changes_nothing() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 5), T0).unwrap();
    let mut latest = heartbeat("a", 1, 7);
    latest.worker.queue_depth = 3;
    assert_eq!(
        registry.heartbeat(latest, T0),
        Ok(HeartbeatResult::Refreshed)
    );
    for sequence in [6, 7] {
        let old = heartbeat("a", 1, sequence);
        let result = registry.heartbeat(old, Duration::from_secs(1));
        assert_eq!(result, Ok(HeartbeatResult::OutOfOrder));
        let entry = &registry.snapshot(&WorkerFilter::default(), SILENT_AFTER)[0];
        assert_eq!(entry.info.queue_depth, 3);
        assert_eq!(entry.availability, Availability::Silent);
    }
}

#[test]
fn a_worker_whose_heartbeat_is_late_is_checked_every_five_seconds() {
    let mut registry = WorkerRegistry::default();
    let secs = Duration::from_secs;
    registry.heartbeat(heartbeat("a", 1, 0), secs(1)).unwrap();
    registry.heartbeat(heartbeat("b", 1, 0), secs(5)).unwrap();
    let mut check = |at| registry.late(secs(at));
    assert_eq!(check(7), []);
    assert_eq!(check(8), [spawn("a", 1)]);
    assert_eq!(check(11), []);
    assert_eq!(check(13), [spawn("a", 1), spawn("b", 1)]);
    registry.heartbeat(heartbeat("a", 1, 1), secs(14)).unwrap();
    assert_eq!(registry.late(secs(18)), [spawn("b", 1)]);
}

#[test]
fn the_first_failed_connection_since_a_heartbeat_is_new() {
    let mut registry = WorkerRegistry::default();
    let spawn = spawn("a", 1);
    assert!(!registry.connection_failed(&spawn), "it is not registered");
    for sequence in 0..2 {
        registry.heartbeat(heartbeat("a", 1, sequence), T0).unwrap();
        assert!(registry.connection_failed(&spawn));
        assert!(!registry.connection_failed(&spawn));
    }
}

#[test]
fn a_new_process_of_the_same_generation_replaces_the_worker() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 5), T0).unwrap();
    registry.reserve(&spawn("a", 1));
    registry.connection_failed(&spawn("a", 1));
    let mut restarted = heartbeat("a", 1, 0);
    restarted.worker.pid += 1;
    assert_eq!(
        registry.heartbeat(restarted, T0),
        Ok(HeartbeatResult::Registered)
    );
    assert_eq!(free(&registry, T0), 2);
}

#[test]
fn serving_state_is_the_best_state_of_the_available_workers() {
    let mut registry = WorkerRegistry::default();
    let mut beat = |id: &str, status, now| {
        let mut heartbeat = heartbeat(id, 1, 0);
        heartbeat.worker.status = status;
        registry.heartbeat(heartbeat, now).unwrap();
        let other_model = WorkerFilter {
            model: Some("mock:a=1".parse().unwrap()),
            ..WorkerFilter::default()
        };
        assert_eq!(
            registry.serving_state(&other_model, now),
            ServingState::None
        );
        registry.serving_state(&WorkerFilter::default(), now)
    };
    let later = Duration::from_secs(1);
    assert_eq!(
        beat("draining", WorkerStatus::Draining, T0),
        ServingState::None
    );
    assert_eq!(
        beat("starting", WorkerStatus::Starting, later),
        ServingState::Loading
    );
    assert_eq!(beat("busy", WorkerStatus::Busy, T0), ServingState::Serving);
    assert_eq!(
        beat("ready", WorkerStatus::Ready, T0),
        ServingState::Serving
    );

    let all = WorkerFilter::default();
    registry.connection_failed(&spawn("ready", 1));
    assert_eq!(registry.serving_state(&all, T0), ServingState::Serving);
    registry.connection_failed(&spawn("busy", 1));
    assert_eq!(registry.serving_state(&all, T0), ServingState::Loading);
    assert_eq!(
        registry.serving_state(&all, later + SILENT_AFTER),
        ServingState::None
    );
}

#[test]
fn total_slots_counts_busy_and_free_slots_of_matching_workers() {
    let mut registry = WorkerRegistry::default();
    for (id, slots, status) in [("a", 3, WorkerStatus::Ready), ("b", 4, WorkerStatus::Busy)] {
        let mut heartbeat = heartbeat(id, 1, 0);
        heartbeat.worker.slots_total = slots;
        heartbeat.worker.slots_free = 0;
        heartbeat.worker.status = status;
        registry.heartbeat(heartbeat, T0).unwrap();
    }
    let mut other = heartbeat("c", 1, 0);
    other.worker.model_id = "mock:a=1".parse().unwrap();
    registry.heartbeat(other, T0).unwrap();
    let haiku = WorkerFilter {
        model: Some("builtin:haiku".parse().unwrap()),
        ..WorkerFilter::default()
    };
    assert_eq!(registry.total_slots(&haiku), 7);
    assert_eq!(registry.total_slots(&WorkerFilter::default()), 9);
}

#[test]
fn a_spawn_has_registered_from_its_first_heartbeat_on() {
    let mut registry = WorkerRegistry::default();
    assert!(!registry.has_registered(&spawn("a", 2)));
    registry.heartbeat(heartbeat("a", 2, 0), T0).unwrap();
    for (generation, expected) in [(1, true), (2, true), (3, false)] {
        let registered = registry.has_registered(&spawn("a", generation));
        assert_eq!(registered, expected, "generation {generation}");
    }
    assert!(!registry.has_registered(&spawn("b", 1)));
    registry.expire(REMOVED_AFTER);
    assert!(registry.has_registered(&spawn("a", 2)), "it was removed");
}

#[test]
fn a_fenced_spawn_is_not_pending_and_the_next_one_is() {
    let mut registry = WorkerRegistry::default();
    registry.fence(&"a".parse().unwrap(), Generation(3));
    assert!(registry.has_registered(&spawn("a", 2)));
    assert!(!registry.has_registered(&spawn("a", 3)));
    registry.heartbeat(heartbeat("a", 3, 0), T0).unwrap();
    assert!(registry.has_registered(&spawn("a", 3)));
    // The same fence again changes nothing.
    registry.fence(&"a".parse().unwrap(), Generation(3));
    assert!(registry.has_registered(&spawn("a", 3)));
}

#[test]
fn a_fence_removes_older_spawns_only_and_is_never_lowered() {
    let mut registry = WorkerRegistry::default();
    let id: WorkerId = "a".parse().unwrap();
    registry.heartbeat(heartbeat("a", 3, 0), T0).unwrap();
    registry.fence(&id, Generation(2));
    registry.fence(&id, Generation(3));
    assert!(registry.get(&id).is_some());
    registry.fence(&id, Generation(5));
    assert_eq!(registry.get(&id), None);
    registry.fence(&id, Generation(4));
    let error = registry.heartbeat(heartbeat("a", 4, 0), T0).unwrap_err();
    assert_eq!(
        error.message,
        "worker a of generation 4 must exit: only generation 5 or later may serve"
    );
}

#[test]
fn remove_affects_only_the_registered_spawn() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 2, 0), T0).unwrap();
    registry.heartbeat(heartbeat("b", 2, 0), T0).unwrap();
    registry.remove(&spawn("a", 1));
    assert!(registry.get_spawn(&spawn("a", 2)).is_some());
    assert_eq!(registry.get_spawn(&spawn("a", 1)), None);
    registry.remove(&spawn("a", 2));
    assert_eq!(registry.get_spawn(&spawn("a", 2)), None);
    assert!(registry.get_spawn(&spawn("b", 2)).is_some());
}

#[test]
fn expired_workers_are_returned_with_their_generation() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 3, 0), T0).unwrap();
    let later = Duration::from_millis(1);
    registry.heartbeat(heartbeat("b", 1, 0), later).unwrap();
    assert_eq!(registry.expire(REMOVED_AFTER), [spawn("a", 3)]);
    assert!(registry.get_spawn(&spawn("b", 1)).is_some());
}

#[test]
fn a_worker_stays_fenced_after_its_removal() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 3, 0), T0).unwrap();
    registry.expire(REMOVED_AFTER);
    let error = registry
        .heartbeat(heartbeat("a", 2, 9), REMOVED_AFTER)
        .unwrap_err();
    assert_eq!(error.code, Code::Fenced);
    registry.fence(&"a".parse().unwrap(), Generation(4));
    assert!(
        registry
            .heartbeat(heartbeat("a", 3, 10), REMOVED_AFTER)
            .is_err()
    );
    assert!(
        registry
            .heartbeat(heartbeat("a", 4, 0), REMOVED_AFTER)
            .is_ok()
    );
}

#[derive(Debug, Clone)]
enum Op {
    Beat {
        id: u8,
        generation: u64,
        sequence: u64,
        status: u8,
        free: u32,
    },
    Fail {
        id: u8,
        generation: u64,
    },
    Full {
        id: u8,
        generation: u64,
    },
    Fence {
        id: u8,
        generation: u64,
    },
    Reserve,
    Release(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..4, 0u64..6, 0u64..50, 0u8..5, 0u32..3).prop_map(
            |(id, generation, sequence, status, free)| Op::Beat { id, generation, sequence, status, free }
        ),
        1 => (0u8..4, 0u64..6).prop_map(|(id, generation)| Op::Fail { id, generation }),
        1 => (0u8..4, 0u64..6).prop_map(|(id, generation)| Op::Full { id, generation }),
        1 => (0u8..4, 0u64..6).prop_map(|(id, generation)| Op::Fence { id, generation }),
        4 => Just(Op::Reserve),
        3 => (0usize..64).prop_map(Op::Release),
        2 => (0u64..20_000).prop_map(Op::Wait),
    ]
}

fn name(id: u8) -> String {
    format!("w-{id}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_sequence_of_events_keeps_the_registry_consistent(ops in prop::collection::vec(op(), 1..300)) {
        let mut registry = WorkerRegistry::default();
        let mut now = T0;
        let mut reserved: Vec<SpawnId> = Vec::new();
        let mut highest: HashMap<String, u64> = HashMap::new();
        for op in ops {
            match op {
                Op::Beat { id, generation, sequence, status, free } => {
                    let mut beat = heartbeat(&name(id), generation, sequence);
                    beat.worker.status = [
                        WorkerStatus::Starting, WorkerStatus::Ready, WorkerStatus::Busy,
                        WorkerStatus::Draining, WorkerStatus::Stopped,
                    ][usize::from(status)];
                    beat.worker.slots_free = free;
                    let lowest = highest.entry(name(id)).or_default();
                    let result = registry.heartbeat(beat, now);
                    prop_assert_eq!(result.is_err(), generation < *lowest);
                    match result {
                        Ok(HeartbeatResult::Deregistered) => *lowest = generation + 1,
                        Ok(_) => *lowest = generation,
                        Err(_) => {}
                    }
                }
                Op::Fail { id, generation } => {
                    registry.connection_failed(&spawn(&name(id), generation));
                    let routed = registry.candidates(&WorkerFilter::default(), now)
                        .any(|c| SpawnId::of(c.info) == spawn(&name(id), generation));
                    prop_assert!(!routed, "a worker with a failed connection is not a candidate");
                }
                Op::Full { id, generation } => registry.all_slots_busy(&spawn(&name(id), generation), now),
                Op::Fence { id, generation } => {
                    registry.fence(&name(id).parse().unwrap(), Generation(generation));
                    let lowest = highest.entry(name(id)).or_default();
                    *lowest = generation.max(*lowest);
                }
                Op::Reserve => {
                    let spawn = registry.candidates(&WorkerFilter::default(), now).next().map(|c| SpawnId::of(c.info));
                    if let Some(spawn) = spawn {
                        registry.reserve(&spawn);
                        reserved.push(spawn);
                    }
                }
                Op::Release(at) => {
                    if !reserved.is_empty() {
                        let spawn = reserved.swap_remove(at % reserved.len());
                        registry.release(&spawn);
                    }
                }
                Op::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    for gone in registry.expire(now) {
                        reserved.retain(|spawn| *spawn != gone);
                    }
                }
            }
            // A removed worker takes its reservations along.
            reserved.retain(|spawn| {
                registry.get(&spawn.worker).is_some_and(|info| info.generation == spawn.generation)
            });
            for entry in registry.snapshot(&WorkerFilter::default(), now) {
                let held = reserved.iter().filter(|s| s.worker == entry.info.id).count();
                prop_assert_eq!(entry.active_requests as usize, held);
                prop_assert!(entry.heartbeat_age_ms < REMOVED_AFTER.as_millis() as u64);
                prop_assert!(entry.info.generation.0 >= highest[entry.info.id.as_str()]);
                prop_assert!(entry.active_requests <= entry.info.slots_total, "overbooked");
            }
            for candidate in registry.candidates(&WorkerFilter::default(), now) {
                let entry = registry.snapshot(&WorkerFilter::default(), now).into_iter()
                    .find(|e| e.info.id == candidate.info.id).unwrap();
                prop_assert_eq!(entry.availability, Availability::Available);
                prop_assert!(entry.heartbeat_age_ms < SILENT_AFTER.as_millis() as u64);
                prop_assert!(candidate.free_slots + entry.active_requests <= entry.info.slots_total);
                prop_assert!(matches!(entry.info.status, WorkerStatus::Ready | WorkerStatus::Busy));
            }
        }
    }
}

#[test]
fn a_finished_request_occupies_no_slot_in_the_entry_before_the_next_heartbeat() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    let shown = |registry: &WorkerRegistry| {
        registry.snapshot(&WorkerFilter::default(), T0)[0]
            .info
            .slots_free
    };
    registry.reserve(&spawn("a", 1));
    assert_eq!(shown(&registry), 1);
    let mut used = heartbeat("a", 1, 1);
    used.worker.slots_free = 1;
    registry.heartbeat(used, T0).unwrap();
    assert_eq!(shown(&registry), 1);
    registry.release(&spawn("a", 1));
    assert_eq!(shown(&registry), 2);
    let mut draining = heartbeat("a", 1, 2);
    draining.worker.status = WorkerStatus::Draining;
    draining.worker.slots_free = 0;
    registry.heartbeat(draining, T0).unwrap();
    assert_eq!(shown(&registry), 0);
}

#[test]
fn a_worker_that_is_being_stopped_receives_no_requests_and_its_next_spawn_does() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(heartbeat("a", 2, 0), T0).unwrap();
    registry.set_stopping(&spawn("a", 1));
    assert!(!registry.is_stopping(&spawn("a", 2)));
    assert_eq!(free(&registry, T0), 2, "an older spawn is stopped");
    registry.set_stopping(&spawn("a", 2));
    registry.heartbeat(heartbeat("a", 2, 1), T0).unwrap();
    assert!(registry.is_stopping(&spawn("a", 2)));
    assert_eq!(free(&registry, T0), 0);
    let state = registry.serving_state(&WorkerFilter::default(), T0);
    assert_eq!(state, ServingState::None);
    registry.heartbeat(heartbeat("a", 3, 0), T0).unwrap();
    assert_eq!(free(&registry, T0), 2);
}

#[test]
fn a_port_is_freed_when_the_last_worker_on_it_has_gone() {
    let mut registry = WorkerRegistry::default();
    let at = |id: &str, generation, port| {
        let mut heartbeat = heartbeat(id, generation, 0);
        heartbeat.worker.port = port;
        heartbeat
    };
    let node = heartbeat("a", 1, 0).worker.hive_id;
    registry.heartbeat(at("a", 1, 10), T0).unwrap();
    registry.heartbeat(at("b", 1, 20), T0).unwrap();
    registry.heartbeat(at("c", 1, 30), T0).unwrap();
    assert_eq!(registry.take_freed_ports(), []);
    registry.heartbeat(at("a", 2, 10), T0).unwrap();
    registry.heartbeat(at("b", 2, 21), T0).unwrap();
    assert_eq!(registry.take_freed_ports(), [(node.clone(), 20)]);
    registry.fence(&"c".parse().unwrap(), Generation(2));
    assert_eq!(registry.take_freed_ports(), [(node.clone(), 30)]);
    registry.remove(&spawn("b", 2));
    assert_eq!(registry.take_freed_ports(), [(node.clone(), 21)]);
    registry.expire(T0 + REMOVED_AFTER);
    assert_eq!(registry.take_freed_ports(), [(node, 10)]);
    assert_eq!(registry.take_freed_ports(), []);
}

#[test]
fn a_fence_ends_the_stop_of_older_spawns_of_the_worker_only() {
    let mut registry = WorkerRegistry::default();
    for (id, generation) in [("a", 1), ("b", 1), ("c", 3)] {
        registry
            .heartbeat(heartbeat(id, generation, 0), T0)
            .unwrap();
        registry.set_stopping(&spawn(id, generation));
    }
    registry.fence(&"a".parse().unwrap(), Generation(2));
    registry.fence(&"c".parse().unwrap(), Generation(3));
    let is_stopping = [("a", 1), ("b", 1), ("c", 3)]
        .map(|(id, generation)| registry.is_stopping(&spawn(id, generation)));
    assert_eq!(is_stopping, [false, true, true]);
}

#[test]
fn a_filter_selects_by_model_node_device_and_status() {
    let mut gpu = heartbeat("gpu", 1, 0);
    gpu.worker.device = "GPU-0".parse().unwrap();
    gpu.worker.hive_id = "attic".parse().unwrap();
    gpu.worker.model_id = "mock:a=1".parse().unwrap();
    gpu.worker.status = WorkerStatus::Busy;
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(gpu, T0).unwrap();
    registry.heartbeat(heartbeat("cpu", 1, 0), T0).unwrap();
    let all = WorkerFilter::default();
    let selected = |filter: WorkerFilter| {
        let matching = registry.matching(&filter, T0);
        let ids: Vec<&str> = matching.map(|(info, _)| info.id.as_str()).collect();
        ids.join(" ")
    };
    assert_eq!(selected(all.clone()), "cpu gpu");
    for (backend, ids) in [
        (Backend::Cpu, "cpu"),
        (Backend::Cuda, "gpu"),
        (Backend::Metal, "gpu"),
    ] {
        let backend = Some(backend);
        assert_eq!(
            selected(WorkerFilter {
                backend,
                ..all.clone()
            }),
            ids
        );
    }
    for (node, ids) in [("attic", "gpu"), ("local", "cpu"), ("other", "")] {
        let node = Some(node.parse().unwrap());
        assert_eq!(
            selected(WorkerFilter {
                node,
                ..all.clone()
            }),
            ids
        );
    }
    for (model, ids) in [("mock:a=1", "gpu"), ("builtin:haiku", "cpu")] {
        let model = Some(model.parse().unwrap());
        assert_eq!(
            selected(WorkerFilter {
                model,
                ..all.clone()
            }),
            ids
        );
    }
    for (status, ids) in [(WorkerStatus::Busy, "gpu"), (WorkerStatus::Ready, "cpu")] {
        let status = Some(status);
        assert_eq!(
            selected(WorkerFilter {
                status,
                ..all.clone()
            }),
            ids
        );
    }
}

#[test]
fn a_worker_that_reports_to_be_busy_has_no_free_slot_for_us() {
    let mut registry = WorkerRegistry::default();
    let mut beat = heartbeat("a", 1, 0);
    beat.worker.status = WorkerStatus::Busy;
    registry.heartbeat(beat, T0).unwrap();
    assert_eq!(free(&registry, T0), 0);
}

proptest! {
    /// A search by model examines only the workers that are listed for it.
    #[test]
    fn a_search_by_model_finds_what_a_search_of_all_finds(
        steps in prop::collection::vec((0..4_u32, 0..3_u64, 0..3_u32, 0..4_u32), 1..60)
    ) {
        let mut registry = WorkerRegistry::default();
        let models = ["mock:a=1", "mock:a=2", "mock:a=3"];
        for (step, (worker, generation, model, kind)) in steps.into_iter().enumerate() {
            let now = Duration::from_secs(step as u64 * 4);
            let id = format!("w{worker}");
            let mut beat = heartbeat(&id, generation + 1, step as u64);
            beat.worker.model_id = models[model as usize].parse().unwrap();
            match kind {
                0 => registry.remove(&spawn(&id, generation + 1)),
                1 => registry.fence(&id.parse().unwrap(), Generation(generation + 1)),
                2 => drop(registry.expire(now)),
                _ => drop(registry.heartbeat(beat, now)),
            }
            let all = registry.snapshot(&WorkerFilter::default(), now);
            prop_assert_eq!(registry.worker_count(), all.len());
            prop_assert_eq!(registry.workers.listed(), all.len());
            for model in models {
                let filter = WorkerFilter {
                    model: Some(model.parse().unwrap()),
                    ..WorkerFilter::default()
                };
                let expected = all.iter().filter(|entry| filter.matches(&entry.info));
                let expected: Vec<WorkerEntry> = expected.cloned().collect();
                prop_assert_eq!(registry.snapshot(&filter, now), expected);
            }
        }
    }
}
