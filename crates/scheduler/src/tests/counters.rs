//! Counters, the average service time, and `Retry-After`.

use queen_contract::RequestCounts;

use super::*;

fn finish(s: &mut Scheduler, name: &str, outcome: RequestOutcome, now: Duration) {
    s.handle(SchedulerEvent::Finished(id(name), outcome), now);
}

#[test]
fn every_request_is_counted_once_where_it_is_and_by_its_outcome() {
    let mut s = scheduler();
    let expect = |s: &Scheduler, waiting, running, [completed, failed, cancelled]: [u64; 3]| {
        let expected = RequestCounts {
            waiting,
            running,
            completed,
            failed,
            cancelled,
        };
        assert_eq!(s.counts(), expected);
    };
    beat(&mut s, worker("w", 1, 3), 0, T0);
    for name in ["r1", "r2", "r3", "r4", "r5"] {
        submit(&mut s, name, T0);
    }
    expect(&s, 2, 3, [0, 0, 0]);
    finish(&mut s, "r1", RequestOutcome::Completed, T0);
    expect(&s, 1, 3, [1, 0, 0]);
    finish(&mut s, "r2", RequestOutcome::Failed, T0);
    expect(&s, 0, 3, [1, 1, 0]);
    finish(&mut s, "r3", RequestOutcome::Cancelled, T0);
    expect(&s, 0, 2, [1, 1, 1]);
    // Reports on requests that do not exist any more, or never did.
    for name in ["r1", "r2", "r3", "unknown"] {
        finish(&mut s, name, RequestOutcome::Completed, T0);
        s.handle(SchedulerEvent::AttemptFailed(id(name), broke()), T0);
        let error = Diagnostic::new(Code::Cancelled, "by the client");
        s.handle(SchedulerEvent::Cancel(id(name), error), T0);
    }
    expect(&s, 0, 2, [1, 1, 1]);
    finish(&mut s, "r4", RequestOutcome::Completed, T0);
    finish(&mut s, "r5", RequestOutcome::Completed, T0);
    expect(&s, 0, 0, [3, 1, 1]);
    // A client that disconnects while its request waits.
    beat(&mut s, worker("w", 1, 0), 1, T0);
    submit(&mut s, "r6", T0);
    expect(&s, 1, 0, [3, 1, 1]);
    finish(&mut s, "r6", RequestOutcome::Cancelled, T0);
    expect(&s, 0, 0, [3, 1, 2]);
}

#[test]
fn a_finished_id_can_be_used_again() {
    let mut s = scheduler();
    beat(&mut s, worker("w", 1, 1), 0, T0);
    for outcome in [
        RequestOutcome::Completed,
        RequestOutcome::Failed,
        RequestOutcome::Cancelled,
    ] {
        assert_eq!(assigned(&submit(&mut s, "same", T0)), pair("same", "w"));
        finish(&mut s, "same", outcome, T0);
    }
}

const LIMIT: usize = 4;

/// Fills the queue of the model, whose workers have no free slot, and returns the
/// `Retry-After` of the next request in seconds.
fn retry_after(s: &mut Scheduler, model: &str, now: Duration) -> u64 {
    let name = |n: usize| format!("{}-{n}", model.replace([':', '='], "-"));
    for n in 0..LIMIT {
        s.submit(new_request(&name(n), model, secs(9999)), now)
            .unwrap();
    }
    let refused = s.submit(new_request("refused", model, secs(9999)), now);
    let error = refused.unwrap_err();
    for n in 0..LIMIT {
        finish(s, &name(n), RequestOutcome::Cancelled, now);
    }
    assert_eq!(error.code, Code::QueueFull);
    let seconds = error.details.unwrap()["retry_after_seconds"]
        .as_u64()
        .unwrap();
    let hint = format!("retry in {seconds} s");
    assert_eq!(error.hint, Some(hint));
    seconds
}

/// A scheduler with a short queue and a worker of one slot, whose requests take as long as
/// [`run`] says.
struct Timed {
    s: Scheduler,
    now: Duration,
    sequence: u64,
}

impl Timed {
    fn new() -> Self {
        let settings = SchedulerSettings {
            queue_limit: LIMIT,
            ..SchedulerSettings::default()
        };
        let mut s = Scheduler::new(settings);
        set_nodes(&mut s, &[("local", NodeFacts::default())], T0);
        Self {
            s,
            now: T0,
            sequence: 0,
        }
    }

    fn beat(&mut self, name: &str, slots: u32, status: WorkerStatus) {
        self.sequence += 1;
        let mut info = worker(name, 1, slots);
        info.status = status;
        beat(&mut self.s, info, self.sequence, self.now);
    }

    /// Runs a request for `seconds`.
    fn run(&mut self, seconds: u64, outcome: RequestOutcome) {
        self.beat("w", 1, WorkerStatus::Ready);
        assert_eq!(
            assigned(&submit(&mut self.s, "r", self.now)),
            pair("r", "w")
        );
        self.now += secs(seconds);
        finish(&mut self.s, "r", outcome, self.now);
    }

    fn retry_after(&mut self) -> u64 {
        // A heartbeat that was sent before our last request finished explains its slot.
        for _ in 0..2 {
            self.beat("w", 1, WorkerStatus::Busy);
        }
        retry_after(&mut self.s, HAIKU, self.now)
    }
}

#[test]
fn the_service_time_is_a_moving_average_of_completed_requests() {
    let mut timed = Timed::new();
    assert_eq!(timed.retry_after(), 1, "no request has completed yet");
    timed.run(8, RequestOutcome::Completed);
    assert_eq!(timed.retry_after(), 8 * 4, "the first request alone");
    timed.run(16, RequestOutcome::Completed);
    assert_eq!(timed.retry_after(), 9 * 4, "(7 * 8 + 16) / 8");
    for outcome in [RequestOutcome::Failed, RequestOutcome::Cancelled] {
        timed.run(100, outcome);
        assert_eq!(timed.retry_after(), 9 * 4, "{outcome:?}");
    }
    timed.run(1, RequestOutcome::Completed);
    assert_eq!(timed.retry_after(), 8 * 4, "(7 * 9 + 1) / 8");
}

#[test]
fn retry_after_is_rounded_up_and_between_1_and_60_s() {
    let mut timed = Timed::new();
    timed.run(9, RequestOutcome::Completed);
    for (other_slots, expected) in [(4, 8), (2, 12), (99, 1)] {
        timed.beat("other", other_slots, WorkerStatus::Busy);
        assert_eq!(timed.retry_after(), expected, "{other_slots} more slots");
    }
    let mut slow = Timed::new();
    slow.run(29, RequestOutcome::Completed);
    assert_eq!(slow.retry_after(), 60);
    let mut below = Timed::new();
    below.run(14, RequestOutcome::Completed);
    assert_eq!(below.retry_after(), 56);
}

#[test]
fn service_time_and_slots_belong_to_one_model() {
    let mut timed = Timed::new();
    timed.run(8, RequestOutcome::Completed);
    assert_eq!(retry_after(&mut timed.s, "mock:a=1", timed.now), 1);
    let mut other = worker("other", 1, 99);
    other.model_id = "mock:a=1".parse().unwrap();
    beat(&mut timed.s, other, 0, timed.now);
    assert_eq!(timed.retry_after(), 32);
}
