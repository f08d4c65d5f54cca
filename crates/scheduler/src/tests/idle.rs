use super::*;

fn keep(limit: Option<Duration>) -> SchedulerEvent {
    SchedulerEvent::KeepLoaded(HAIKU.parse().unwrap(), limit)
}

fn unloaded(effects: &[SchedulerEffect]) -> Vec<SpawnId> {
    let spawns = effects.iter().filter_map(|effect| match effect {
        SchedulerEffect::StopWorker(spawn, StopCause::Idle) => Some(spawn.clone()),
        _ => None,
    });
    spawns.collect()
}

/// A scheduler with one worker.
fn loaded() -> Scheduler {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 2), 0, T0);
    s
}

fn tick(s: &mut Scheduler, now: Duration) -> Vec<SpawnId> {
    beat(s, worker("w", 1, 2), now.as_secs(), now);
    unloaded(&s.handle(SchedulerEvent::Tick, now))
}

#[test]
fn a_model_stays_loaded_unless_a_client_limits_it() {
    let mut s = loaded();
    assert_eq!(tick(&mut s, secs(100_000)), []);
    s.handle(keep(Some(secs(5))), secs(100_000));
    s.handle(keep(None), secs(100_001));
    assert_eq!(tick(&mut s, secs(200_000)), []);
}

#[test]
fn a_model_is_unloaded_once_after_its_idle_time() {
    let mut s = loaded();
    s.handle(keep(Some(secs(5))), secs(10));
    assert_eq!(tick(&mut s, secs(14)), []);
    assert_eq!(s.unloads(secs(14)).count(), 1);
    assert_eq!(tick(&mut s, secs(15)), [spawn_id("w", 1)]);
    assert_eq!(tick(&mut s, secs(30)), []);
    assert_eq!(s.unloads(secs(30)).count(), 0);
}

#[test]
fn the_idle_time_begins_when_the_last_request_has_ended() {
    let mut s = loaded();
    submit(&mut s, "r1", T0);
    s.handle(keep(Some(secs(5))), T0);
    assert_eq!(tick(&mut s, secs(20)), []);
    let finished = SchedulerEvent::Finished(id("r1"), RequestOutcome::Completed);
    s.handle(finished, secs(21));
    assert_eq!(tick(&mut s, secs(24)), []);
    assert_eq!(tick(&mut s, secs(26)), [spawn_id("w", 1)]);
}

#[test]
fn a_limit_of_zero_unloads_as_soon_as_no_request_runs_or_waits() {
    let mut s = loaded();
    submit(&mut s, "r1", T0);
    s.handle(keep(Some(T0)), T0);
    assert_eq!(tick(&mut s, secs(1)), []);
    let finished = SchedulerEvent::Finished(id("r1"), RequestOutcome::Cancelled);
    s.handle(finished, secs(2));
    assert_eq!(tick(&mut s, secs(2)), [spawn_id("w", 1)]);
}
