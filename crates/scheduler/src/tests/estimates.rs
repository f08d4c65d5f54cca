//! Positions and estimated waits, and the requests that are refused or end because of them.

use input_validation::Backend;
use queen_contract::QueueEntry;

use super::*;

const A: &str = "mock:a=1";

/// A scheduler with a worker of two slots whose requests take 10 s, and two running requests.
fn measured() -> (Scheduler, Duration) {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 2), 0, T0);
    let mut now = T0;
    for n in 0..3 {
        let name = format!("measured-{n}");
        submit(&mut s, &name, now);
        now += secs(10);
        let finished = SchedulerEvent::Finished(id(&name), RequestOutcome::Completed);
        s.handle(finished, now);
        beat(&mut s, worker("w", 1, 2), n + 1, now);
    }
    for name in ["running-1", "running-2"] {
        assert_eq!(assigned(&submit(&mut s, name, now)), pair(name, "w"));
    }
    (s, now)
}

fn submit_for(
    s: &mut Scheduler,
    name: &str,
    time: Duration,
    now: Duration,
) -> Result<Vec<SchedulerEffect>, Diagnostic> {
    s.submit(new_request(name, HAIKU, now + time), now)
}

fn finish(s: &mut Scheduler, name: &str, now: Duration) -> Vec<SchedulerEffect> {
    let finished = SchedulerEvent::Finished(id(name), RequestOutcome::Cancelled);
    s.handle(finished, now)
}

/// Id, position, number of waiting requests and estimate of each.
fn positions(effects: &[SchedulerEffect]) -> Vec<(String, usize, usize, Option<u64>)> {
    let positions = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::Waiting(id, waiting) => Some((
            id.to_string(),
            waiting.position,
            waiting.waiting,
            waiting.estimate.map(|time| time.as_secs()),
        )),
        _ => None,
    });
    positions.collect()
}

fn at(
    name: &str,
    position: usize,
    waiting: usize,
    seconds: u64,
) -> (String, usize, usize, Option<u64>) {
    (name.to_owned(), position, waiting, Some(seconds))
}

#[test]
fn clients_are_told_their_positions_and_estimates_as_they_change_but_not_too_often() {
    let (mut s, now) = measured();
    let first = submit(&mut s, "r1", now);
    assert_eq!(positions(&first), [at("r1", 1, 1, 5)], "10 s / 2 slots");
    assert_eq!(positions(&submit(&mut s, "r2", now)), [at("r2", 2, 2, 10)]);
    assert_eq!(positions(&submit(&mut s, "r3", now)), [at("r3", 3, 3, 15)]);
    assert_eq!(positions(&finish(&mut s, "r1", now)), []);
    let tick = |s: &mut Scheduler, millis| {
        positions(&s.handle(SchedulerEvent::Tick, now + Duration::from_millis(millis)))
    };
    assert_eq!(tick(&mut s, 999), []);
    let moved = [at("r2", 1, 2, 5), at("r3", 2, 2, 10)];
    assert_eq!(tick(&mut s, 1000), moved);
    assert_eq!(tick(&mut s, 3000), []);
    finish(&mut s, "r2", now);
    assert_eq!(tick(&mut s, 3000), [at("r3", 1, 1, 5)]);
}

#[test]
fn nothing_is_estimated_without_measurements() {
    let mut s = scheduler();
    let effects = submit(&mut s, "r1", T0);
    assert_eq!(positions(&effects), [("r1".to_owned(), 1, 1, None)]);
    beat(&mut s, worker("w", 1, 1), 0, T0);
    let effects = submit(&mut s, "r2", T0);
    assert_eq!(positions(&effects), [("r2".to_owned(), 1, 1, None)]);
    // Nor refused, however early the deadline is.
    submit_for(&mut s, "r3", Duration::from_millis(1), T0).unwrap();
}

#[test]
fn a_request_that_would_have_a_worker_only_after_its_deadline_is_refused() {
    let (mut s, now) = measured();
    for (name, seconds) in [("r1", 5), ("r2", 10)] {
        let early = Duration::from_millis(seconds * 1000 - 1);
        let error = submit_for(&mut s, "early", early, now).unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded);
        let details = error.details.unwrap();
        assert_eq!(details["estimated_wait_seconds"], seconds as f64);
        submit_for(&mut s, name, secs(seconds), now).unwrap();
    }
    let counts = s.counts();
    assert_eq!((counts.waiting, counts.failed), (2, 2));
    let decisions = s.decisions(Some("early"), 9, |_| Timestamp::UNIX_EPOCH);
    assert_eq!(decisions.len(), 2);
    // With a free slot, it would not wait.
    finish(&mut s, "running-1", now);
    finish(&mut s, "running-2", now);
    finish(&mut s, "r1", now);
    submit_for(&mut s, "soon", Duration::from_millis(1), now).unwrap();
}

#[test]
fn fewer_than_three_completed_requests_refuse_none() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 1), 0, T0);
    for (n, name) in (1..).zip(["a", "b"]) {
        submit(&mut s, name, T0);
        let completed = SchedulerEvent::Finished(id(name), RequestOutcome::Completed);
        s.handle(completed, secs(10));
        beat(&mut s, worker("w", 1, 1), n, secs(10));
    }
    submit(&mut s, "running", secs(10));
    submit_for(&mut s, "r1", secs(1), secs(10)).unwrap();
}

#[test]
fn requests_for_other_workers_do_not_delay() {
    let (mut s, now) = measured();
    for n in 0..9 {
        let mut other = new_request(&format!("gpu-{n}"), HAIKU, now + secs(600));
        other.requirements.node = Some("local".parse().unwrap());
        s.submit(other, now).unwrap();
    }
    submit_for(&mut s, "r1", secs(5), now).unwrap();
}

#[test]
fn a_deadline_in_the_past_is_refused_at_once() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 1), 0, T0);
    let refused = s.submit(new_request("r1", HAIKU, secs(7)), secs(7));
    assert_eq!(refused.unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(s.counts().failed, 1);
}

/// Loads model `a` in this time, and unloads it.
fn load(s: &mut Scheduler, generation: u64, seconds: u64, now: &mut Duration) {
    let request = new_request("load", A, *now + secs(600));
    let target = SpawnTarget {
        model: A.parse().unwrap(),
        node: "local".parse().unwrap(),
        backend: Backend::Cpu,
        device: None,
    };
    assert_eq!(spawns(&s.submit(request, *now).unwrap()), 1);
    *now += secs(seconds);
    let spawned = SchedulerEvent::Spawned(target, spawn_id("a", generation));
    s.handle(spawned, *now);
    let mut info = worker("a", generation, 1);
    info.model_id = A.parse().unwrap();
    assert_eq!(assigned(&beat(s, info, 0, *now)), pair("load", "a"));
    finish(s, "load", *now);
    let gone = SchedulerEvent::Fence("a".parse().unwrap(), Generation(generation + 1));
    s.handle(gone, *now);
}

#[test]
fn the_time_to_load_counts_once_it_was_measured_twice() {
    let mut s = scheduler();
    let mut now = T0;
    load(&mut s, 1, 100, &mut now);
    // The first load may have included the download.
    let request = |name, time, now: Duration| new_request(name, A, now + time);
    let effects = s.submit(request("r1", secs(1), now), now).unwrap();
    assert_eq!(positions(&effects), [at("r1", 1, 1, 100)]);
    finish(&mut s, "r1", now);
    s.handle(
        SchedulerEvent::SpawnFailed(
            SpawnTarget {
                model: A.parse().unwrap(),
                ..target()
            },
            Diagnostic::new(Code::InvalidModelFile, "no"),
        ),
        now,
    );
    load(&mut s, 2, 20, &mut now);
    let refused = s.submit(request("r2", secs(19), now), now);
    assert_eq!(refused.unwrap_err().code, Code::DeadlineExceeded);
    let effects = s.submit(request("r3", secs(20), now), now).unwrap();
    assert_eq!(
        (spawns(&effects), positions(&effects)),
        (1, vec![at("r3", 1, 1, 20)])
    );
    // Part of the time has passed.
    now += secs(15);
    let effects = s.submit(request("r4", secs(5), now), now).unwrap();
    assert_eq!(positions(&effects), [at("r4", 2, 2, 5)]);
    let refused = s.submit(request("r5", secs(4), now), now);
    assert_eq!(refused.unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn the_queues_are_listed_by_model_and_priority() {
    let (mut s, now) = measured();
    assert_eq!(s.queues(now), []);
    submit(&mut s, "r1", now);
    submit(&mut s, "r2", now + secs(1));
    let batch = NewRequest {
        priority: Priority::Batch,
        ..new_request("batch", HAIKU, secs(600))
    };
    s.submit(batch, now + secs(2)).unwrap();
    let queue = QueueEntry {
        model: HAIKU.parse().unwrap(),
        interactive: 2,
        batch: 1,
        oldest_wait_ms: 3000,
        estimated_seconds: Some(15),
    };
    assert_eq!(s.queues(now + secs(3)), [queue]);
}

#[test]
fn interactive_requests_are_assigned_before_batch_requests_and_clients_take_turns() {
    let (mut s, now) = measured();
    let mut submit_as = |name: &str, client, priority| {
        let request = NewRequest {
            client: ClientKey::new(client),
            priority,
            ..new_request(name, HAIKU, now + secs(600))
        };
        s.submit(request, now).unwrap();
    };
    submit_as("batch", 1, Priority::Batch);
    submit_as("x1", 1, Priority::Interactive);
    submit_as("x2", 1, Priority::Interactive);
    submit_as("y1", 2, Priority::Interactive);
    let mut order = vec!["running-1".to_owned()];
    for n in 0..4 {
        let effects = finish(&mut s, &order[n].clone(), now);
        order.push(assigned(&effects)[0].0.clone());
    }
    assert_eq!(order[1..], ["x1", "y1", "x2", "batch"]);
}

#[test]
fn a_new_worker_serves_as_many_requests_as_it_has_slots_when_it_has_loaded() {
    let mut s = scheduler();
    submit(&mut s, "measured", T0);
    let now = secs(20);
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), now);
    beat(&mut s, worker("w", 1, 2), 0, now);
    let now = secs(30);
    let completed = SchedulerEvent::Finished(id("measured"), RequestOutcome::Completed);
    s.handle(completed, now);
    s.handle(
        SchedulerEvent::Fence("w".parse().unwrap(), Generation(2)),
        now,
    );
    assert_eq!(positions(&submit(&mut s, "r1", now)), [at("r1", 1, 1, 20)]);
    let mut loading = worker("w", 2, 2);
    loading.status = WorkerStatus::Starting;
    beat(&mut s, loading, 0, now);
    for (name, position, seconds) in [("r2", 2, 20), ("r3", 3, 30), ("r4", 4, 30), ("r5", 5, 40)] {
        let effects = submit(&mut s, name, now);
        assert_eq!(positions(&effects), [at(name, position, position, seconds)]);
    }
}

#[test]
fn of_several_workers_that_load_the_first_one_counts() {
    let mut s = with_nodes(&[
        ("local", NodeFacts::default()),
        ("attic", NodeFacts::default()),
    ]);
    let request = |name, node: &str, now| {
        let mut request = new_request(name, HAIKU, now + secs(600));
        request.requirements.node = Some(node.parse().unwrap());
        request
    };
    s.submit(request("measured", "local", T0), T0).unwrap();
    let now = secs(20);
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), now);
    beat(&mut s, worker("w", 1, 2), 0, now);
    s.handle(
        SchedulerEvent::Fence("w".parse().unwrap(), Generation(2)),
        now,
    );
    finish(&mut s, "measured", now);
    let effects = s
        .submit(request("r1", "local", secs(40)), secs(40))
        .unwrap();
    assert_eq!(
        (spawns(&effects), positions(&effects)),
        (1, vec![at("r1", 1, 1, 20)])
    );
    let effects = s
        .submit(request("r2", "attic", secs(50)), secs(50))
        .unwrap();
    assert_eq!(
        (spawns(&effects), positions(&effects)),
        (1, vec![at("r2", 2, 2, 10)])
    );
}
