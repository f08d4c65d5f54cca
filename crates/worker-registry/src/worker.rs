use std::time::Duration;

use input_validation::{Backend, DeviceId, Generation, ModelRef, NodeName, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use worker_contract::{Capability, WorkerHeartbeat, WorkerInfo, WorkerStatus};

use crate::{CHECK_INTERVAL, LATE_AFTER, RECOVERY_LIMIT, SILENT_AFTER};

/// First and longest back-off after a worker answered that all its slots are busy, in seconds.
const BUSY_BACKOFF_SECONDS: (u64, u64) = (1, 4);

/// Identifies one spawn of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpawnId {
    pub worker: WorkerId,
    pub generation: Generation,
}

impl SpawnId {
    pub fn of(info: &WorkerInfo) -> Self {
        Self {
            worker: info.id.clone(),
            generation: info.generation,
        }
    }
}

/// Selects workers; `None` matches every value, so the default selects all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerFilter {
    pub model: Option<ModelRef>,
    pub node: Option<NodeName>,
    pub backend: Option<Backend>,
    pub status: Option<WorkerStatus>,
    pub capability: Option<Capability>,
}

impl WorkerFilter {
    pub fn matches(&self, info: &WorkerInfo) -> bool {
        self.model.as_ref().is_none_or(|m| *m == info.model_id)
            && self.node.as_ref().is_none_or(|n| *n == info.hive_id)
            && self.backend.is_none_or(|b| runs_on(b, info.device))
            && self.status.is_none_or(|s| s == info.status)
            && self
                .capability
                .is_none_or(|c| info.capabilities.contains(&c))
    }
}

/// Whether workers of the backend run on devices of this kind.
pub fn runs_on(backend: Backend, device: DeviceId) -> bool {
    match device {
        DeviceId::Cpu(_) => backend == Backend::Cpu,
        DeviceId::Gpu(_) => backend != Backend::Cpu,
    }
}

/// A worker that can accept a request now.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The worker's last heartbeat.
    pub info: &'a WorkerInfo,
    /// At least 1.
    pub free_slots: u32,
}

#[derive(Debug, Clone, Copy)]
struct BusyBackoff {
    until: Duration,
    seconds: u64,
}

/// The state of one registered worker.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) info: WorkerInfo,
    sequence: u64,
    last_heartbeat: Duration,
    last_check: Duration,
    connection_failed: bool,
    /// When a request found that the worker computes nothing.
    stalled_since: Option<Duration>,
    stopping: bool,
    /// Requests that this queen runs on the worker.
    active: u32,
    /// Highest value of `active` since the last heartbeat.
    peak: u32,
    /// Slots used by other clients of the worker, as of the last heartbeat.
    used_by_others: u32,
    backoff: Option<BusyBackoff>,
}

impl Worker {
    pub(crate) fn new(heartbeat: WorkerHeartbeat, stopping: bool, now: Duration) -> Self {
        let used_by_others = used_slots(&heartbeat.worker);
        Self {
            info: heartbeat.worker,
            sequence: heartbeat.sequence,
            last_heartbeat: now,
            last_check: now,
            connection_failed: false,
            stalled_since: None,
            stopping,
            active: 0,
            peak: 0,
            used_by_others,
            backoff: None,
        }
    }

    /// Applies a later heartbeat of the same process. Returns false, and changes nothing, if
    /// a heartbeat with a higher sequence number was applied before.
    pub(crate) fn refresh(&mut self, heartbeat: WorkerHeartbeat, now: Duration) -> bool {
        if heartbeat.sequence <= self.sequence {
            return false;
        }
        // The worker may have sent this heartbeat before one of our requests finished. A slot
        // that any of our requests since the last heartbeat can explain is therefore not
        // counted as used by others.
        self.used_by_others = used_slots(&heartbeat.worker).saturating_sub(self.peak);
        self.peak = self.active;
        self.info = heartbeat.worker;
        self.sequence = heartbeat.sequence;
        self.last_heartbeat = now;
        self.connection_failed = false;
        self.backoff = None;
        if self
            .stalled_since
            .is_some_and(|since| self.last_step(now) > Some(since))
        {
            self.stalled_since = None;
        }
        true
    }

    /// When the engine completed its last step, as of the last heartbeat.
    fn last_step(&self, now: Duration) -> Option<Duration> {
        let since_step = Duration::from_millis(self.info.last_step_ms?);
        now.checked_sub(since_step)
    }

    pub(crate) fn heartbeat_age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_heartbeat)
    }

    /// Whether its heartbeat is late and that was not returned a short time ago.
    pub(crate) fn check_late(&mut self, now: Duration) -> bool {
        let last = self.last_heartbeat.max(self.last_check);
        let is_late = self.heartbeat_age(now) >= LATE_AFTER;
        let is_due = is_late && now.saturating_sub(last) >= CHECK_INTERVAL;
        if is_due {
            self.last_check = now;
        }
        is_due
    }

    pub(crate) fn availability(&self, now: Duration) -> Availability {
        if self.stopping {
            Availability::Stopping
        } else if self.stalled_since.is_some() {
            Availability::Stalled
        } else if self.connection_failed {
            Availability::Failed
        } else if self.heartbeat_age(now) >= SILENT_AFTER {
            Availability::Silent
        } else {
            Availability::Available
        }
    }

    /// The number of requests that the worker can accept now.
    pub(crate) fn free_slots(&self, now: Duration) -> u32 {
        let accepts = matches!(self.info.status, WorkerStatus::Ready | WorkerStatus::Busy)
            && self.availability(now) == Availability::Available
            && self.backoff.is_none_or(|backoff| backoff.until <= now);
        if accepts { self.unused_slots() } else { 0 }
    }

    fn unused_slots(&self) -> u32 {
        self.info
            .slots_total
            .saturating_sub(self.active)
            .saturating_sub(self.used_by_others)
    }

    pub(crate) fn reserve(&mut self) {
        self.active += 1;
        self.peak = self.peak.max(self.active);
    }

    pub(crate) fn release(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Returns false if the connection was already known to have failed.
    pub(crate) fn connection_failed(&mut self) -> bool {
        !std::mem::replace(&mut self.connection_failed, true)
    }

    /// Returns false if the worker was already known to have stalled.
    pub(crate) fn stalled(&mut self, now: Duration) -> bool {
        self.stalled_since
            .replace(self.stalled_since.unwrap_or(now))
            .is_none()
    }

    /// Returns true if the worker stalled, did not recover in time, and is not being stopped.
    pub(crate) fn is_lost_to_stall(&self, now: Duration) -> bool {
        let unrecovered = |since: Duration| now.saturating_sub(since) >= RECOVERY_LIMIT;
        !self.stopping && self.stalled_since.is_some_and(unrecovered)
    }

    pub(crate) fn set_stopping(&mut self) {
        self.stopping = true;
    }

    pub(crate) fn back_off(&mut self, now: Duration) {
        let seconds = match self.backoff {
            Some(backoff) => (backoff.seconds * 2).min(BUSY_BACKOFF_SECONDS.1),
            None => BUSY_BACKOFF_SECONDS.0,
        };
        self.backoff = Some(BusyBackoff {
            until: now + Duration::from_secs(seconds),
            seconds,
        });
    }

    /// The entry as of now: requests that ended after the last heartbeat occupy no slot.
    pub(crate) fn entry(&self, now: Duration) -> WorkerEntry {
        let mut info = self.info.clone();
        if matches!(info.status, WorkerStatus::Ready | WorkerStatus::Busy) {
            info.slots_free = self.unused_slots();
        }
        WorkerEntry {
            info,
            availability: self.availability(now),
            heartbeat_age_ms: self.heartbeat_age(now).as_millis() as u64,
            active_requests: self.active,
            parts: Vec::new(),
        }
    }
}

fn used_slots(info: &WorkerInfo) -> u32 {
    match info.status {
        WorkerStatus::Busy => info.slots_total,
        _ => info.slots_total.saturating_sub(info.slots_free),
    }
}
