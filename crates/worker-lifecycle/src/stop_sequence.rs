use std::time::Duration;

use daemon_shell::Signal;

/// Maximum time for running requests to finish. Sums of longer times and the current time can
/// overflow.
const MAX_DRAIN: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Time for a worker to accept the shutdown request, if its running requests get no time.
const REQUEST_LIMIT: Duration = Duration::from_millis(500);

/// Time limits of the steps of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// Time for running requests to finish. With zero, SIGTERM follows the shutdown request
    /// immediately, and the worker ends them.
    pub drain: Duration,
    /// Time from SIGTERM to SIGKILL.
    pub terminate: Duration,
    /// Time for the kernel to remove the process after SIGKILL.
    pub kill: Duration,
}

impl Default for StopLimits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            terminate: Duration::from_secs(10),
            kill: Duration::from_secs(10),
        }
    }
}

/// Observation of a stopping worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEvent {
    /// The stop begins.
    Begin,
    /// The worker has accepted the shutdown request.
    Requested,
    /// The shutdown request failed.
    RequestFailed,
    /// The time in [`StopEffect::WaitUntil`] has come.
    Timeout,
    /// The process is gone.
    Exited,
}

/// Reaction to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEffect {
    /// Request the worker to finish running requests and exit.
    RequestShutdown,
    /// Signal the process group.
    Signal(Signal),
    /// Send [`StopEvent::Timeout`] at this time, unless another event comes first.
    WaitUntil(Duration),
    /// The process is gone. Terminal.
    Done,
    /// The process survived SIGKILL: it is blocked in the kernel. Terminal.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Draining,
    Terminating,
    Killing,
    Finished,
}

/// State machine of the stop of one process: shutdown request, SIGTERM, SIGKILL.
#[derive(Debug, Clone)]
pub struct StopSequence {
    limits: StopLimits,
    stage: Stage,
}

impl StopSequence {
    /// A stop that has not begun. A drain of more than a year is limited to one.
    pub fn new(mut limits: StopLimits) -> Self {
        limits.drain = limits.drain.min(MAX_DRAIN);
        Self {
            limits,
            stage: Stage::Idle,
        }
    }

    /// Processes an event at the time `now`.
    pub fn step(&mut self, event: StopEvent, now: Duration) -> Vec<StopEffect> {
        match (self.stage, event) {
            (Stage::Finished, _) => Vec::new(),
            (_, StopEvent::Exited) => {
                self.stage = Stage::Finished;
                vec![StopEffect::Done]
            }
            (Stage::Idle, StopEvent::Begin) => {
                self.stage = Stage::Draining;
                let limit = if self.limits.drain.is_zero() {
                    REQUEST_LIMIT
                } else {
                    self.limits.drain
                };
                vec![
                    StopEffect::RequestShutdown,
                    StopEffect::WaitUntil(now + limit),
                ]
            }
            (Stage::Draining, StopEvent::Requested) if !self.limits.drain.is_zero() => Vec::new(),
            (
                Stage::Draining,
                StopEvent::Requested | StopEvent::RequestFailed | StopEvent::Timeout,
            ) => {
                self.stage = Stage::Terminating;
                vec![
                    StopEffect::Signal(Signal::Term),
                    StopEffect::WaitUntil(now + self.limits.terminate),
                ]
            }
            (Stage::Terminating, StopEvent::Timeout) => {
                self.stage = Stage::Killing;
                vec![
                    StopEffect::Signal(Signal::Kill),
                    StopEffect::WaitUntil(now + self.limits.kill),
                ]
            }
            (Stage::Killing, StopEvent::Timeout) => {
                self.stage = Stage::Finished;
                vec![StopEffect::GiveUp]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn escalates_from_drain_to_sigterm_to_sigkill() {
        let mut stop = StopSequence::new(StopLimits::default());
        assert_eq!(
            stop.step(StopEvent::Begin, S(0)),
            [StopEffect::RequestShutdown, StopEffect::WaitUntil(S(30))]
        );
        assert_eq!(
            stop.step(StopEvent::Timeout, S(30)),
            [
                StopEffect::Signal(Signal::Term),
                StopEffect::WaitUntil(S(40))
            ]
        );
        assert_eq!(
            stop.step(StopEvent::Timeout, S(40)),
            [
                StopEffect::Signal(Signal::Kill),
                StopEffect::WaitUntil(S(50))
            ]
        );
        assert_eq!(stop.step(StopEvent::Timeout, S(50)), [StopEffect::GiveUp]);
        assert_eq!(stop.step(StopEvent::Exited, S(51)), []);
    }

    /// SIGTERM at the time 1 s.
    const TERM: [StopEffect; 2] = [
        StopEffect::Signal(Signal::Term),
        StopEffect::WaitUntil(Duration::from_secs(11)),
    ];

    #[test]
    fn a_drain_begins_when_the_request_is_accepted_and_ends_when_it_fails() {
        let mut stop = StopSequence::new(StopLimits::default());
        stop.step(StopEvent::Begin, S(0));
        assert_eq!(stop.step(StopEvent::Requested, S(1)), []);
        assert_eq!(stop.step(StopEvent::RequestFailed, S(1)), TERM);
        assert_eq!(stop.step(StopEvent::Exited, S(2)), [StopEffect::Done]);
    }

    #[test]
    fn without_a_drain_sigterm_follows_the_request() {
        let limits = StopLimits {
            drain: Duration::ZERO,
            ..StopLimits::default()
        };
        for event in [
            StopEvent::Requested,
            StopEvent::RequestFailed,
            StopEvent::Timeout,
        ] {
            let mut stop = StopSequence::new(limits);
            assert_eq!(
                stop.step(StopEvent::Begin, S(0)),
                [
                    StopEffect::RequestShutdown,
                    StopEffect::WaitUntil(REQUEST_LIMIT)
                ]
            );
            assert_eq!(stop.step(event, S(1)), TERM, "{event:?}");
            for late in [StopEvent::Requested, StopEvent::RequestFailed] {
                assert_eq!(stop.step(late, S(2)), []);
            }
        }
    }

    #[test]
    fn drain_is_limited() {
        let mut stop = StopSequence::new(StopLimits {
            drain: Duration::MAX,
            ..StopLimits::default()
        });
        assert_eq!(
            stop.step(StopEvent::Begin, S(1)),
            [
                StopEffect::RequestShutdown,
                StopEffect::WaitUntil(MAX_DRAIN + S(1))
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_follows_a_terminal_effect_and_sigterm_precedes_sigkill(
            script in prop::collection::vec(prop::sample::select(vec![
                StopEvent::Begin, StopEvent::Requested, StopEvent::RequestFailed,
                StopEvent::Timeout, StopEvent::Exited,
            ]), 0..20),
            drain in prop::sample::select(vec![0, 30]),
        ) {
            let limits = StopLimits { drain: S(drain), ..StopLimits::default() };
            let mut stop = StopSequence::new(limits);
            let (mut finished, mut terminated) = (false, false);
            for (now, event) in script.into_iter().enumerate() {
                for effect in stop.step(event, S(now as u64)) {
                    prop_assert!(!finished);
                    match effect {
                        StopEffect::Signal(Signal::Term) => terminated = true,
                        StopEffect::Signal(Signal::Kill) => prop_assert!(terminated),
                        StopEffect::Done | StopEffect::GiveUp => finished = true,
                        _ => {}
                    }
                }
            }
        }
    }
}
