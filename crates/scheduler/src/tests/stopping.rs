//! Workers that stall, and workers that users stop.

use super::*;
use queen_contract::Availability;
use worker_registry::WorkerFilter;

fn stalled() -> AttemptFailure {
    AttemptFailure::Stalled(Diagnostic::new(Code::WorkerStalled, "no output for 60 s"))
}

fn stops(effects: &[SchedulerEffect]) -> Vec<(SpawnId, StopCause)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::StopWorker(spawn, cause) => Some((spawn.clone(), *cause)),
        _ => None,
    });
    stops.collect()
}

fn fails(
    s: &mut Scheduler,
    request: &str,
    failure: AttemptFailure,
    now: Duration,
) -> Vec<SchedulerEffect> {
    s.handle(SchedulerEvent::AttemptFailed(id(request), failure), now)
}

fn availability(s: &Scheduler, now: Duration) -> Availability {
    s.registry().snapshot(&WorkerFilter::default(), now)[0].availability
}

/// Workers of two slots, named as listed.
fn serving(names: &[&str]) -> Scheduler {
    let mut s = scheduler();
    for name in names {
        beat(&mut s, worker(name, 1, 2), 0, T0);
    }
    s
}

#[test]
fn a_stalled_worker_receives_no_requests_although_it_sends_heartbeats() {
    let mut s = serving(&["w"]);
    submit(&mut s, "r1", T0);
    let effects = fails(&mut s, "r1", stalled(), secs(60));
    assert_eq!(spawns(&effects), 1, "the request continues on a new worker");
    let mut info = worker("w", 1, 2);
    info.last_step_ms = Some(65_000);
    let effects = beat(&mut s, info, 1, secs(65));
    assert_eq!(assigned(&effects), []);
    assert_eq!(assigned(&submit(&mut s, "r2", secs(66))), []);
    assert_eq!(availability(&s, secs(66)), Availability::Stalled);
}

#[test]
fn a_stalled_worker_is_stopped_once_unless_it_recovers() {
    for (last_step_ms, recovers) in [(None, false), (Some(66_000), false), (Some(4_999), true)] {
        let mut s = serving(&["w"]);
        submit(&mut s, "r1", T0);
        fails(&mut s, "r1", stalled(), secs(60));
        let mut info = worker("w", 1, 2);
        info.last_step_ms = last_step_ms;
        let effects = beat(&mut s, info, 1, secs(65));
        assert_eq!(
            assigned(&effects).len(),
            usize::from(recovers),
            "{last_step_ms:?}"
        );
        assert_eq!(stops(&s.handle(SchedulerEvent::Tick, secs(69))), []);
        let stopped = stops(&s.handle(SchedulerEvent::Tick, secs(70)));
        let expected = [(spawn_id("w", 1), StopCause::Stalled)];
        assert_eq!(
            stopped,
            expected[usize::from(recovers)..],
            "{last_step_ms:?}"
        );
        assert_eq!(stops(&s.handle(SchedulerEvent::Tick, secs(71))), []);
    }
}

#[test]
fn a_request_of_a_stalled_worker_continues_on_another_one() {
    let mut s = serving(&["a", "b"]);
    assert_eq!(assigned(&submit(&mut s, "r1", T0)), pair("r1", "a"));
    let effects = fails(&mut s, "r1", stalled(), secs(10));
    assert_eq!(assigned(&effects), pair("r1", "b"));
    assert_eq!(spawns(&effects), 0);
}

#[test]
fn several_requests_on_a_stalled_worker_count_as_one_crash() {
    let mut s = serving(&["w"]);
    for name in ["r1", "r2"] {
        submit(&mut s, name, T0);
    }
    for name in ["r1", "r2"] {
        fails(&mut s, name, stalled(), secs(10));
    }
    let (_, target) = s.targets().next().unwrap();
    assert_eq!(target.pause(secs(10)), T0);
}

/// One request runs on a worker, another one waits; then a user stops it.
fn stopped_by_user(names: &[&str]) -> (Scheduler, Vec<SchedulerEffect>) {
    let mut s = serving(names);
    for n in 0..=2 * names.len() {
        submit(&mut s, &format!("r{n}"), T0);
    }
    let effects = s.handle(SchedulerEvent::Stopping(spawn_id(names[0], 1)), T0);
    (s, effects)
}

#[test]
fn no_worker_is_spawned_for_requests_of_a_worker_that_a_user_stops() {
    let (mut s, effects) = stopped_by_user(&["w"]);
    assert_eq!(failures(&effects), [("r2".to_owned(), Code::Draining)]);
    let effects = fails(&mut s, "r0", broke(), secs(1));
    let [SchedulerEffect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::Draining);
    assert_eq!(
        error.message,
        "worker w was stopped before the request was complete"
    );
    let refused = AttemptFailure::Refused(Diagnostic::new(Code::Draining, "draining"));
    let effects = fails(&mut s, "r1", refused, secs(1));
    assert_eq!(failures(&effects), [("r1".to_owned(), Code::Draining)]);
    assert_eq!(s.counts().running, 0);
}

#[test]
fn a_request_that_arrives_after_the_stop_spawns_a_worker_at_once() {
    let (mut s, _) = stopped_by_user(&["w"]);
    for name in ["r0", "r1"] {
        fails(&mut s, name, broke(), T0);
    }
    assert_eq!(spawns(&submit(&mut s, "later", T0)), 1);
    s.handle(
        SchedulerEvent::Fence("w".parse().unwrap(), Generation(2)),
        T0,
    );
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 2)), T0);
    let effects = beat(&mut s, worker("w", 2, 2), 0, T0);
    assert_eq!(assigned(&effects), pair("later", "w"));
}

#[test]
fn requests_of_a_worker_that_a_user_stops_continue_on_another_one() {
    let (mut s, effects) = stopped_by_user(&["a", "b"]);
    assert_eq!(effects, [], "the waiting request waits for b");
    let done = SchedulerEvent::Finished(id("r1"), RequestOutcome::Completed);
    assert_eq!(assigned(&s.handle(done, T0)), pair("r4", "b"));
    let done = SchedulerEvent::Finished(id("r3"), RequestOutcome::Completed);
    s.handle(done, T0);
    let effects = fails(&mut s, "r0", broke(), T0);
    assert_eq!(assigned(&effects), pair("r0", "b"));
    // From here on, it is a request of b: a crash of b spawns a worker.
    let crashed = AttemptFailure::Crashed(Diagnostic::new(Code::WorkerCrashed, "signal 9"));
    assert_eq!(spawns(&fails(&mut s, "r0", crashed, T0)), 1);
}
