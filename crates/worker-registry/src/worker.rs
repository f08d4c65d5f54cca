use std::time::Duration;

use input_validation::{Backend, DeviceId, Generation, ModelRef, NodeName, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use worker_contract::{WorkerHeartbeat, WorkerInfo, WorkerStatus};

use crate::SILENT_AFTER;

/// First and longest pause after a worker said that every slot is taken, in seconds.
const FULL_SECONDS: (u64, u64) = (1, 4);

/// One request's place on a worker: which spawn of which worker runs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The worker.
    pub worker: WorkerId,
    /// Which spawn of it.
    pub generation: Generation,
}

/// What a list of workers is narrowed to; the default keeps all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Serving this model.
    pub model: Option<ModelRef>,
    /// On this node.
    pub node: Option<NodeName>,
    /// On a device of this kind.
    pub backend: Option<Backend>,
    /// In this status.
    pub status: Option<WorkerStatus>,
}

impl Filter {
    /// Whether the worker passes.
    pub fn matches(&self, info: &WorkerInfo) -> bool {
        self.model.as_ref().is_none_or(|m| *m == info.model_id)
            && self.node.as_ref().is_none_or(|n| *n == info.hive_id)
            && self.backend.is_none_or(|b| drives(b, info.device))
            && self.status.is_none_or(|s| s == info.status)
    }
}

/// Whether a backend computes on such a device.
fn drives(backend: Backend, device: DeviceId) -> bool {
    match device {
        DeviceId::Cpu(_) => backend == Backend::Cpu,
        DeviceId::Gpu(_) => backend != Backend::Cpu,
    }
}

/// A worker that may get a request now.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its last heartbeat.
    pub info: &'a WorkerInfo,
    /// Requests it can take at once; at least 1.
    pub free_slots: u32,
}

impl Candidate<'_> {
    /// The lease that a request on it would have.
    pub fn lease(&self) -> Lease {
        Lease {
            worker: self.info.id.clone(),
            generation: self.info.generation,
        }
    }
}

/// The worker answered that every slot is taken.
#[derive(Debug, Clone, Copy)]
struct Full {
    until: Duration,
    pause: u64,
}

/// What is known of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) info: WorkerInfo,
    sequence: u64,
    heard: Duration,
    failed: bool,
    /// Requests of this queen on it.
    active: u32,
    /// The most of them at one time since the last heartbeat.
    peak: u32,
    /// Slots taken by others, as of the last heartbeat.
    foreign: u32,
    full: Option<Full>,
}

impl Worker {
    pub(crate) fn new(heartbeat: WorkerHeartbeat, now: Duration) -> Self {
        let foreign = slots_taken(&heartbeat.worker);
        Self {
            info: heartbeat.worker,
            sequence: heartbeat.sequence,
            heard: now,
            failed: false,
            active: 0,
            peak: 0,
            foreign,
            full: None,
        }
    }

    /// Takes over a newer heartbeat of the same process; false when it was overtaken by one
    /// already seen.
    pub(crate) fn refresh(&mut self, heartbeat: WorkerHeartbeat, now: Duration) -> bool {
        if heartbeat.sequence <= self.sequence {
            return false;
        }
        // A slot that one of our own requests could explain, at any time since the last
        // heartbeat, is not someone else's: the heartbeat may be older than the request's end.
        self.foreign = slots_taken(&heartbeat.worker).saturating_sub(self.peak);
        self.peak = self.active;
        self.info = heartbeat.worker;
        self.sequence = heartbeat.sequence;
        self.heard = now;
        self.failed = false;
        self.full = None;
        true
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease {
            worker: self.info.id.clone(),
            generation: self.info.generation,
        }
    }

    pub(crate) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard)
    }

    pub(crate) fn availability(&self, now: Duration) -> Availability {
        if self.failed {
            Availability::Failed
        } else if self.age(now) >= SILENT_AFTER {
            Availability::Silent
        } else {
            Availability::Available
        }
    }

    /// Requests it can take now.
    pub(crate) fn free_slots(&self, now: Duration) -> u32 {
        let serves = matches!(self.info.status, WorkerStatus::Ready | WorkerStatus::Busy)
            && self.availability(now) == Availability::Available
            && self.full.is_none_or(|full| full.until <= now);
        if serves {
            self.info
                .slots_total
                .saturating_sub(self.active)
                .saturating_sub(self.foreign)
        } else {
            0
        }
    }

    pub(crate) fn reserve(&mut self) {
        self.active += 1;
        self.peak = self.peak.max(self.active);
    }

    pub(crate) fn release(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Returns whether this is news.
    pub(crate) fn fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failed, true)
    }

    pub(crate) fn refuse_for_a_while(&mut self, now: Duration) {
        let pause = match self.full {
            Some(full) => (full.pause * 2).min(FULL_SECONDS.1),
            None => FULL_SECONDS.0,
        };
        self.full = Some(Full {
            until: now + Duration::from_secs(pause),
            pause,
        });
    }

    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    pub(crate) fn entry(&self, now: Duration) -> WorkerEntry {
        WorkerEntry {
            info: self.info.clone(),
            availability: self.availability(now),
            heartbeat_age_ms: self.age(now).as_millis() as u64,
            active_requests: self.active,
        }
    }
}

fn slots_taken(info: &WorkerInfo) -> u32 {
    match info.status {
        WorkerStatus::Busy => info.slots_total,
        _ => info.slots_total.saturating_sub(info.slots_free),
    }
}
