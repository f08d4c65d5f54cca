use std::{collections::VecDeque, time::Duration};

use diagnostics::{Code, Diagnostic};
use worker_registry::Lease;

/// Failures that count are those of this last time.
const WINDOW: Duration = Duration::from_secs(300);
/// This many failures in the window end the attempts until one falls out of it.
const BREAKER: usize = 5;
/// Longest pause between two attempts, in seconds.
const LONGEST_PAUSE_SECONDS: u64 = 60;
/// A worker that the hive calls ready is heard within this time, or it failed.
const HEARD_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default)]
enum Phase {
    #[default]
    Idle,
    Spawning {
        /// The new worker was heard, given a request and lost, before its spawn was told.
        lost: bool,
    },
    /// Spawned; its heartbeat is due.
    Expected { lease: Lease, until: Duration },
}

/// What is known of the attempts to have a worker at one target.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    phase: Phase,
    failures: VecDeque<Duration>,
    not_before: Duration,
    last_error: Option<Diagnostic>,
}

/// Whether a spawn may begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Readiness {
    /// One is under way.
    UnderWay,
    /// Now.
    Now,
    /// After this pause.
    After(Duration),
    /// Too many failures; the next attempt is this far away.
    Broken(Duration),
}

impl TargetState {
    /// Whether a worker is being spawned or its first heartbeat is due.
    pub fn is_starting(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Whether nothing is under way, and nothing that was delays or refuses what comes.
    pub(crate) fn is_as_new(&self, now: Duration) -> bool {
        !self.is_starting() && self.not_before <= now && self.recent(now) == 0
    }

    /// Why the last attempt failed; cleared by one that succeeded.
    pub fn last_error(&self) -> Option<&Diagnostic> {
        self.last_error.as_ref()
    }

    /// How long until the next attempt may begin; zero when it may begin at once.
    pub fn pause(&self, now: Duration) -> Duration {
        match self.readiness(now) {
            Readiness::After(left) | Readiness::Broken(left) => left,
            Readiness::Now | Readiness::UnderWay => Duration::ZERO,
        }
    }

    pub(crate) fn readiness(&self, now: Duration) -> Readiness {
        if self.is_starting() {
            return Readiness::UnderWay;
        }
        let recent = self.recent(now);
        if recent >= BREAKER {
            let oldest = self.failures[self.failures.len() - BREAKER];
            return Readiness::Broken((oldest + WINDOW).saturating_sub(now));
        }
        match self.not_before.saturating_sub(now) {
            Duration::ZERO => Readiness::Now,
            left => Readiness::After(left),
        }
    }

    pub(crate) fn begin(&mut self) {
        self.phase = Phase::Spawning { lost: false };
    }

    pub(crate) fn spawned(&mut self, lease: Lease, now: Duration) {
        self.last_error = None;
        self.phase = Phase::Expected {
            lease,
            until: now + HEARD_WITHIN,
        };
    }

    /// A heartbeat came: if it is the one that was due, the start is complete.
    pub(crate) fn heard(&mut self, heard: &Lease) {
        if let Phase::Expected { lease, .. } = &self.phase
            && lease.worker == heard.worker
            && lease.generation <= heard.generation
        {
            self.phase = Phase::Idle;
        }
    }

    /// The heartbeat that was due did not come in time.
    pub(crate) fn overdue(&self, now: Duration) -> Option<Lease> {
        match &self.phase {
            Phase::Expected { lease, until } if *until <= now => Some(lease.clone()),
            _ => None,
        }
    }

    /// The attempt is over without a worker; tells whether that is news, as it is not where
    /// the new worker has served and its loss is known. A fault of the input (a model that
    /// cannot be loaded, a device that is not there) is told and does not delay the next
    /// attempt.
    pub(crate) fn failed(&mut self, error: Diagnostic, now: Duration) -> bool {
        let known = matches!(self.phase, Phase::Spawning { lost: true });
        self.phase = Phase::Idle;
        if known {
            return false;
        }
        if !is_refusal(error.code) {
            let failures = self.count(now) as u32;
            self.not_before = now + pause_after(failures);
        }
        self.last_error = Some(error);
        true
    }

    /// A worker that served was lost. The first such loss delays nothing.
    pub(crate) fn crashed(&mut self, now: Duration) {
        if let Phase::Spawning { lost } = &mut self.phase {
            *lost = true;
        }
        let failures = self.count(now) as u32;
        if failures > 1 {
            self.not_before = now + pause_after(failures - 1);
        }
    }

    /// A request was answered: the target works, whatever failed before.
    pub(crate) fn served(&mut self) {
        self.failures.clear();
        self.not_before = Duration::ZERO;
    }

    fn count(&mut self, now: Duration) -> usize {
        while self
            .failures
            .front()
            .is_some_and(|failure| *failure + WINDOW <= now)
        {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.failures.len()
    }

    fn recent(&self, now: Duration) -> usize {
        self.failures
            .iter()
            .filter(|failure| **failure + WINDOW > now)
            .count()
    }
}

/// 1 s after the first failure, doubling to 60 s.
fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    Duration::from_secs((1 << doublings).min(LONGEST_PAUSE_SECONDS))
}

/// Whether a spawn was refused for what was asked, not tried and failed: asking again
/// changes nothing until someone changes the input or the machine.
fn is_refusal(code: Code) -> bool {
    code.http_status() < 500
        || matches!(
            code,
            Code::BackendUnavailable
                | Code::CudaUnavailable
                | Code::WorkerBinaryNotFound
                | Code::WorkerBinaryMissing
                | Code::InsufficientRam
                | Code::InsufficientVram
                | Code::InsufficientDisk
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;

    fn broken() -> Diagnostic {
        Diagnostic::new(Code::WorkerStartFailed, "exit 1")
    }

    #[test]
    fn pauses_double_and_the_fifth_failure_opens_the_breaker() {
        let mut target = TargetState::default();
        let mut now = T0;
        for pause in [1, 2, 4, 8] {
            target.begin();
            target.failed(broken(), now);
            assert_eq!(
                target.readiness(now),
                Readiness::After(Duration::from_secs(pause))
            );
            now += Duration::from_secs(pause);
            assert_eq!(target.readiness(now), Readiness::Now);
        }
        target.begin();
        target.failed(broken(), now);
        assert_eq!(
            target.readiness(now),
            Readiness::Broken(WINDOW.saturating_sub(now))
        );
        let later = WINDOW + Duration::from_secs(31);
        assert_eq!(target.readiness(later), Readiness::Now);
        assert_eq!(pause_after(50), Duration::from_secs(60));
    }

    #[test]
    fn a_refused_input_does_not_delay_the_next_attempt() {
        let mut target = TargetState::default();
        for code in [
            Code::InvalidModelFile,
            Code::UnsupportedQuantization,
            Code::ModelNotFound,
            Code::BackendUnavailable,
            Code::InsufficientRam,
        ] {
            for _ in 0..9 {
                target.begin();
                target.failed(Diagnostic::new(code, "no"), T0);
                assert_eq!(target.readiness(T0), Readiness::Now, "{code}");
            }
        }
    }

    #[test]
    fn the_first_crash_is_replaced_at_once() {
        let mut target = TargetState::default();
        target.crashed(T0);
        assert_eq!(target.readiness(T0), Readiness::Now);
        target.crashed(T0);
        assert_eq!(
            target.readiness(T0),
            Readiness::After(Duration::from_secs(1))
        );
    }
}
