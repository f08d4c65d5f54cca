use std::{collections::VecDeque, time::Duration};

use diagnostics::{Code, Diagnostic};
use worker_registry::SpawnId;

use crate::eviction::Eviction;

/// Failures older than this are forgotten.
const FAILURE_WINDOW: Duration = Duration::from_secs(300);
/// Number of failures within the window that stops further spawns until one leaves it.
const BREAKER_FAILURES: usize = 5;
/// Longest pause between two spawns, in seconds.
const MAX_PAUSE_SECONDS: u64 = 60;
/// A spawn without progress for this long is abandoned. The hive has shorter limits of its
/// own; this one applies when the hive or the task that follows it is stuck.
const SPAWN_SILENCE_LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for workers that are being stopped to make room.
const ROOM_LIMIT: Duration = Duration::from_secs(120);
/// Drivers may report memory as free only some time after its process has exited.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// Longest time from the end of a spawn to the worker's first heartbeat.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default)]
enum Phase {
    #[default]
    Idle,
    Spawning {
        last_progress: Duration,
        /// The new worker registered, received a request and crashed before its spawn was
        /// reported.
        crashed: bool,
    },
    /// Spawned; the first heartbeat is pending.
    Registering { spawn: SpawnId, until: Duration },
    /// Other workers are being stopped, so that their memory becomes free.
    MakingRoom {
        victims: Vec<SpawnId>,
        until: Duration,
    },
}

/// A spawn was refused because the device has too little free memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shortage {
    /// The memory that was missing, in bytes; at least 1.
    pub(crate) missing_bytes: u64,
    /// Time of the first refusal.
    pub(crate) since: Duration,
    /// Time of the latest refusal.
    pub(crate) latest: Duration,
    pub(crate) error: Diagnostic,
}

/// The spawns at one target: what is under way and which failures delay the next one.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    phase: Phase,
    failures: VecDeque<Duration>,
    not_before: Duration,
    last_error: Option<Diagnostic>,
    shortage: Option<Shortage>,
    /// When the workers that were stopped for it had exited.
    room_made: Option<Duration>,
    /// What was expected of stopping them.
    eviction: Option<Eviction>,
    begun: Duration,
}

/// Whether a spawn may begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Readiness {
    UnderWay,
    Now,
    /// After memory has become free.
    NeedsRoom,
    /// After this pause.
    After(Duration),
    /// Too many failures: not before this time has passed.
    Broken(Duration),
}

/// A phase that has exceeded its time limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The spawn reported no progress for `silent`.
    Spawn { silent: Duration },
    /// The spawned worker sent no heartbeat.
    Heartbeat(SpawnId),
}

impl TargetState {
    /// Returns true while a worker is being spawned or its first heartbeat is pending.
    pub fn is_starting(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Returns true while a worker is being spawned, before that was reported.
    pub(crate) fn is_spawning(&self) -> bool {
        matches!(self.phase, Phase::Spawning { .. })
    }

    /// Returns true if forgetting the state changes nothing: no spawn is under way and none
    /// is delayed.
    pub(crate) fn is_as_new(&self, now: Duration) -> bool {
        !self.is_starting()
            && self.shortage.is_none()
            && self.not_before <= now
            && self.recent_failures(now) == 0
    }

    pub(crate) fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
    }

    /// Returns true while the memory of workers that were stopped for it becomes free.
    pub(crate) fn is_releasing(&self, now: Duration) -> bool {
        let made = self.room_made;
        made.is_some_and(|made| now.saturating_sub(made) < RELEASE_LIMIT)
    }

    /// Returns true if memory is being freed for it, or was freed and is not used yet.
    pub(crate) fn is_taking_room(&self, now: Duration) -> bool {
        self.shortage.is_some() && (self.is_starting() || self.is_releasing(now))
    }

    /// When the current or last spawn began.
    pub(crate) fn begun(&self) -> Duration {
        self.begun
    }

    /// Returns the error of the last spawn, unless it succeeded.
    pub(crate) fn last_error(&self) -> Option<&Diagnostic> {
        self.last_error.as_ref()
    }

    /// Returns the time until the next spawn may begin; zero if it may begin now.
    pub fn pause(&self, now: Duration) -> Duration {
        match self.readiness(now) {
            Readiness::After(remaining) | Readiness::Broken(remaining) => remaining,
            Readiness::Now | Readiness::NeedsRoom | Readiness::UnderWay => Duration::ZERO,
        }
    }

    pub(crate) fn readiness(&self, now: Duration) -> Readiness {
        if self.is_starting() {
            return Readiness::UnderWay;
        }
        if self.shortage.is_some() {
            return Readiness::NeedsRoom;
        }
        if self.recent_failures(now) >= BREAKER_FAILURES {
            let oldest = self.failures[self.failures.len() - BREAKER_FAILURES];
            return Readiness::Broken((oldest + FAILURE_WINDOW).saturating_sub(now));
        }
        match self.not_before.saturating_sub(now) {
            Duration::ZERO => Readiness::Now,
            remaining => Readiness::After(remaining),
        }
    }

    pub(crate) fn begin(&mut self, now: Duration) {
        self.begun = now;
        self.phase = Phase::Spawning {
            last_progress: now,
            crashed: false,
        };
    }

    /// The node of a spawn that is under way is awake now: what it takes from now on is the time to
    /// load the model.
    pub(crate) fn node_is_awake(&mut self, now: Duration) {
        if self.is_spawning() {
            self.begun = now;
        }
    }

    pub(crate) fn progressed(&mut self, now: Duration) {
        if let Phase::Spawning { last_progress, .. } = &mut self.phase {
            *last_progress = now;
        }
    }

    /// Records that the spawn was refused for memory that others may free.
    pub(crate) fn lacks_memory(&mut self, error: Diagnostic, missing_bytes: u64, now: Duration) {
        self.phase = Phase::Idle;
        let since = self.shortage.as_ref().map_or(now, |known| known.since);
        self.shortage = Some(Shortage {
            missing_bytes: missing_bytes.max(1),
            since,
            latest: now,
            error,
        });
    }

    /// Forgets that memory was missing.
    pub(crate) fn forget_shortage(&mut self) {
        if matches!(self.phase, Phase::MakingRoom { .. }) {
            self.phase = Phase::Idle;
        }
        self.shortage = None;
        self.room_made = None;
        self.eviction = None;
    }

    /// Records that these workers are being stopped for it.
    pub(crate) fn make_room(&mut self, victims: Vec<SpawnId>, eviction: Eviction, now: Duration) {
        self.eviction = Some(eviction);
        self.phase = Phase::MakingRoom {
            victims,
            until: now + ROOM_LIMIT,
        };
    }

    /// Returns what was expected of the workers that were stopped for it, once: memory is missing
    /// although they are gone.
    pub(crate) fn take_eviction(&mut self) -> Option<Eviction> {
        self.eviction.take()
    }

    /// Returns true if the workers that were stopped for it are gone, or took too long.
    pub(crate) fn has_room(&mut self, is_gone: impl Fn(&SpawnId) -> bool, now: Duration) -> bool {
        let has_room = match &self.phase {
            Phase::MakingRoom { victims, until } => *until <= now || victims.iter().all(is_gone),
            _ => false,
        };
        if has_room {
            self.room_made = Some(now);
        }
        has_room
    }

    pub(crate) fn spawned(&mut self, spawn: SpawnId, now: Duration) {
        self.last_error = None;
        self.forget_shortage();
        self.phase = Phase::Registering {
            spawn,
            until: now + REGISTRATION_LIMIT,
        };
    }

    /// Applies a heartbeat: the start is complete if this spawn or a later one was pending.
    pub(crate) fn registered(&mut self, registered: &SpawnId) {
        if let Phase::Registering { spawn, .. } = &self.phase
            && spawn.worker == registered.worker
            && spawn.generation <= registered.generation
        {
            self.phase = Phase::Idle;
        }
    }

    pub(crate) fn overdue(&self, now: Duration) -> Option<Overdue> {
        match &self.phase {
            Phase::Idle | Phase::MakingRoom { .. } => None,
            Phase::Spawning { last_progress, .. } => {
                let silent = now.saturating_sub(*last_progress);
                (silent >= SPAWN_SILENCE_LIMIT).then_some(Overdue::Spawn { silent })
            }
            Phase::Registering { spawn, until } => {
                (*until <= now).then(|| Overdue::Heartbeat(spawn.clone()))
            }
        }
    }

    /// Records that the spawn failed. Returns false if the failure is known already, because
    /// the new worker had registered and its crash was recorded. An error in the input (a
    /// model that cannot be loaded, a device that does not exist) does not delay the next
    /// spawn.
    pub(crate) fn failed(&mut self, error: Diagnostic, now: Duration) -> bool {
        let known = matches!(self.phase, Phase::Spawning { crashed: true, .. });
        self.phase = Phase::Idle;
        self.forget_shortage();
        if known {
            return false;
        }
        if !is_input_error(error.code) {
            let failures = self.add_failure(now) as u32;
            self.not_before = now + pause_after(failures);
        }
        self.last_error = Some(error);
        true
    }

    /// Records that a worker crashed while it served. The first crash delays nothing.
    pub(crate) fn crashed(&mut self, now: Duration) {
        if let Phase::Spawning { crashed, .. } = &mut self.phase {
            *crashed = true;
        }
        let failures = self.add_failure(now) as u32;
        if failures > 1 {
            self.not_before = now + pause_after(failures - 1);
        }
    }

    /// Records that a request completed: the target works, so earlier failures are forgotten.
    pub(crate) fn served(&mut self) {
        self.failures.clear();
        self.not_before = Duration::ZERO;
    }

    fn add_failure(&mut self, now: Duration) -> usize {
        while self
            .failures
            .front()
            .is_some_and(|failure| *failure + FAILURE_WINDOW <= now)
        {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.failures.len()
    }

    fn recent_failures(&self, now: Duration) -> usize {
        self.failures
            .iter()
            .filter(|failure| **failure + FAILURE_WINDOW > now)
            .count()
    }
}

/// 1 s after the first failure, doubling to 60 s.
fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    Duration::from_secs((1 << doublings).min(MAX_PAUSE_SECONDS))
}

/// Returns true if a spawn that failed with this error may succeed on another node: the model
/// itself is not the cause, unless this node does not have it.
pub(crate) fn may_succeed_elsewhere(code: Code) -> bool {
    code.http_status() >= 500
        || code == Code::ModelNotFound
        || code == Code::NodeNotFound
        || code == Code::VersionIncompatible
        || code == Code::InvalidApiKey
}

/// Returns the memory that is missing, in bytes, if the spawn was refused for that and nothing else.
/// 1 if the error does not say how much.
pub(crate) fn missing_bytes(error: &Diagnostic) -> Option<u64> {
    let memory = [Code::InsufficientRam, Code::InsufficientVram].map(Code::as_str);
    let is_memory = |code: &str| memory.iter().any(|memory| memory == code);
    let detail = |name: &str| error.details.as_ref().and_then(|details| details.get(name));
    let failures = detail("failures").and_then(serde_json::Value::as_array);
    let mut codes = failures
        .into_iter()
        .flatten()
        .map(|failure| failure["code"].as_str());
    if !is_memory(&error.code.as_str()) || !codes.all(|code| code.is_some_and(is_memory)) {
        return None;
    }
    let bytes = |name: &str| detail(name).and_then(serde_json::Value::as_u64);
    let missing = bytes("need_bytes").zip(bytes("available_bytes"));
    Some(missing.map_or(1, |(need, available)| need.saturating_sub(available).max(1)))
}

/// Returns true if the spawn was refused because of its input: it fails again until someone
/// changes the input or the machine.
pub(crate) fn is_input_error(code: Code) -> bool {
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
    use input_validation::Generation;

    use super::*;

    const T0: Duration = Duration::ZERO;

    fn start_failed() -> Diagnostic {
        Diagnostic::new(Code::WorkerStartFailed, "exit 1")
    }

    #[test]
    fn pauses_double_and_the_fifth_failure_opens_the_breaker() {
        let mut target = TargetState::default();
        let mut now = T0;
        for pause in [1, 2, 4, 8] {
            target.begin(now);
            target.failed(start_failed(), now);
            assert_eq!(
                target.readiness(now),
                Readiness::After(Duration::from_secs(pause))
            );
            now += Duration::from_secs(pause);
            assert_eq!(target.readiness(now), Readiness::Now);
        }
        target.begin(now);
        target.failed(start_failed(), now);
        assert_eq!(
            target.readiness(now),
            Readiness::Broken(FAILURE_WINDOW.saturating_sub(now))
        );
        let later = FAILURE_WINDOW + Duration::from_secs(31);
        assert_eq!(target.readiness(later), Readiness::Now);
        let pauses = (1..=8).map(|failures| pause_after(failures).as_secs());
        assert!(pauses.eq([1, 2, 4, 8, 16, 32, 60, 60]));
    }

    #[test]
    fn only_the_pending_spawn_or_a_later_one_completes_the_start() {
        let spawn = |worker: &str, generation| SpawnId {
            worker: worker.parse().unwrap(),
            generation: Generation(generation),
        };
        for (registered, completes) in [
            (spawn("w", 4), false),
            (spawn("other", 9), false),
            (spawn("w", 5), true),
            (spawn("w", 6), true),
        ] {
            let mut target = TargetState::default();
            target.begin(T0);
            target.registered(&registered);
            assert!(target.is_starting(), "the spawn was not reported yet");
            target.spawned(spawn("w", 5), T0);
            target.registered(&registered);
            assert_eq!(!target.is_starting(), completes, "{registered:?}");
            let overdue = (!completes).then(|| Overdue::Heartbeat(spawn("w", 5)));
            assert_eq!(target.overdue(REGISTRATION_LIMIT), overdue);
        }
    }

    #[test]
    fn a_successful_spawn_clears_the_error_and_a_completed_request_the_failures() {
        let mut target = TargetState::default();
        for _ in 0..2 {
            target.begin(T0);
            assert!(target.failed(start_failed(), T0));
        }
        assert_eq!(target.last_error(), Some(&start_failed()));
        assert_eq!(target.pause(T0), Duration::from_secs(2));
        target.begin(T0);
        let worker = "w".parse().unwrap();
        let generation = Generation(1);
        target.spawned(SpawnId { worker, generation }, T0);
        assert_eq!(target.last_error(), None);
        target.registered(&SpawnId {
            worker: "w".parse().unwrap(),
            generation,
        });
        assert_eq!(target.pause(T0), Duration::from_secs(2));
        assert!(!target.is_as_new(T0));
        target.served();
        assert_eq!(target.pause(T0), Duration::ZERO);
        assert!(target.is_as_new(T0));
    }

    #[test]
    fn an_input_error_does_not_delay_the_next_spawn() {
        let mut target = TargetState::default();
        for code in [
            Code::InvalidModelFile,
            Code::UnsupportedQuantization,
            Code::ModelNotFound,
            Code::BackendUnavailable,
            Code::InsufficientRam,
        ] {
            for _ in 0..9 {
                target.begin(T0);
                target.failed(Diagnostic::new(code, "no"), T0);
                assert_eq!(target.readiness(T0), Readiness::Now, "{code}");
            }
        }
    }

    #[test]
    fn the_first_crash_delays_nothing_and_the_second_does() {
        let mut target = TargetState::default();
        target.crashed(T0);
        assert_eq!(target.readiness(T0), Readiness::Now);
        target.crashed(T0);
        assert_eq!(
            target.readiness(T0),
            Readiness::After(Duration::from_secs(1))
        );
    }

    #[test]
    fn progress_extends_the_limit_of_a_spawn() {
        let second = Duration::from_secs(1);
        let mut target = TargetState::default();
        target.begin(T0);
        assert_eq!(
            target.overdue(SPAWN_SILENCE_LIMIT.saturating_sub(second)),
            None
        );
        target.progressed(second);
        assert_eq!(target.overdue(SPAWN_SILENCE_LIMIT), None);
        assert_eq!(
            target.overdue(SPAWN_SILENCE_LIMIT + second),
            Some(Overdue::Spawn {
                silent: SPAWN_SILENCE_LIMIT
            })
        );
    }
}
