use super::{
    tests::{T0, heartbeat, spawn},
    *,
};
use crate::RECOVERY_LIMIT;

fn stepped(sequence: u64, last_step_ms: u64) -> WorkerHeartbeat {
    let mut beat = heartbeat("a", 1, sequence);
    beat.worker.last_step_ms = Some(last_step_ms);
    beat
}

#[test]
fn a_stalled_worker_recovers_with_a_later_step_and_is_lost_after_10_seconds_without_one() {
    let second = Duration::from_secs(1);
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(stepped(0, 0), second).unwrap();
    assert!(registry.stalled(&spawn("a", 1), 5 * second));
    assert!(!registry.stalled(&spawn("a", 1), 6 * second), "known");
    assert!(!registry.stalled(&spawn("a", 2), 6 * second), "of another");
    // The last step at the time of the stall is not later than it.
    registry.heartbeat(stepped(1, 1000), 6 * second).unwrap();
    registry.heartbeat(stepped(2, 9000), 14 * second).unwrap();
    let almost = Duration::from_millis(14_999);
    assert_eq!(registry.lost_to_stall(almost), []);
    assert_eq!(registry.lost_to_stall(15 * second), [spawn("a", 1)]);
    registry.heartbeat(stepped(3, 8999), 14 * second).unwrap();
    assert_eq!(registry.lost_to_stall(20 * second), []);
    assert!(registry.stalled(&spawn("a", 1), 20 * second), "again");
}

#[test]
fn a_stalled_worker_that_is_being_stopped_is_not_lost() {
    let mut registry = WorkerRegistry::default();
    registry.heartbeat(stepped(0, 0), T0).unwrap();
    registry.stalled(&spawn("a", 1), T0);
    registry.set_stopping(&spawn("a", 1));
    assert_eq!(registry.lost_to_stall(RECOVERY_LIMIT), []);
}

#[test]
fn only_lost_workers_that_are_loading_are_removed() {
    let mut registry = WorkerRegistry::default();
    for (id, status) in [
        ("a", WorkerStatus::Starting),
        ("b", WorkerStatus::Starting),
        ("c", WorkerStatus::Ready),
    ] {
        let mut beat = heartbeat(id, 1, 0);
        beat.worker.status = status;
        registry.heartbeat(beat, T0).unwrap();
    }
    registry.remove_starting(|worker| worker.id.as_str() != "b");
    let left = registry.snapshot(&WorkerFilter::default(), T0);
    let left: Vec<&str> = left.iter().map(|entry| entry.info.id.as_str()).collect();
    assert_eq!(left, ["b", "c"]);
}
