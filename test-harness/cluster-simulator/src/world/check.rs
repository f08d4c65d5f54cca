//! The promises that are checked while a run goes on, and at its end.

use std::time::Duration;

use crate::{
    fault::Fault,
    promise::{Promise, Violation},
    world::World,
    world::process::Stage,
};

/// Time after the deadline in which a request that waits must end: one tick of the queen.
pub(crate) const WAITING_GRACE: Duration = Duration::from_millis(201);
/// Time after the deadline in which a request that runs must end: the worker's grace, the question
/// whether it crashed, and its confirmation of the cancellation.
pub(crate) const RUNNING_GRACE: Duration = Duration::from_millis(1_000 + 2_000 + 1_000 + 201);
/// Longest time for the end of a request after its client left, for the same reasons.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_millis(2_000 + 1_000 + 201);

/// How long a worker may run a request that the queen does not follow any more.
const ORPHAN_LIMIT: Duration = Duration::from_millis(1_500);

impl World<'_> {
    /// A worker that is fenced exits, and a worker runs only requests that the queen follows, unless
    /// the network delays what it sends.
    pub(super) fn check_workers(&mut self) {
        let now = self.now;
        if self.queen.is_down {
            return;
        }
        let mut found = None;
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            let link = &self.links[process.node];
            let recent = |fault: &Fault| {
                fault.from() <= now && now < fault.until() + Duration::from_secs(10)
            };
            let is_disturbed = link.0.iter().any(recent)
                || process.frozen_until + ORPHAN_LIMIT > now
                || self.queen.started + Duration::from_secs(10) > now;
            if process.is_fenced && !process.is_dead() {
                let message = format!(
                    "worker {} continues, but it was fenced",
                    process.spawn.worker
                );
                return self.violate(Promise::Fence, message);
            }
            if process.stage == Stage::Dead || process.sequences() == 0 {
                continue;
            }
            let requests = &self.requests;
            let is_followed = |request: usize, connection| {
                requests[request].phase.connection() == Some(connection)
            };
            let process = &mut self.processes[index];
            if let Some(request) = process.orphan(is_disturbed, is_followed, now, ORPHAN_LIMIT) {
                found = Some(format!(
                    "worker {} still runs request {request}, which the queen does not follow",
                    process.spawn.worker
                ));
            }
        }
        if let Some(message) = found {
            self.violate(Promise::Leak, message);
        }
    }

    /// Records that a promise was broken; the run ends with the first one.
    pub(crate) fn violate(&mut self, promise: Promise, message: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                promise,
                at: self.now,
                message: message.into(),
            });
        }
    }

    /// What must be true at every tick of the queen.
    pub(crate) fn check_tick(&mut self) {
        let counts = self.queen.scheduler.counts();
        let (waiting, running) = (self.waiting as u64, self.running as u64);
        if counts.running != running || counts.waiting != waiting {
            self.violate(
                Promise::Counts,
                format!(
                    "the scheduler counts {} requests that run and {} that wait, but {running} and {waiting} do",
                    counts.running, counts.waiting
                ),
            );
        }
        // Requests that lost their workers return to the queue beyond its limit.
        let slots = self.processes.len() * self.plan.slots as usize;
        let most = self.plan.models.len() * self.plan.queue_limit + slots;
        if counts.waiting > most as u64 {
            self.violate(
                Promise::Bounded,
                format!("{} requests wait", counts.waiting),
            );
        }
        self.check_targets();
    }

    /// Every target that is starting has a spawn, or waits for a heartbeat or for memory.
    fn check_targets(&mut self) {
        let now = self.now;
        let limit = Duration::from_secs(200);
        let mut forgotten = None;
        let queen = &mut self.queen;
        let starting = queen
            .scheduler
            .targets()
            .filter(|(_, state)| state.is_starting());
        let starting: Vec<_> = starting.map(|(target, _)| target.clone()).collect();
        queen.starting.retain(|target, _| starting.contains(target));
        for target in starting {
            if queen.tasks_by_target.contains_key(&target) {
                queen.starting.remove(&target);
                continue;
            }
            let since = *queen.starting.entry(target.clone()).or_insert(now);
            if now.saturating_sub(since) > limit {
                forgotten = Some(target);
            }
        }
        if let Some(target) = forgotten {
            self.violate(
                Promise::Spawns,
                format!(
                    "the spawn of {} on {} never ends",
                    target.model, target.node
                ),
            );
        }
    }

    /// What must be true when every request has ended and nothing fails any more.
    pub(crate) fn check_end(&mut self) {
        for index in 0..self.requests.len() {
            if self.requests[index].ended.is_none() {
                self.violate(Promise::OneEnd, format!("request {index} never ended"));
            }
        }
        let open = self
            .queen
            .calls
            .values()
            .filter(|call| !call.is_usual())
            .count();
        let tasks = self.queen.tasks.len();
        if open + tasks > 0 {
            self.violate(
                Promise::Leak,
                format!("{open} calls and {tasks} spawns of the queen are open"),
            );
        }
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.is_dead() {
                continue;
            }
            let (held, sequences) = (process.held_tokens(), process.sequences());
            let spawn = process.spawn.clone();
            if held + sequences > 0 || !process.has_all_slots() {
                self.violate(
                    Promise::Leak,
                    format!(
                        "worker {} has {sequences} sequences and {held} tokens in blocks at the end",
                        spawn.worker
                    ),
                );
            }
        }
        let filter = worker_registry::WorkerFilter::default();
        let entries = self
            .queen
            .scheduler
            .registry()
            .snapshot(&filter, self.queen_now());
        for entry in entries {
            let info = &entry.info;
            let process = &self.processes[info.pid as usize - 1];
            if process.is_dead() || process.spawn.generation != info.generation {
                self.violate(
                    Promise::Leak,
                    format!("worker {} is registered, but gone", info.id),
                );
            } else if entry.active_requests > 0 || info.slots_free < info.slots_total {
                self.violate(
                    Promise::Leak,
                    format!(
                        "worker {} has {} of {} slots free and {} requests at the end",
                        info.id, info.slots_free, info.slots_total, entry.active_requests
                    ),
                );
            }
        }
    }
}
