use super::*;
use input_validation::Backend;
use queen_contract::RequestCounts;
use worker_registry::WorkerFilter;

#[test]
fn requests_for_an_absent_model_spawn_one_worker_and_run_in_order() {
    let mut s = scheduler();
    let first = submit(&mut s, "r1", T0);
    assert_eq!(spawns(&first), 1);
    assert!(waits(&first) == [("r1".to_owned(), WaitReason::Loading)]);
    for n in 2..5 {
        assert_eq!(spawns(&submit(&mut s, &format!("r{n}"), T0)), 0);
    }
    let waiting: Vec<String> = s.waiting_for(&target()).map(ToString::to_string).collect();
    assert_eq!(waiting, ["r1", "r2", "r3", "r4"]);
    assert!(
        s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), secs(1))
            .is_empty()
    );
    let effects = beat(&mut s, worker("w", 1, 2), 0, secs(1));
    assert_eq!(
        assigned(&effects),
        [pair("r1", "w"), pair("r2", "w")].concat()
    );
    let effects = s.handle(
        SchedulerEvent::Finished(id("r2"), RequestOutcome::Completed),
        secs(2),
    );
    assert_eq!(assigned(&effects), pair("r3", "w"));
    assert_eq!(s.counts().running, 2);
    assert_eq!(s.counts().waiting, 1);
}

#[test]
fn the_least_loaded_worker_is_chosen() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 4), 0, T0);
    beat(&mut s, worker("b", 1, 4), 0, T0);
    let chosen: Vec<_> = (0..6)
        .flat_map(|n| assigned(&submit(&mut s, &format!("r{n}"), T0)))
        .map(|(_, worker)| worker)
        .collect();
    assert_eq!(chosen, ["a", "b", "a", "b", "a", "b"]);
}

#[test]
fn a_failed_spawn_fails_waiting_requests_and_delays_the_next_spawn() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    let error = Diagnostic::new(Code::WorkerStartFailed, "exit 1");
    let effects = s.handle(SchedulerEvent::SpawnFailed(target(), error), T0);
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerStartFailed)]
    );
    let effects = submit(&mut s, "r2", T0);
    assert_eq!(spawns(&effects), 0);
    assert!(matches!(
        effects[..],
        [SchedulerEffect::Waiting(
            _,
            Waiting {
                reason: WaitReason::Backoff { .. },
                ..
            }
        )]
    ));
    assert_eq!(
        spawns(&s.handle(SchedulerEvent::Tick, Duration::from_millis(900))),
        0
    );
    assert_eq!(spawns(&s.handle(SchedulerEvent::Tick, secs(1))), 1);
}

#[test]
fn an_unusable_model_is_refused_without_delay_every_time() {
    let mut s = scheduler();
    for n in 0..9 {
        let name = format!("r{n}");
        assert_eq!(spawns(&submit(&mut s, &name, T0)), 1);
        let error = Diagnostic::new(Code::UnsupportedQuantization, "IQ2");
        let effects = s.handle(SchedulerEvent::SpawnFailed(target(), error), T0);
        assert_eq!(failures(&effects), [(name, Code::UnsupportedQuantization)]);
    }
}

#[test]
fn a_target_is_forgotten_with_its_last_failure() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    for (code, kept) in [(Code::InvalidModelFile, 0), (Code::WorkerStartFailed, 300)] {
        s.handle(
            SchedulerEvent::SpawnFailed(target(), Diagnostic::new(code, "no")),
            T0,
        );
        for now in [0, 299, 300] {
            s.handle(SchedulerEvent::Tick, secs(now));
            assert_eq!(s.targets().count(), usize::from(now < kept), "{code}");
        }
    }
}

#[test]
fn five_failures_refuse_requests_with_the_time_of_the_next_attempt() {
    let mut s = scheduler();
    let mut now = T0;
    for n in 0..5 {
        submit(&mut s, &format!("r{n}"), now);
        s.handle(SchedulerEvent::Tick, now);
        s.handle(
            SchedulerEvent::SpawnFailed(
                target(),
                Diagnostic::new(Code::WorkerStartFailed, "exit 1"),
            ),
            now,
        );
        now += secs(20);
    }
    let effects = submit(&mut s, "late", now);
    let [SchedulerEffect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(
        error.details.as_ref().unwrap()["retry_after_seconds"],
        serde_json::json!(200)
    );
}

/// Crashes the worker `times` times while it runs a request. Returns true if the scheduler
/// refuses a request afterwards.
fn crash(s: &mut Scheduler, times: u64, generation: &mut u64, now: &mut Duration) -> bool {
    for _ in 0..times {
        *generation += 1;
        let name = format!("crash-{generation}");
        beat(s, worker("a", *generation, 1), 0, *now);
        assert_eq!(assigned(&submit(s, &name, *now)), pair(&name, "a"));
        let effects = s.handle(SchedulerEvent::AttemptFailed(id(&name), broke()), *now);
        if spawns(&effects) == 1 {
            let next = spawn_id("a", *generation + 1);
            s.handle(SchedulerEvent::Spawned(target(), next), *now);
        }
        s.handle(
            SchedulerEvent::Finished(id(&name), RequestOutcome::Cancelled),
            *now,
        );
        *now += secs(10);
    }
    let name = format!("probe-{generation}");
    let effects = submit(s, &name, *now);
    let refused = !failures(&effects).is_empty();
    if spawns(&effects) == 1 {
        let next = spawn_id("a", *generation + 1);
        s.handle(SchedulerEvent::Spawned(target(), next), *now);
    }
    s.handle(
        SchedulerEvent::Finished(id(&name), RequestOutcome::Cancelled),
        *now,
    );
    refused
}

#[test]
fn a_completed_request_clears_earlier_crashes() {
    let (mut generation, mut now) = (0, T0);
    assert!(
        crash(&mut scheduler(), 5, &mut generation, &mut now),
        "five crashes without a completed request open the breaker"
    );

    let (mut generation, mut now) = (0, T0);
    let mut s = scheduler();
    assert!(!crash(&mut s, 4, &mut generation, &mut now));
    generation += 1;
    beat(&mut s, worker("a", generation, 1), 0, now);
    assert_eq!(assigned(&submit(&mut s, "good", now)), pair("good", "a"));
    s.handle(
        SchedulerEvent::Finished(id("good"), RequestOutcome::Completed),
        now,
    );
    assert!(!crash(&mut s, 4, &mut generation, &mut now));
}

#[test]
fn a_request_is_retried_before_others_on_at_most_three_workers() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 1), 0, T0);
    beat(&mut s, worker("b", 1, 1), 0, T0);
    assert_eq!(assigned(&submit(&mut s, "r1", T0)), pair("r1", "a"));
    assert_eq!(
        assigned(&s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0)),
        pair("r1", "b")
    );
    // No worker is left: one is spawned after the pause for a second crash.
    assert_eq!(
        spawns(&s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0)),
        0
    );
    assert_eq!(spawns(&s.handle(SchedulerEvent::Tick, secs(1))), 1);
    let effects = beat(&mut s, worker("a", 2, 1), 0, T0);
    assert_eq!(assigned(&effects), pair("r1", "a"));
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0);
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerLinkLost)]
    );
    assert_eq!(s.counts().failed, 1);
}

#[test]
fn a_request_without_another_worker_fails_with_its_last_failure() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 1), 0, T0);
    submit(&mut s, "r1", T0);
    assert_eq!(
        spawns(&s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0)),
        1
    );
    let no_hive = Diagnostic::new(Code::HiveUnreachable, "no hive");
    let effects = s.handle(SchedulerEvent::SpawnFailed(target(), no_hive), T0);
    let [SchedulerEffect::Fail(_, error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(error.code, Code::WorkerLinkLost);
    assert_eq!(
        error.message,
        "reset; no other worker is available: no hive"
    );
}

#[test]
fn a_worker_that_crashes_before_its_spawn_is_reported_is_replaced() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    let served = beat(&mut s, worker("w", 1, 1), 0, secs(1));
    assert_eq!(assigned(&served), pair("r1", "w"));
    assert_eq!(
        spawns(&s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), secs(1))),
        0
    );
    let killed = Diagnostic::new(Code::WorkerStartFailed, "signal 9");
    let effects = s.handle(
        SchedulerEvent::SpawnFailed(target(), killed.clone()),
        secs(1),
    );
    assert_eq!((failures(&effects), spawns(&effects)), (vec![], 1));
    // The replacement never registered, so its failure is new.
    let effects = s.handle(SchedulerEvent::SpawnFailed(target(), killed), secs(1));
    assert_eq!(failures(&effects).len(), 1);
}

#[test]
fn a_crashed_worker_is_removed_and_its_other_requests_are_not_placed_on_it() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 2), 0, T0);
    submit(&mut s, "r1", T0);
    let exited = Diagnostic::new(Code::WorkerCrashed, "signal 9");
    let failure = AttemptFailure::Crashed(exited);
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r1"), failure), T0);
    assert_eq!((assigned(&effects), spawns(&effects)), (vec![], 1));
    assert_eq!(s.registry().snapshot(&WorkerFilter::default(), T0), []);
}

#[test]
fn a_request_that_exhausts_memory_fails_at_the_second_worker() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 1), 0, T0);
    submit(&mut s, "r1", T0);
    beat(&mut s, worker("b", 1, 1), 0, T0);
    let crash = || AttemptFailure::Crashed(Diagnostic::new(Code::OutOfMemory, "no memory"));
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r1"), crash()), T0);
    assert_eq!(assigned(&effects), pair("r1", "b"));
    let effects = s.handle(SchedulerEvent::AttemptFailed(id("r1"), crash()), T0);
    assert_eq!(failures(&effects), [("r1".to_owned(), Code::OutOfMemory)]);
}

#[test]
fn a_worker_that_failed_while_loading_does_not_count_as_loading() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    let mut loading = worker("w", 1, 1);
    loading.status = WorkerStatus::Starting;
    beat(&mut s, loading, 0, T0);
    let error = Diagnostic::new(Code::OutOfMemory, "killed by the kernel");
    let effects = s.handle(SchedulerEvent::SpawnFailed(target(), error), T0);
    assert_eq!(failures(&effects), [("r1".to_owned(), Code::OutOfMemory)]);
}

#[test]
fn a_request_fault_moves_only_that_request_to_another_worker() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 2), 0, T0);
    submit(&mut s, "r1", T0);
    beat(&mut s, worker("b", 1, 1), 0, T0);
    let fault = AttemptFailure::Fault(Diagnostic::new(Code::Internal, "bug"));
    assert_eq!(
        assigned(&s.handle(SchedulerEvent::AttemptFailed(id("r1"), fault), T0)),
        pair("r1", "b")
    );
    assert_eq!(assigned(&submit(&mut s, "r2", T0)), pair("r2", "a"));
}

#[test]
fn a_refusal_never_counts_as_an_attempt() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 1), 0, T0);
    submit(&mut s, "r1", T0);
    let mut now = T0;
    for sequence in 1..10 {
        let refused = AttemptFailure::Refused(Diagnostic::new(Code::AllSlotsBusy, "busy"));
        let effects = s.handle(SchedulerEvent::AttemptFailed(id("r1"), refused), now);
        assert_eq!(assigned(&effects), []);
        assert_eq!(failures(&effects), []);
        now += secs(1);
        let effects = beat(&mut s, worker("a", 1, 1), sequence, now);
        assert_eq!(assigned(&effects), pair("r1", "a"));
        assert!(matches!(&effects[0], SchedulerEffect::Assign(_, a) if a.attempt == 1));
    }
}

#[test]
fn a_full_queue_refuses_with_a_retry_time() {
    let mut s = scheduler();
    for n in 0..256 {
        assert_eq!(failures(&submit(&mut s, &format!("r{n}"), T0)), []);
    }
    let refused = s.submit(new_request("one-more", HAIKU, secs(600)), T0);
    let error = refused.unwrap_err();
    assert_eq!(error.code, Code::QueueFull);
    let details = error.details.unwrap();
    assert_eq!(details["retry_after_seconds"], 1);
    assert_eq!(
        (&details["waiting"], &details["queue_limit"]),
        (&256.into(), &256.into())
    );
    assert_eq!((s.counts().waiting, s.counts().failed), (256, 1));
}

#[test]
fn the_retry_time_is_the_waiting_work_divided_by_all_slots() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 2), 0, T0);
    submit(&mut s, "slow", T0);
    s.handle(
        SchedulerEvent::Finished(id("slow"), RequestOutcome::Completed),
        secs(1),
    );
    // A second worker doubles the slots; neither has one free. The first heartbeat of worker
    // "a" could be older than the end of the request.
    for (name, sequence) in [("a", 1), ("a", 2), ("b", 1)] {
        let mut busy = worker(name, 1, 4);
        busy.status = WorkerStatus::Busy;
        beat(&mut s, busy, sequence, secs(1));
    }
    for n in 0..256 {
        submit(&mut s, &format!("r{n}"), secs(1));
    }
    let refused = s.submit(new_request("one-more", HAIKU, secs(600)), secs(1));
    let details = refused.unwrap_err().details.unwrap();
    assert_eq!(details["retry_after_seconds"], 256 / 8);
}

#[test]
fn an_id_in_use_is_refused_without_touching_the_first_request() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    let refused = s.submit(new_request("r1", HAIKU, secs(600)), T0);
    let error = refused.unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("request_id"));
    assert_eq!((s.counts().waiting, s.counts().failed), (1, 0));
}

#[test]
fn a_waiting_request_ends_by_deadline_cancel_or_abort() {
    let mut s = scheduler();
    for (name, deadline) in [("late", 5), ("cancelled", 100), ("aborted", 100)] {
        let request = new_request(name, HAIKU, secs(deadline));
        s.submit(request, T0).unwrap();
    }
    let effects = s.handle(SchedulerEvent::Tick, secs(5));
    assert_eq!(
        failures(&effects),
        [("late".to_owned(), Code::DeadlineExceeded)]
    );
    let cancelled = Diagnostic::new(Code::Cancelled, "by the client");
    let effects = s.handle(SchedulerEvent::Cancel(id("cancelled"), cancelled), secs(5));
    assert_eq!(
        failures(&effects),
        [("cancelled".to_owned(), Code::Cancelled)]
    );
    s.handle(SchedulerEvent::Drain, secs(5));
    let refused = s.submit(new_request("new", HAIKU, secs(600)), secs(5));
    assert_eq!(refused.unwrap_err().code, Code::Draining);
    let effects = s.handle(
        SchedulerEvent::Abort(Diagnostic::new(Code::Draining, "stop")),
        secs(6),
    );
    assert_eq!(failures(&effects), [("aborted".to_owned(), Code::Draining)]);
    assert_eq!(
        s.counts(),
        RequestCounts {
            failed: 3,
            cancelled: 1,
            ..RequestCounts::default()
        }
    );
}

#[test]
fn a_request_that_waits_for_a_gpu_does_not_block_one_for_the_cpu() {
    let mut s = scheduler();
    beat(&mut s, worker("a", 1, 1), 0, T0);
    let mut gpu = new_request("gpu", HAIKU, secs(9));
    gpu.requirements.backend = Some(Backend::Cuda);
    let effects = s.submit(gpu, T0).unwrap();
    assert!(matches!(&effects[0], SchedulerEffect::Spawn(t) if t.backend == Backend::Cuda));
    assert_eq!(assigned(&submit(&mut s, "cpu", T0)), pair("cpu", "a"));
}

#[test]
fn a_spawned_worker_that_never_registers_is_a_failed_spawn() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), secs(1));
    assert_eq!(spawns(&s.handle(SchedulerEvent::Tick, secs(15))), 0);
    let effects = s.handle(SchedulerEvent::Tick, secs(16));
    assert_eq!(
        failures(&effects),
        [("r1".to_owned(), Code::WorkerStartFailed)]
    );
}

#[test]
fn a_spawn_without_progress_is_abandoned_and_fails_waiting_requests() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    s.handle(SchedulerEvent::SpawnProgress(target()), secs(60));
    assert_eq!(s.handle(SchedulerEvent::Tick, secs(599)), []);
    // A request with a later deadline, so that only the spawn can end it.
    s.submit(new_request("r2", HAIKU, secs(6000)), secs(599))
        .unwrap();
    s.handle(
        SchedulerEvent::Cancel(id("r1"), Diagnostic::new(Code::Cancelled, "by the client")),
        secs(600),
    );
    let effects = s.handle(SchedulerEvent::Tick, secs(659));
    assert!(matches!(effects[..], [SchedulerEffect::Waiting(..)]));
    let effects = s.handle(SchedulerEvent::Tick, secs(660));
    assert_eq!(effects[0], SchedulerEffect::AbandonSpawn(target()));
    assert_eq!(
        failures(&effects),
        [("r2".to_owned(), Code::LoadingTimeout)]
    );
    let request = new_request("r3", HAIKU, secs(6000));
    let effects = s.submit(request, secs(700)).unwrap();
    assert_eq!(spawns(&effects), 1, "it can recover");
}

#[test]
fn a_worker_stopped_before_its_spawn_is_reported_is_not_awaited() {
    let mut s = scheduler();
    submit(&mut s, "r1", T0);
    beat(&mut s, worker("w", 1, 1), 0, T0);
    s.handle(
        SchedulerEvent::Finished(id("r1"), RequestOutcome::Completed),
        T0,
    );
    s.handle(
        SchedulerEvent::Fence("w".parse().unwrap(), Generation(2)),
        T0,
    );
    s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 1)), T0);
    assert_eq!(spawns(&submit(&mut s, "r2", T0)), 1);
}

#[test]
fn the_next_spawn_of_a_stopped_worker_is_awaited() {
    let mut s = scheduler();
    s.handle(
        SchedulerEvent::Fence("w".parse().unwrap(), Generation(2)),
        T0,
    );
    assert_eq!(spawns(&submit(&mut s, "r1", T0)), 1);
    // Its generation is the lowest one that the fence permits, and its spawn is reported
    // before its first heartbeat arrives.
    let effects = s.handle(SchedulerEvent::Spawned(target(), spawn_id("w", 2)), T0);
    assert_eq!(effects, [], "no second spawn");
    assert_eq!(
        assigned(&beat(&mut s, worker("w", 2, 1), 0, T0)),
        pair("r1", "w")
    );
}

#[test]
fn a_fenced_worker_is_replaced_and_receives_no_requests() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 1), 0, T0);
    assert_eq!(assigned(&submit(&mut s, "r1", T0)), pair("r1", "w"));
    assert_eq!(spawns(&submit(&mut s, "r2", T0)), 0);
    let fence = SchedulerEvent::Fence("w".parse().unwrap(), Generation(2));
    let effects = s.handle(fence, T0);
    assert_eq!((assigned(&effects), spawns(&effects)), (vec![], 1));
    // The slot of the fenced worker does not exist any more.
    let finished = SchedulerEvent::Finished(id("r1"), RequestOutcome::Completed);
    assert_eq!(s.handle(finished, T0), []);
}

#[test]
fn several_requests_on_a_lost_worker_count_as_one_crash() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 2), 0, T0);
    submit(&mut s, "r1", T0);
    submit(&mut s, "r2", T0);
    for name in ["r1", "r2"] {
        s.handle(SchedulerEvent::AttemptFailed(id(name), broke()), T0);
    }
    // Ends the spawn that began, without a failure of its own.
    let error = Diagnostic::new(Code::InvalidModelFile, "no");
    s.handle(SchedulerEvent::SpawnFailed(target(), error), T0);
    let (_, state) = s.targets().next().unwrap();
    assert_eq!(state.pause(T0), Duration::ZERO);
}

#[test]
fn a_crash_of_a_gpu_worker_counts_for_the_backend_that_was_required() {
    for (required, expected) in [
        // The request requires no GPU, so the next worker is spawned on the CPU.
        (None, vec![Backend::Cpu, Backend::Cuda]),
        (Some(Backend::Cuda), vec![Backend::Cuda]),
        (Some(Backend::Metal), vec![Backend::Metal]),
    ] {
        let mut s = scheduler();
        let mut gpu = worker("w", 1, 1);
        gpu.device = "GPU-0".parse().unwrap();
        beat(&mut s, gpu, 0, T0);
        let mut request = new_request("r1", HAIKU, secs(9));
        request.requirements.backend = required;
        assert_eq!(assigned(&s.submit(request, T0).unwrap()), pair("r1", "w"));
        s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0);
        let targets = s.targets().map(|(target, _)| target.backend);
        assert_eq!(targets.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_running_request_is_stopped_once() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 1), 0, T0);
    submit(&mut s, "r1", T0);
    let first = Diagnostic::new(Code::Cancelled, "by the client");
    let effects = s.handle(SchedulerEvent::Cancel(id("r1"), first.clone()), T0);
    assert_eq!(effects, [SchedulerEffect::Stop(id("r1"), first)]);
    let again = Diagnostic::new(Code::Cancelled, "again");
    assert_eq!(s.handle(SchedulerEvent::Cancel(id("r1"), again), T0), []);
    assert_eq!(s.counts().running, 1);
    // The attempt failed while it was being stopped: it can be stopped on its next worker.
    s.handle(SchedulerEvent::AttemptFailed(id("r1"), broke()), T0);
    beat(&mut s, worker("w", 2, 1), 0, T0);
    let last = Diagnostic::new(Code::Draining, "stop");
    let effects = s.handle(SchedulerEvent::Abort(last.clone()), T0);
    assert_eq!(effects, [SchedulerEffect::Stop(id("r1"), last)]);
}

#[test]
fn a_worker_without_heartbeats_is_reported_as_expired() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 3, 1), 0, T0);
    assert_eq!(
        s.handle(SchedulerEvent::Tick, secs(29)),
        [SchedulerEffect::CheckProcess(spawn_id("w", 3))]
    );
    assert_eq!(
        s.handle(SchedulerEvent::Tick, secs(30)),
        [SchedulerEffect::WorkerExpired(spawn_id("w", 3))]
    );
}

#[test]
fn a_worker_that_is_loading_after_a_queen_restart_is_awaited() {
    let mut s = scheduler();
    let mut loading = worker("w", 4, 1);
    loading.status = WorkerStatus::Starting;
    beat(&mut s, loading, 0, T0);
    let effects = submit(&mut s, "r1", T0);
    assert_eq!(effects.len(), 1);
    assert_eq!(waits(&effects), [("r1".to_owned(), WaitReason::Loading)]);
    assert_eq!(
        assigned(&beat(&mut s, worker("w", 4, 1), 1, T0)),
        pair("r1", "w")
    );
}
