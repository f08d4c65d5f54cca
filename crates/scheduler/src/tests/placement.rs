//! Which of several available workers a request is assigned to.

use super::*;

/// A worker with some of its slots used by other clients.
fn used(name: &str, slots: u32, used: u32) -> WorkerInfo {
    let mut info = worker(name, 1, slots);
    info.slots_free = slots - used;
    info
}

/// Returns the worker that a request is assigned to.
fn chosen(workers: &[WorkerInfo]) -> String {
    let mut s = scheduler();
    for worker in workers {
        beat(&mut s, worker.clone(), 0, T0);
    }
    let [(_, worker)] = &assigned(&submit(&mut s, "r", T0))[..] else {
        panic!("not assigned")
    };
    worker.clone()
}

#[test]
fn the_lowest_share_of_busy_slots_is_chosen_whatever_the_number_of_free_slots() {
    for (a, b, expected) in [
        (used("a", 4, 1), used("b", 2, 0), "b"),
        (used("a", 10, 5), used("b", 2, 0), "b"),
        (used("a", 3, 1), used("b", 4, 2), "a"),
        (used("a", 4, 2), used("b", 3, 1), "b"),
        (used("a", 4, 3), used("b", 100, 76), "a"),
    ] {
        assert_eq!(chosen(&[a.clone(), b.clone()]), expected, "{a:?} {b:?}");
    }
}

#[test]
fn with_equal_shares_the_most_free_slots_are_chosen_then_the_lowest_id() {
    assert_eq!(chosen(&[used("a", 4, 1), used("b", 8, 2)]), "b");
    assert_eq!(chosen(&[used("a", 8, 2), used("b", 4, 1)]), "a");
    assert_eq!(chosen(&[worker("a", 1, 1), worker("b", 1, 2)]), "b");
    assert_eq!(chosen(&[used("b", 4, 1), used("a", 4, 1)]), "a");
}

#[test]
fn a_full_worker_is_not_chosen() {
    assert_eq!(chosen(&[used("a", 4, 4), used("b", 4, 3)]), "b");
}

#[test]
fn the_worker_that_just_failed_the_request_is_chosen_only_if_no_other_is_available() {
    let fault = || AttemptFailure::Fault(Diagnostic::new(Code::Internal, "bug"));
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 4), 0, T0);
    beat(&mut s, used("b", 4, 3), 0, T0);
    assert_eq!(assigned(&submit(&mut s, "r", T0)), pair("r", "a"));
    let failed = |s: &mut Scheduler| {
        assigned(&s.handle(SchedulerEvent::AttemptFailed(id("r"), fault()), T0))
    };
    assert_eq!(failed(&mut s), pair("r", "b"), "although it has more load");

    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 4), 0, T0);
    submit(&mut s, "r", T0);
    assert_eq!(failed(&mut s), pair("r", "a"));
}

#[test]
fn after_a_failure_a_worker_of_another_node_is_preferred() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 4), 0, T0);
    submit(&mut s, "r", T0);
    beat(&mut s, worker("b", 1, 4), 0, T0);
    let mut elsewhere = used("c", 4, 3);
    elsewhere.hive_id = "attic".parse().unwrap();
    beat(&mut s, elsewhere, 0, T0);
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r"), broke()), T0);
    assert_eq!(assigned(&effects), pair("r", "c"));
}

#[test]
fn a_new_spawn_of_the_worker_that_failed_is_not_avoided() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 4), 0, T0);
    submit(&mut s, "r", T0);
    beat(&mut s, worker("a", 2, 4), 0, T0);
    beat(&mut s, used("b", 4, 3), 0, T0);
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r"), broke()), T0);
    assert_eq!(assigned(&effects), pair("r", "a"));
}

#[test]
fn requirements_restrict_the_choice() {
    let elsewhere = |name: &str, node: &str, device: &str| {
        let mut info = worker(name, 1, 4);
        info.hive_id = node.parse().unwrap();
        info.device = device.parse().unwrap();
        info
    };
    let mut s = scheduler();
    beat(&mut s, elsewhere("a", "local", "CPU-0"), 0, T0);
    beat(&mut s, elsewhere("b", "attic", "CPU-0"), 0, T0);
    beat(&mut s, elsewhere("c", "local", "GPU-0"), 0, T0);
    for (name, node, backend, expected) in [
        ("r1", Some("attic"), None, "b"),
        ("r2", None, Some(input_validation::Backend::Cuda), "c"),
        (
            "r3",
            Some("local"),
            Some(input_validation::Backend::Cpu),
            "a",
        ),
    ] {
        let mut request = new_request(name, HAIKU, secs(9));
        request.requirements.node = node.map(|node| node.parse().unwrap());
        request.requirements.backend = backend;
        assert_eq!(
            assigned(&s.submit(request, T0).unwrap()),
            pair(name, expected)
        );
    }
}

/// Submits a request with these beginnings of its prompt, and returns its worker.
fn routed(s: &mut Scheduler, request: &str, prompt: &[u64]) -> String {
    let new = NewRequest {
        prompt: PromptPrefixes::new(prompt.to_vec(), 0),
        ..new_request(request, HAIKU, secs(600))
    };
    let effects = s.submit(new, T0).unwrap();
    let [(_, worker)] = &assigned(&effects)[..] else {
        panic!("not assigned")
    };
    worker.clone()
}

#[test]
fn a_prompt_goes_where_its_beginning_was_computed_unless_that_worker_is_much_busier() {
    let mut s = scheduler();
    for name in ["a", "b"] {
        beat(&mut s, worker(name, 1, 4), 0, T0);
    }
    assert_eq!(routed(&mut s, "1", &[1, 2]), "a");
    assert_eq!(
        routed(&mut s, "2", &[7]),
        "b",
        "it is unknown, and b is idle"
    );
    assert_eq!(
        routed(&mut s, "3", &[1, 2, 3]),
        "a",
        "although a is as busy as b"
    );
    let why = s.decisions(Some("3"), 10, |_| Timestamp::UNIX_EPOCH);
    assert_eq!(
        why[0].reason,
        "of 2 workers, it computed the beginning of the prompt before"
    );
    // Other clients use most of its slots.
    beat(&mut s, used("a", 8, 7), 1, T0);
    assert_eq!(routed(&mut s, "4", &[1, 2]), "b");
    beat(&mut s, worker("a", 1, 8), 2, T0);
    assert_eq!(
        routed(&mut s, "5", &[1, 2, 3]),
        "a",
        "its beginning is longer"
    );
}

#[test]
fn a_worker_that_failed_a_request_is_avoided_although_it_has_the_prompt_in_its_cache() {
    let mut s = scheduler();
    for name in ["a", "b"] {
        beat(&mut s, worker(name, 1, 4), 0, T0);
    }
    assert_eq!(routed(&mut s, "1", &[1]), "a");
    let fault = AttemptFailure::Fault(Diagnostic::new(Code::Internal, "bug"));
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("1"), fault), T0);
    assert_eq!(assigned(&effects), pair("1", "b"));
}
