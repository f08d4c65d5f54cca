//! The words for decisions.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, Generation};
use worker_registry::SpawnId;

use super::*;
use crate::decisions::Shortlist;

const GIB_BYTES: u64 = 1 << 30;

fn candidate(name: &str) -> RouteCandidate {
    RouteCandidate {
        worker: name.parse().unwrap(),
        node: "attic".parse().unwrap(),
        free_slots: 1,
        slots: 4,
        cached: 0,
        failed_before: false,
        node_failed_before: false,
        opinion: Opinion::None,
    }
}

fn routed(attempt: u32, candidates: Vec<RouteCandidate>) -> Decision {
    let event = Event::Routed {
        request: "r".parse().unwrap(),
        model: "mock:a=1".parse().unwrap(),
        attempt,
        candidates: Shortlist::of_sorted(candidates),
    };
    event.describe(Timestamp::UNIX_EPOCH)
}

fn target() -> SpawnTarget {
    SpawnTarget {
        model: "mock:a=1".parse().unwrap(),
        node: "attic".parse().unwrap(),
        backend: Backend::Cuda,
        device: None,
    }
}

fn place(node: &str, backend: Backend, verdict: PlaceVerdict) -> PlaceCandidate {
    PlaceCandidate {
        node: node.parse().unwrap(),
        backend,
        verdict,
    }
}

fn possible(has_files: bool, opinion: Opinion) -> PlaceVerdict {
    PlaceVerdict::Possible {
        asleep: false,
        has_files,
        free_bytes: 0,
        starting: false,
        paused: false,
        broken: false,
        needs_room: false,
        opinion,
    }
}

#[test]
fn the_reason_for_a_worker_names_what_decided() {
    let cached = || RouteCandidate {
        cached: 2,
        ..candidate("w")
    };
    let scored = || RouteCandidate {
        opinion: Opinion::Score(1.5),
        ..cached()
    };
    let other = || candidate("x");
    for (attempt, candidates, reason) in [
        (
            1,
            vec![scored()],
            "it is the only worker that can run the request now",
        ),
        (
            1,
            vec![other(), other(), other()],
            "it has the least load of 3 workers",
        ),
        (
            1,
            vec![cached(), other()],
            "of 2 workers, it computed the beginning of the prompt before",
        ),
        (
            1,
            vec![other(), cached()],
            "it has the least load of 2 workers",
        ),
        (
            3,
            vec![other(), scored()],
            "attempt 3: it comes first of 2 workers by the policy",
        ),
    ] {
        assert_eq!(routed(attempt, candidates).reason, reason);
    }
}

#[test]
fn of_many_workers_the_first_is_chosen_and_the_others_are_counted() {
    let candidates = (0..11).map(|n| candidate(&format!("w{n}"))).collect();
    let decision = routed(1, candidates);
    assert_eq!(decision.reason, "it has the least load of 11 workers");
    assert_eq!(decision.more_candidates, 3);
    let chosen = decision.candidates.iter().filter(|c| c.chosen);
    let chosen: Vec<&str> = chosen.map(|c| c.name.as_str()).collect();
    assert_eq!((decision.candidates.len(), chosen), (8, vec!["w0"]));
}

#[test]
fn the_note_of_a_worker_says_what_counts_for_and_against_it() {
    let with = |cached, failed_before, node_failed_before, opinion| RouteCandidate {
        cached,
        failed_before,
        node_failed_before,
        opinion,
        ..candidate("w")
    };
    for (candidate, rest) in [
        (with(0, false, false, Opinion::None), ""),
        (
            with(1, false, false, Opinion::None),
            "; computed the beginning of the prompt before",
        ),
        (
            with(0, true, true, Opinion::None),
            "; it failed this request before",
        ),
        (
            with(0, false, true, Opinion::Score(2.0)),
            "; a worker of its node failed this request before; score of the policy: 2",
        ),
        (
            with(0, false, false, Opinion::Refused("late".into())),
            "; the policy refuses it: late",
        ),
    ] {
        let note = format!("node attic, 1 of 4 slots free{rest}");
        assert_eq!(route_note(&candidate), note);
    }
}

#[test]
fn the_note_of_an_unusable_worker_says_why_it_is_unusable() {
    use Availability::{Available, Failed, Silent, Stalled, Stopping};
    use WorkerStatus::{Busy, Draining, Ready, Starting, Stopped};
    for (availability, status, note) in [
        (Silent, Starting, "it sends no heartbeats"),
        (Failed, Ready, "a connection to it failed"),
        (Stalled, Busy, "it computes nothing"),
        (Stopping, Ready, "it is being stopped"),
        (Available, Draining, "it is being stopped"),
        (Available, Stopped, "it is being stopped"),
        (Available, Starting, "it loads the model"),
        (Available, Ready, "all its slots are busy"),
        (Available, Busy, "all its slots are busy"),
    ] {
        let worker = UnusableWorker {
            worker: "w".parse().unwrap(),
            status,
            availability,
        };
        assert_eq!(unusable(&worker).note, note, "{availability:?} {status:?}");
    }
}

#[test]
fn the_reason_for_a_wait_names_the_place_and_the_time() {
    let backoff = WaitReason::Backoff {
        remaining: Duration::from_millis(1200),
    };
    for (reason, at_none, at_place) in [
        (
            WaitReason::Loading,
            "a worker is starting or loading the model",
            "a worker is starting or loading the model on node attic (cuda)",
        ),
        (
            WaitReason::Memory,
            "the model needs memory that other models use",
            "the model needs memory on node attic (cuda) that other models use",
        ),
        (
            backoff,
            "the last start failed; the next attempt is in 2 s",
            "the last start on node attic (cuda) failed; the next attempt is in 2 s",
        ),
    ] {
        assert_eq!(waits(reason, None), at_none);
        assert_eq!(waits(reason, Some(&target())), at_place);
    }
    let busy = WaitReason::Busy { waiting: 4 };
    assert_eq!(
        waits(busy, None),
        "all slots are busy; requests that wait for the model: 4"
    );
}

#[test]
fn the_reason_for_a_start_names_what_decided() {
    let at = |verdict| place("attic", Backend::Cuda, verdict);
    let refused = || PlaceVerdict::RefusedByPolicy("noise".into());
    let other = |verdict| place("attic", Backend::Cpu, verdict);
    for (places, reason) in [
        (
            vec![at(possible(true, Opinion::None))],
            "its files are on this node",
        ),
        (
            // The other backend of the node is not the place.
            vec![
                other(possible(true, Opinion::None)),
                at(possible(false, Opinion::None)),
            ],
            "this place has the most free memory",
        ),
        (
            vec![at(possible(true, Opinion::Score(1.0)))],
            "this place comes first by the policy",
        ),
        (
            vec![at(possible(true, Opinion::None)), other(refused())],
            "this place comes first by the policy",
        ),
        (Vec::new(), "the request names this node"),
    ] {
        let event = Event::Spawns {
            request: "r".parse().unwrap(),
            target: target(),
            places,
        };
        let decision = event.describe(Timestamp::UNIX_EPOCH);
        assert_eq!(
            decision.reason,
            format!("no worker has the model; {reason}")
        );
        let mut chosen = decision.candidates.iter().filter(|c| c.chosen);
        assert!(chosen.all(|candidate| candidate.name == "attic cuda"));
    }
}

#[test]
fn the_note_of_a_place_says_what_counts_for_and_against_it() {
    let note = |verdict| place_candidate(&place("attic", Backend::Cpu, verdict), false).note;
    let with = |free_bytes, starting, paused, broken, needs_room| PlaceVerdict::Possible {
        asleep: false,
        has_files: false,
        free_bytes,
        starting,
        paused,
        broken,
        needs_room,
        opinion: Opinion::None,
    };
    for (verdict, rest) in [
        (with(0, false, false, false, false), ""),
        (with(1, false, false, false, false), ", 0.0 GiB free"),
        (
            with(5 * GIB_BYTES / 2, true, false, false, false),
            ", 2.5 GiB free; the node is being connected",
        ),
        (
            with(0, false, true, false, false),
            "; a start failed a short time ago",
        ),
        (
            with(0, false, false, true, true),
            "; starts failed too often; other models use its memory",
        ),
    ] {
        assert_eq!(note(verdict), format!("does not have the files{rest}"));
    }
    let down = PlaceVerdict::Down("no route".into());
    assert_eq!(note(down), "the node is down: no route");
}

#[test]
fn an_attempt_that_failed_says_why_and_whether_another_follows() {
    let refused = || Diagnostic::new(Code::Internal, "broken");
    for (error, again, reason) in [
        (
            None,
            true,
            "the worker has no free slot; another worker is tried",
        ),
        (Some(refused()), true, "broken; another worker is tried"),
        (Some(refused()), false, "broken; no further attempt"),
    ] {
        let event = Event::AttemptFailed {
            request: "r".parse().unwrap(),
            model: "mock:a=1".parse().unwrap(),
            spawn: SpawnId {
                worker: "w".parse().unwrap(),
                generation: Generation(1),
            },
            error,
            again,
        };
        assert_eq!(event.describe(Timestamp::UNIX_EPOCH).reason, reason);
    }
}

#[test]
fn starts_on_nodes_in_connection_or_after_failures_are_unlikely_or_doubtful() {
    // Connecting, paused, broken: unlikely, doubtful.
    for (starting, paused, broken, unlikely, doubtful) in [
        (false, false, false, false, false),
        (true, false, false, true, false),
        (false, true, false, false, true),
        (false, false, true, true, true),
    ] {
        let verdict = PlaceVerdict::Possible {
            asleep: false,
            has_files: true,
            free_bytes: 1,
            starting,
            paused,
            broken,
            needs_room: true,
            opinion: Opinion::None,
        };
        assert_eq!(verdict.is_unlikely(), unlikely, "{verdict:?}");
        assert_eq!(verdict.is_doubtful(), doubtful, "{verdict:?}");
    }
    assert!(!PlaceVerdict::NoDevice.is_unlikely() && !PlaceVerdict::NoDevice.is_doubtful());
}
