use std::time::Duration;

use worker_contract::{API_VERSION, LoadProgress};

use crate::Exit;

/// How long a start may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLimits {
    /// Longest time without a sign of life: an answer, or a step of loading.
    pub silence: Duration,
    /// Longest time in all, for a model of no size.
    pub base: Duration,
    /// On top of it for each GiB of weights.
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
    /// Longest time in all for weights of this size; a GiB that has begun counts whole.
    pub fn total(&self, size_bytes: u64) -> Duration {
        let gib = size_bytes.div_ceil(1 << 30);
        self.per_gib
            .saturating_mul(u32::try_from(gib).unwrap_or(u32::MAX))
            .saturating_add(self.base)
    }
}

/// What was seen of a starting worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchEvent {
    /// It was asked and did not answer (or someone else did).
    Silent,
    /// It answers under its own name and generation, and speaks this version of the worker
    /// contract.
    Listening(u32),
    /// It answers and is not ready yet.
    Loading(LoadProgress),
    /// It can infer.
    Ready,
    /// Its process ended.
    Exited(Exit),
    /// The spawn was cancelled.
    Cancel,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchEffect {
    /// The process is up; sent once.
    Up,
    /// Loading came further by at least one percent.
    Progress(LoadProgress),
    /// It can infer; nothing follows.
    Ready,
    /// Its port was taken: start it on another one; nothing follows.
    NextPort,
    /// The start failed: kill the process group if it lives; nothing follows.
    Fail(LaunchFailure),
}

/// Why a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchFailure {
    /// The process ended.
    Exited(Exit),
    /// It never answered for this long.
    NoAnswer(Duration),
    /// Loading made no step for this long.
    Stuck(Duration, LoadProgress),
    /// It loads, but not within the limit for its size.
    TooSlow(Duration, LoadProgress),
    /// It speaks this version of the worker contract, which is not ours.
    Version(u32),
    /// It was cancelled.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Loading,
    Over,
}

/// The start of one process: starting, loading, then ready or failed.
#[derive(Debug, Clone)]
pub struct Launch {
    silence: Duration,
    total: Duration,
    phase: Phase,
    last_sign: Duration,
    loaded: LoadProgress,
    told_percent: Option<u64>,
}

/// The worker contract's exit code for a taken port.
const PORT_TAKEN: i32 = diagnostics::ExitCode::PortTaken as i32;

impl Launch {
    /// A process that was just started, at time 0, with weights of this size.
    pub fn new(limits: StartLimits, size_bytes: u64) -> Self {
        Self {
            silence: limits.silence,
            total: limits.total(size_bytes),
            phase: Phase::Starting,
            last_sign: Duration::ZERO,
            loaded: LoadProgress::default(),
            told_percent: None,
        }
    }

    /// Takes in an event, `now` after the start.
    pub fn step(&mut self, event: LaunchEvent, now: Duration) -> Vec<LaunchEffect> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match event {
            LaunchEvent::Exited(Exit::Code(PORT_TAKEN)) if self.phase == Phase::Starting => {
                self.phase = Phase::Over;
                return vec![LaunchEffect::NextPort];
            }
            LaunchEvent::Exited(exit) => {
                self.phase = Phase::Over;
                return vec![LaunchEffect::Fail(LaunchFailure::Exited(exit))];
            }
            LaunchEvent::Cancel => {
                self.phase = Phase::Over;
                return vec![LaunchEffect::Fail(LaunchFailure::Cancelled)];
            }
            LaunchEvent::Silent => {}
            LaunchEvent::Listening(version) if version != API_VERSION => {
                self.phase = Phase::Over;
                return vec![LaunchEffect::Fail(LaunchFailure::Version(version))];
            }
            LaunchEvent::Listening(_) => self.up(now, &mut effects),
            LaunchEvent::Loading(progress) => {
                self.up(now, &mut effects);
                self.loading(progress, now, &mut effects);
            }
            LaunchEvent::Ready => {
                self.up(now, &mut effects);
                self.phase = Phase::Over;
                let total = self.loaded.total;
                if total > 0 && self.told_percent != Some(100) {
                    effects.push(LaunchEffect::Progress(LoadProgress { done: total, total }));
                }
                effects.push(LaunchEffect::Ready);
                return effects;
            }
        }
        let silent = now.saturating_sub(self.last_sign);
        let failure = match self.phase {
            Phase::Starting if silent >= self.silence => LaunchFailure::NoAnswer(silent),
            Phase::Loading if silent >= self.silence => LaunchFailure::Stuck(silent, self.loaded),
            Phase::Loading if now >= self.total => LaunchFailure::TooSlow(now, self.loaded),
            _ => return effects,
        };
        self.phase = Phase::Over;
        effects.push(LaunchEffect::Fail(failure));
        effects
    }

    fn up(&mut self, now: Duration, effects: &mut Vec<LaunchEffect>) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Loading;
            self.last_sign = now;
            effects.push(LaunchEffect::Up);
        }
    }

    fn loading(&mut self, progress: LoadProgress, now: Duration, effects: &mut Vec<LaunchEffect>) {
        if progress.done != self.loaded.done {
            self.last_sign = now;
        }
        self.loaded = progress;
        let percent = progress
            .done
            .saturating_mul(100)
            .checked_div(progress.total)
            .map(|percent| percent.min(100));
        if percent.is_some() && percent != self.told_percent {
            self.told_percent = percent;
            effects.push(LaunchEffect::Progress(progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn at(done: u64, total: u64) -> LaunchEvent {
        LaunchEvent::Loading(LoadProgress { done, total })
    }

    fn launch() -> Launch {
        Launch::new(StartLimits::default(), 3 << 30)
    }

    #[test]
    fn a_start_that_goes_well() {
        let mut launch = launch();
        assert_eq!(launch.step(LaunchEvent::Silent, S(1)), []);
        assert_eq!(
            launch.step(LaunchEvent::Listening(API_VERSION), S(2)),
            [LaunchEffect::Up]
        );
        let progress = LoadProgress {
            done: 50,
            total: 100,
        };
        assert_eq!(
            launch.step(at(50, 100), S(3)),
            [LaunchEffect::Progress(progress)]
        );
        assert_eq!(launch.step(at(50, 100), S(4)), [], "told once");
        let whole = LoadProgress {
            done: 100,
            total: 100,
        };
        assert_eq!(
            launch.step(LaunchEvent::Ready, S(5)),
            [LaunchEffect::Progress(whole), LaunchEffect::Ready],
            "told to its end, also when the end was not seen"
        );
        assert_eq!(launch.step(LaunchEvent::Exited(Exit::Code(0)), S(6)), []);
    }

    #[test]
    fn ready_at_the_first_look_is_up_too() {
        assert_eq!(
            launch().step(LaunchEvent::Ready, S(0)),
            [LaunchEffect::Up, LaunchEffect::Ready]
        );
    }

    #[test]
    fn silence_is_limited_and_progress_extends_it() {
        let mut silent = launch();
        assert_eq!(silent.step(LaunchEvent::Silent, S(29)), []);
        assert_eq!(
            silent.step(LaunchEvent::Silent, S(30)),
            [LaunchEffect::Fail(LaunchFailure::NoAnswer(S(30)))]
        );

        let mut slow = launch();
        for n in 1..12 {
            let effects = slow.step(at(n, 1000), S(29 * n));
            assert!(
                !effects.iter().any(|e| matches!(e, LaunchEffect::Fail(_))),
                "{n}"
            );
        }
        let reached = LoadProgress {
            done: 11,
            total: 1000,
        };
        assert_eq!(
            slow.step(at(11, 1000), S(29 * 11 + 30)),
            [LaunchEffect::Fail(LaunchFailure::Stuck(S(30), reached))]
        );
    }

    #[test]
    fn the_whole_is_limited_by_the_size() {
        assert_eq!(StartLimits::default().total(0), S(300));
        assert_eq!(StartLimits::default().total(1), S(320));
        let mut slow = launch();
        for n in 1..18 {
            slow.step(at(n, 1000), S(20 * n));
        }
        let reached = LoadProgress {
            done: 18,
            total: 1000,
        };
        let effects = slow.step(at(18, 1000), S(360));
        assert!(
            effects.contains(&LaunchEffect::Fail(LaunchFailure::TooSlow(S(360), reached))),
            "{effects:?}"
        );
    }

    #[test]
    fn a_taken_port_is_only_one_before_it_listens() {
        let taken = LaunchEvent::Exited(Exit::Code(98));
        assert_eq!(launch().step(taken, S(1)), [LaunchEffect::NextPort]);
        let mut up = launch();
        up.step(LaunchEvent::Listening(API_VERSION), S(1));
        assert_eq!(
            up.step(taken, S(2)),
            [LaunchEffect::Fail(LaunchFailure::Exited(Exit::Code(98)))]
        );
    }

    #[test]
    fn a_worker_of_another_contract_is_refused() {
        assert_eq!(
            launch().step(LaunchEvent::Listening(API_VERSION + 1), S(1)),
            [LaunchEffect::Fail(LaunchFailure::Version(API_VERSION + 1))]
        );
    }

    #[test]
    fn cancel_ends_it() {
        assert_eq!(
            launch().step(LaunchEvent::Cancel, S(1)),
            [LaunchEffect::Fail(LaunchFailure::Cancelled)]
        );
    }

    fn events() -> impl Strategy<Value = LaunchEvent> {
        prop_oneof![
            4 => Just(LaunchEvent::Silent),
            2 => Just(LaunchEvent::Listening(API_VERSION)),
            4 => (any::<u64>(), any::<u64>()).prop_map(|(done, total)| at(done, total)),
            1 => Just(LaunchEvent::Ready),
            1 => (0..200).prop_map(|code| LaunchEvent::Exited(Exit::Code(code))),
            1 => Just(LaunchEvent::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn a_start_ends_once_and_is_up_at_most_once(
            script in prop::collection::vec((events(), 0u64..20), 1..60)
        ) {
            let mut launch = launch();
            let (mut now, mut ends, mut ups) = (0, 0, 0);
            for (event, wait) in script {
                now += wait;
                for effect in launch.step(event, S(now)) {
                    prop_assert_eq!(ends, 0, "something followed the end");
                    match effect {
                        LaunchEffect::Up => ups += 1,
                        LaunchEffect::Ready | LaunchEffect::NextPort | LaunchEffect::Fail(_) => ends += 1,
                        LaunchEffect::Progress(_) => {}
                    }
                }
            }
            prop_assert!(ups <= 1);
            // Whatever happens, time alone ends it.
            launch.step(LaunchEvent::Silent, S(now + 3600));
            prop_assert_eq!(launch.step(LaunchEvent::Ready, S(now + 3601)), []);
        }
    }
}
