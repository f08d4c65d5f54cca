use std::time::Duration;

use diagnostics::ExitCode;
use worker_contract::{API_VERSION, LoadProgress};

use crate::exit::Exit;

/// Time limits of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLimits {
    /// Maximum time without a response or progress in loading.
    pub silence: Duration,
    /// Maximum total time, plus `per_gib`.
    pub base: Duration,
    /// Added to the total time for each GiB of weights.
    pub per_gib: Duration,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            base: Duration::from_mins(5),
            per_gib: Duration::from_secs(20),
        }
    }
}

impl StartLimits {
    /// Maximum total time for weights of this size. A partial GiB counts as one.
    fn total(&self, size_bytes: u64) -> Duration {
        let gib = size_bytes.div_ceil(1 << 30);
        self.per_gib
            .saturating_mul(u32::try_from(gib).unwrap_or(u32::MAX))
            .saturating_add(self.base)
    }
}

/// Observation of a starting worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartEvent {
    /// A poll got no response from this worker.
    NoResponse,
    /// The worker responds under its own id and generation, with this version of the worker
    /// contract.
    Listening(u32),
    /// The worker responds and is not ready.
    Loading(LoadProgress),
    /// The worker can serve requests.
    Ready,
    /// The process exited.
    Exited(Exit),
    /// The spawn was cancelled.
    Cancel,
}

/// Reaction to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartEffect {
    /// The worker listens. Sent at most once.
    Up,
    /// Loading progressed by at least one percent.
    Progress(LoadProgress),
    /// The worker can serve requests. Terminal.
    Ready,
    /// Its port was taken: start it on another one. Terminal.
    NextPort,
    /// The start failed: kill the process group if it is alive. Terminal.
    Fail(StartFailure),
}

/// Reason for which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The process exited.
    Exited(Exit),
    /// No response for this long.
    NoResponse(Duration),
    /// No progress in loading for this long.
    Stalled(Duration, LoadProgress),
    /// Not loaded within the limit for its size.
    TooSlow(Duration, LoadProgress),
    /// The worker speaks this version of the worker contract, which is not ours.
    VersionMismatch(u32),
    /// The spawn was cancelled.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Loading,
    Finished,
}

/// State machine of the start of one process: starting, loading, then ready or failed.
#[derive(Debug, Clone)]
pub struct StartSequence {
    silence: Duration,
    total: Duration,
    phase: Phase,
    last_activity: Duration,
    loaded: LoadProgress,
    reported_percent: Option<u64>,
}

/// Exit code for a taken port, according to the worker contract.
const PORT_TAKEN: i32 = ExitCode::PortTaken as i32;

impl StartSequence {
    /// A process that was started at time 0 and loads weights of this size.
    pub fn new(limits: StartLimits, size_bytes: u64) -> Self {
        Self {
            silence: limits.silence,
            total: limits.total(size_bytes),
            phase: Phase::Starting,
            last_activity: Duration::ZERO,
            loaded: LoadProgress::default(),
            reported_percent: None,
        }
    }

    /// Processes an event; `now` is the time since the start.
    pub fn step(&mut self, event: StartEvent, now: Duration) -> Vec<StartEffect> {
        if self.phase == Phase::Finished {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match event {
            StartEvent::Exited(Exit::Code(PORT_TAKEN)) if self.phase == Phase::Starting => {
                self.phase = Phase::Finished;
                return vec![StartEffect::NextPort];
            }
            StartEvent::Exited(exit) => {
                self.phase = Phase::Finished;
                return vec![StartEffect::Fail(StartFailure::Exited(exit))];
            }
            StartEvent::Cancel => {
                self.phase = Phase::Finished;
                return vec![StartEffect::Fail(StartFailure::Cancelled)];
            }
            StartEvent::NoResponse => {}
            StartEvent::Listening(version) if version != API_VERSION => {
                self.phase = Phase::Finished;
                return vec![StartEffect::Fail(StartFailure::VersionMismatch(version))];
            }
            StartEvent::Listening(_) => self.up(now, &mut effects),
            StartEvent::Loading(progress) => {
                self.up(now, &mut effects);
                self.loading(progress, now, &mut effects);
            }
            StartEvent::Ready => {
                self.up(now, &mut effects);
                self.phase = Phase::Finished;
                let total = self.loaded.total;
                if total > 0 && self.reported_percent != Some(100) {
                    effects.push(StartEffect::Progress(LoadProgress { done: total, total }));
                }
                effects.push(StartEffect::Ready);
                return effects;
            }
        }
        let silent = now.saturating_sub(self.last_activity);
        let failure = match self.phase {
            Phase::Starting if silent >= self.silence => StartFailure::NoResponse(silent),
            Phase::Loading if silent >= self.silence => StartFailure::Stalled(silent, self.loaded),
            Phase::Loading if now >= self.total => StartFailure::TooSlow(now, self.loaded),
            _ => return effects,
        };
        self.phase = Phase::Finished;
        effects.push(StartEffect::Fail(failure));
        effects
    }

    fn up(&mut self, now: Duration, effects: &mut Vec<StartEffect>) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Loading;
            self.last_activity = now;
            effects.push(StartEffect::Up);
        }
    }

    fn loading(&mut self, progress: LoadProgress, now: Duration, effects: &mut Vec<StartEffect>) {
        if progress.done != self.loaded.done {
            self.last_activity = now;
        }
        self.loaded = progress;
        let percent = progress
            .done
            .saturating_mul(100)
            .checked_div(progress.total)
            .map(|percent| percent.min(100));
        if percent.is_some() && percent != self.reported_percent {
            self.reported_percent = percent;
            effects.push(StartEffect::Progress(progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn at(done: u64, total: u64) -> StartEvent {
        StartEvent::Loading(LoadProgress { done, total })
    }

    fn sequence() -> StartSequence {
        StartSequence::new(StartLimits::default(), 3 << 30)
    }

    #[test]
    fn a_successful_start() {
        let mut start = sequence();
        assert_eq!(start.step(StartEvent::NoResponse, S(1)), []);
        assert_eq!(
            start.step(StartEvent::Listening(API_VERSION), S(2)),
            [StartEffect::Up]
        );
        let progress = LoadProgress {
            done: 50,
            total: 100,
        };
        assert_eq!(
            start.step(at(50, 100), S(3)),
            [StartEffect::Progress(progress)]
        );
        assert_eq!(start.step(at(50, 100), S(4)), [], "reported once");
        let complete = LoadProgress {
            done: 100,
            total: 100,
        };
        assert_eq!(
            start.step(StartEvent::Ready, S(5)),
            [StartEffect::Progress(complete), StartEffect::Ready],
            "reported up to 100 % although that was not observed"
        );
        assert_eq!(start.step(StartEvent::Exited(Exit::Code(0)), S(6)), []);
    }

    #[test]
    fn a_worker_that_is_ready_at_the_first_poll_is_up_first() {
        assert_eq!(
            sequence().step(StartEvent::Ready, S(0)),
            [StartEffect::Up, StartEffect::Ready]
        );
    }

    #[test]
    fn silence_is_limited_and_progress_resets_it() {
        let mut silent = sequence();
        assert_eq!(silent.step(StartEvent::NoResponse, S(29)), []);
        assert_eq!(
            silent.step(StartEvent::NoResponse, S(30)),
            [StartEffect::Fail(StartFailure::NoResponse(S(30)))]
        );

        let mut slow = sequence();
        for n in 1..12 {
            let effects = slow.step(at(n, 1000), S(29 * n));
            assert!(
                !effects.iter().any(|e| matches!(e, StartEffect::Fail(_))),
                "{n}"
            );
        }
        let reached = LoadProgress {
            done: 11,
            total: 1000,
        };
        assert_eq!(
            slow.step(at(11, 1000), S(29 * 11 + 30)),
            [StartEffect::Fail(StartFailure::Stalled(S(30), reached))]
        );
    }

    #[test]
    fn the_total_time_is_limited_by_the_size() {
        assert_eq!(StartLimits::default().total(0), S(300));
        assert_eq!(StartLimits::default().total(1), S(320));
        let mut slow = sequence();
        for n in 1..18 {
            slow.step(at(n, 1000), S(20 * n));
        }
        let reached = LoadProgress {
            done: 18,
            total: 1000,
        };
        let effects = slow.step(at(18, 1000), S(360));
        assert!(
            effects.contains(&StartEffect::Fail(StartFailure::TooSlow(S(360), reached))),
            "{effects:?}"
        );
    }

    #[test]
    fn the_exit_code_for_a_taken_port_counts_only_before_the_worker_listens() {
        let taken = StartEvent::Exited(Exit::Code(98));
        assert_eq!(sequence().step(taken, S(1)), [StartEffect::NextPort]);
        let mut up = sequence();
        up.step(StartEvent::Listening(API_VERSION), S(1));
        assert_eq!(
            up.step(taken, S(2)),
            [StartEffect::Fail(StartFailure::Exited(Exit::Code(98)))]
        );
    }

    #[test]
    fn rejects_a_worker_with_another_contract_version() {
        assert_eq!(
            sequence().step(StartEvent::Listening(API_VERSION + 1), S(1)),
            [StartEffect::Fail(StartFailure::VersionMismatch(
                API_VERSION + 1
            ))]
        );
    }

    #[test]
    fn a_cancelled_start_fails() {
        assert_eq!(
            sequence().step(StartEvent::Cancel, S(1)),
            [StartEffect::Fail(StartFailure::Cancelled)]
        );
    }

    fn events() -> impl Strategy<Value = StartEvent> {
        prop_oneof![
            4 => Just(StartEvent::NoResponse),
            2 => Just(StartEvent::Listening(API_VERSION)),
            4 => (any::<u64>(), any::<u64>()).prop_map(|(done, total)| at(done, total)),
            1 => Just(StartEvent::Ready),
            1 => (0..200).prop_map(|code| StartEvent::Exited(Exit::Code(code))),
            1 => Just(StartEvent::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn a_start_has_one_terminal_effect_and_is_up_at_most_once(
            script in prop::collection::vec((events(), 0u64..20), 1..60)
        ) {
            let mut start = sequence();
            let (mut now, mut terminal, mut ups) = (0, 0, 0);
            for (event, wait) in script {
                now += wait;
                for effect in start.step(event, S(now)) {
                    prop_assert_eq!(terminal, 0, "an effect after the terminal one");
                    match effect {
                        StartEffect::Up => ups += 1,
                        StartEffect::Ready | StartEffect::NextPort | StartEffect::Fail(_) => terminal += 1,
                        StartEffect::Progress(_) => {}
                    }
                }
            }
            prop_assert!(ups <= 1);
            // A silent worker fails by time alone.
            start.step(StartEvent::NoResponse, S(now + 3600));
            prop_assert_eq!(start.step(StartEvent::Ready, S(now + 3601)), []);
        }
    }
}
