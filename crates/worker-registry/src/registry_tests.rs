use std::collections::HashMap;

use jiff::Timestamp;
use proptest::prelude::*;
use worker_contract::KvCacheUse;

use super::*;
use crate::SILENT_AFTER;

fn heartbeat(id: &str, generation: u64, sequence: u64) -> WorkerHeartbeat {
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
        },
        timestamp: Timestamp::UNIX_EPOCH,
        sequence,
    }
}

fn lease(id: &str, generation: u64) -> Lease {
    Lease {
        worker: id.parse().unwrap(),
        generation: Generation(generation),
    }
}

fn free(registry: &Registry, now: Duration) -> u32 {
    registry
        .candidates(&Filter::default(), now)
        .map(|c| c.free_slots)
        .sum()
}

const T0: Duration = Duration::ZERO;

#[test]
fn reservations_count_between_heartbeats() {
    let mut registry = Registry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&lease("a", 1));
    registry.reserve(&lease("a", 1));
    assert_eq!(free(&registry, T0), 0);
    registry.release(&lease("a", 1));
    assert_eq!(free(&registry, T0), 1);
}

#[test]
fn a_heartbeat_older_than_the_end_of_our_request_takes_no_slot_away() {
    let mut registry = Registry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&lease("a", 1));
    registry.release(&lease("a", 1));
    let mut late = heartbeat("a", 1, 1);
    late.worker.slots_free = 1;
    registry.heartbeat(late, T0).unwrap();
    assert_eq!(free(&registry, T0), 2);
}

#[test]
fn slots_that_others_take_are_not_ours() {
    let mut registry = Registry::default();
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
fn a_worker_that_says_it_is_full_is_asked_again_after_1_2_and_4_seconds() {
    let mut registry = Registry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    let mut now = T0;
    for pause in [1, 2, 4, 4] {
        registry.refused(&lease("a", 1), now);
        let until = now + Duration::from_secs(pause);
        assert_eq!(
            free(&registry, until.saturating_sub(Duration::from_millis(1))),
            0,
            "{pause}"
        );
        assert_eq!(free(&registry, until), 2, "{pause}");
        now = until;
    }
    registry.refused(&lease("a", 1), now);
    registry.heartbeat(heartbeat("a", 1, 1), now).unwrap();
    assert_eq!(free(&registry, now), 2, "a heartbeat ends the pause");
}

#[test]
fn the_requests_of_an_old_spawn_do_not_free_slots_of_the_new_one() {
    let mut registry = Registry::default();
    registry.heartbeat(heartbeat("a", 1, 0), T0).unwrap();
    registry.reserve(&lease("a", 1));
    registry.heartbeat(heartbeat("a", 2, 0), T0).unwrap();
    registry.reserve(&lease("a", 2));
    registry.release(&lease("a", 1));
    assert_eq!(registry.active(&"a".parse().unwrap()), 1);
    assert!(
        !registry.link_failed(&lease("a", 1)),
        "an old spawn's failure says nothing"
    );
    assert_eq!(free(&registry, T0), 1);
}

#[test]
fn a_stopped_worker_is_fenced_even_after_it_was_forgotten() {
    let mut registry = Registry::default();
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
    fn no_sequence_of_events_breaks_the_registry(ops in prop::collection::vec(op(), 1..300)) {
        let mut registry = Registry::default();
        let mut now = T0;
        let mut leases: Vec<Lease> = Vec::new();
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
                    let heard = registry.heartbeat(beat, now);
                    prop_assert_eq!(heard.is_err(), generation < *lowest);
                    match heard {
                        Ok(Heard::Stopped) => *lowest = generation + 1,
                        Ok(_) => *lowest = generation,
                        Err(_) => {}
                    }
                }
                Op::Fail { id, generation } => {
                    registry.link_failed(&lease(&name(id), generation));
                    let routed = registry.candidates(&Filter::default(), now)
                        .any(|c| c.lease() == lease(&name(id), generation));
                    prop_assert!(!routed, "a failed worker is out of routing at once");
                }
                Op::Full { id, generation } => registry.refused(&lease(&name(id), generation), now),
                Op::Fence { id, generation } => {
                    registry.fence(&name(id).parse().unwrap(), Generation(generation));
                    let lowest = highest.entry(name(id)).or_default();
                    *lowest = generation.max(*lowest);
                }
                Op::Reserve => {
                    let lease = registry.candidates(&Filter::default(), now).next().map(|c| c.lease());
                    if let Some(lease) = lease {
                        registry.reserve(&lease);
                        leases.push(lease);
                    }
                }
                Op::Release(at) => {
                    if !leases.is_empty() {
                        let lease = leases.swap_remove(at % leases.len());
                        registry.release(&lease);
                    }
                }
                Op::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    for gone in registry.expire(now) {
                        leases.retain(|lease| *lease != gone);
                    }
                }
            }
            // A worker that left took its requests' places along.
            leases.retain(|lease| {
                registry.get(&lease.worker).is_some_and(|info| info.generation == lease.generation)
            });
            for entry in registry.snapshot(&Filter::default(), now) {
                let held = leases.iter().filter(|l| l.worker == entry.info.id).count();
                prop_assert_eq!(entry.active_requests as usize, held);
                prop_assert!(entry.heartbeat_age_ms < REMOVED_AFTER.as_millis() as u64);
                prop_assert!(entry.info.generation.0 >= highest[entry.info.id.as_str()]);
                prop_assert!(entry.active_requests <= entry.info.slots_total, "overbooked");
            }
            for candidate in registry.candidates(&Filter::default(), now) {
                let entry = registry.snapshot(&Filter::default(), now).into_iter()
                    .find(|e| e.info.id == candidate.info.id).unwrap();
                prop_assert_eq!(entry.availability, Availability::Available);
                prop_assert!(entry.heartbeat_age_ms < SILENT_AFTER.as_millis() as u64);
                prop_assert!(candidate.free_slots + entry.active_requests <= entry.info.slots_total);
                prop_assert!(matches!(entry.info.status, WorkerStatus::Ready | WorkerStatus::Busy));
            }
        }
    }
}
