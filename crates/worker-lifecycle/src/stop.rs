use std::time::Duration;

use daemon_shell::Signal;

/// How long each step of a stop may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// For running requests to finish; zero goes straight to SIGTERM.
    pub drain: Duration,
    /// From SIGTERM to SIGKILL.
    pub terminate: Duration,
    /// For the kernel to take the process away after SIGKILL.
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

/// What was seen of a stopping worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEvent {
    /// It shall stop.
    Begin,
    /// It could not be asked to finish.
    AskFailed,
    /// The time that [`StopEffect::WaitUntil`] named has come.
    Due,
    /// Its process is gone.
    Gone,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEffect {
    /// Ask it to finish what runs and exit.
    Ask,
    /// Signal its process group.
    Signal(Signal),
    /// Send [`StopEvent::Due`] at this time, unless something comes before.
    WaitUntil(Duration),
    /// It is gone; nothing follows.
    Done,
    /// Even SIGKILL did not help (the kernel holds it); nothing follows.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Draining,
    Terminating,
    Killing,
    Over,
}

/// The stop of one process: drain, SIGTERM, SIGKILL.
#[derive(Debug, Clone)]
pub struct Stop {
    limits: StopLimits,
    stage: Stage,
}

impl Stop {
    /// A stop that has not begun.
    pub fn new(limits: StopLimits) -> Self {
        Self {
            limits,
            stage: Stage::Idle,
        }
    }

    /// Takes in an event at the time `now`.
    pub fn step(&mut self, event: StopEvent, now: Duration) -> Vec<StopEffect> {
        match (self.stage, event) {
            (Stage::Over, _) => Vec::new(),
            (_, StopEvent::Gone) => {
                self.stage = Stage::Over;
                vec![StopEffect::Done]
            }
            (Stage::Idle, StopEvent::Begin) if !self.limits.drain.is_zero() => {
                self.stage = Stage::Draining;
                vec![
                    StopEffect::Ask,
                    StopEffect::WaitUntil(now + self.limits.drain),
                ]
            }
            (Stage::Idle, StopEvent::Begin)
            | (Stage::Draining, StopEvent::AskFailed | StopEvent::Due) => {
                self.stage = Stage::Terminating;
                vec![
                    StopEffect::Signal(Signal::Term),
                    StopEffect::WaitUntil(now + self.limits.terminate),
                ]
            }
            (Stage::Terminating, StopEvent::Due) => {
                self.stage = Stage::Killing;
                vec![
                    StopEffect::Signal(Signal::Kill),
                    StopEffect::WaitUntil(now + self.limits.kill),
                ]
            }
            (Stage::Killing, StopEvent::Due) => {
                self.stage = Stage::Over;
                vec![StopEffect::GiveUp]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn it_escalates_in_order_and_in_time() {
        let mut stop = Stop::new(StopLimits::default());
        assert_eq!(
            stop.step(StopEvent::Begin, S(0)),
            [StopEffect::Ask, StopEffect::WaitUntil(S(30))]
        );
        assert_eq!(
            stop.step(StopEvent::Due, S(30)),
            [
                StopEffect::Signal(Signal::Term),
                StopEffect::WaitUntil(S(40))
            ]
        );
        assert_eq!(
            stop.step(StopEvent::Due, S(40)),
            [
                StopEffect::Signal(Signal::Kill),
                StopEffect::WaitUntil(S(50))
            ]
        );
        assert_eq!(stop.step(StopEvent::Due, S(50)), [StopEffect::GiveUp]);
        assert_eq!(stop.step(StopEvent::Gone, S(51)), []);
    }

    #[test]
    fn a_worker_that_cannot_be_asked_or_must_not_drain_gets_sigterm_at_once() {
        let term = [
            StopEffect::Signal(Signal::Term),
            StopEffect::WaitUntil(S(11)),
        ];
        let mut deaf = Stop::new(StopLimits::default());
        deaf.step(StopEvent::Begin, S(0));
        assert_eq!(deaf.step(StopEvent::AskFailed, S(1)), term);
        let mut hasty = Stop::new(StopLimits {
            drain: Duration::ZERO,
            ..StopLimits::default()
        });
        assert_eq!(hasty.step(StopEvent::Begin, S(1)), term);
        assert_eq!(
            hasty.step(StopEvent::AskFailed, S(2)),
            [],
            "asked by nobody"
        );
        assert_eq!(hasty.step(StopEvent::Gone, S(2)), [StopEffect::Done]);
    }

    proptest! {
        #[test]
        fn no_signal_follows_the_end_and_kill_never_precedes_term(
            script in prop::collection::vec(prop::sample::select(vec![
                StopEvent::Begin, StopEvent::AskFailed, StopEvent::Due, StopEvent::Gone,
            ]), 0..20)
        ) {
            let mut stop = Stop::new(StopLimits::default());
            let (mut over, mut terminated) = (false, false);
            for (now, event) in script.into_iter().enumerate() {
                for effect in stop.step(event, S(now as u64)) {
                    prop_assert!(!over);
                    match effect {
                        StopEffect::Signal(Signal::Term) => terminated = true,
                        StopEffect::Signal(Signal::Kill) => prop_assert!(terminated),
                        StopEffect::Done | StopEffect::GiveUp => over = true,
                        _ => {}
                    }
                }
            }
        }
    }
}
