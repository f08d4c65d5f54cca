//! How long requests wait: estimates from measured times, what clients receive of them, and which
//! requests are refused or end because of them.

use std::{collections::HashSet, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{ModelRef, RequestId};
use queen_contract::QueueEntry;
use request_queue::QueuedRequest;
use worker_registry::{ServingState, WorkerFilter};

use crate::{
    Scheduler, SchedulerEffect, WaitReason, Waiting, WorkerRequirements, errors, request::Reported,
};

/// Lowest and highest value of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: (u64, u64) = (1, 60);
/// Requests of a model that must have completed before one is refused because of their time.
const MEASURED_REQUESTS: u32 = 3;
/// A client receives a new position at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Returns how many requests wait for each model, and how long.
    pub fn queues(&self, now: Duration) -> Vec<QueueEntry> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let queues = self.queue.states().map(|(model, state)| {
            let last = self.queue.in_order(model).last();
            let reason = last.and_then(|last| Some(self.requests.get(&last.id)?.reported?.reason));
            let waiting = state.interactive + state.batch;
            let estimate = reason.and_then(|reason| self.estimate(model, waiting, reason, now));
            QueueEntry {
                model: model.clone(),
                interactive: count(state.interactive),
                batch: count(state.batch),
                oldest_wait_ms: now.saturating_sub(state.oldest).as_millis() as u64,
                estimated_seconds: estimate.map(|time| time.as_secs_f64().ceil() as u64),
            }
        });
        queues.collect()
    }

    /// Tells the clients of these requests why they wait, and their positions.
    pub(crate) fn report(
        &mut self,
        model: &ModelRef,
        ids: &[RequestId],
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        if ids.is_empty() {
            return;
        }
        let reported: HashSet<&RequestId> = ids.iter().collect();
        let positions = self.queue.in_order(model).zip(1..);
        let positions = positions.filter(|(request, _)| reported.contains(&request.id));
        let positions: Vec<(RequestId, usize)> = positions
            .map(|(request, position)| (request.id.clone(), position))
            .collect();
        let waiting = self.queue.waiting(model);
        for (id, position) in positions {
            let reported = self.requests.get_mut(&id);
            let Some(reported) = reported.and_then(|request| request.reported.as_mut()) else {
                continue;
            };
            let reason = reported.reason;
            *reported = Reported {
                reason,
                position,
                at: now,
            };
            let report = Waiting {
                reason,
                position,
                waiting,
                estimate: self.estimate(model, position, reason, now),
            };
            out.push(SchedulerEffect::Waiting(id, report));
        }
    }

    /// Tells clients of their new positions.
    pub(crate) fn report_positions(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let models: Vec<ModelRef> = self.queue.models().cloned().collect();
        for model in models {
            let moved = self.queue.in_order(&model).zip(1..);
            let moved = moved.filter(|(queued, position)| {
                let request = self.requests.get(&queued.id);
                let reported = request.and_then(|request| request.reported);
                reported.is_some_and(|reported| {
                    reported.position != *position
                        && now.saturating_sub(reported.at) >= REPORT_INTERVAL
                })
            });
            let moved: Vec<RequestId> = moved.map(|(queued, _)| queued.id.clone()).collect();
            self.report(&model, &moved, now, out);
        }
    }

    /// Estimates when the request at a position, 1 for the next one, has a worker.
    fn estimate(
        &self,
        model: &ModelRef,
        position: usize,
        reason: WaitReason,
        now: Duration,
    ) -> Option<Duration> {
        let load_time = || {
            let load_time = self.residency.load_time(model)?;
            let slots = self.slots(&WorkerRequirements::model(model.clone()));
            let before = match slots {
                0 => Duration::ZERO,
                // All slots of the new worker are free.
                slots => {
                    let rounds = (position - 1) / slots as usize;
                    self.service_time(model, 1)? * u32::try_from(rounds).unwrap_or(u32::MAX)
                }
            };
            Some(load_time.saturating_sub(self.loading_since(model, now)) + before)
        };
        match reason {
            WaitReason::Busy { .. } => {
                let requirements = WorkerRequirements::model(model.clone());
                self.time_to_slot(&requirements, position, 1)
            }
            WaitReason::Loading => load_time(),
            WaitReason::Backoff { remaining } => Some(remaining + load_time()?),
            WaitReason::Memory | WaitReason::Policy | WaitReason::Waking => None,
        }
    }

    /// Returns why a new request that has just entered the queue cannot have a worker before its
    /// deadline, if that is known: without measured times, no request is refused.
    pub(crate) fn too_late(
        &self,
        queued: &QueuedRequest,
        requirements: &WorkerRequirements,
        now: Duration,
    ) -> Option<Diagnostic> {
        let left = queued.deadline.since_start().saturating_sub(now);
        if left.is_zero() {
            return Some(errors::deadline_passed_on_arrival());
        }
        let wait = self.least_wait(&queued.id, requirements, now)?;
        let model = &requirements.model;
        (wait > left).then(|| errors::deadline_too_early(model, wait, left))
    }

    fn least_wait(
        &self,
        id: &RequestId,
        requirements: &WorkerRequirements,
        now: Duration,
    ) -> Option<Duration> {
        let model = &requirements.model;
        let filter = requirements.filter();
        match self.registry.serving_state(&filter, now) {
            ServingState::Serving => {
                if self.registry.candidates(&filter, now).next().is_some() {
                    return None;
                }
                let before = self.queue.in_order(model).take_while(|r| r.id != *id);
                // The others may be waiting for other workers.
                let before = before.filter(|queued| {
                    let request = self.requests.get(&queued.id);
                    request.is_some_and(|request| request.requirements == *requirements)
                });
                self.time_to_slot(requirements, before.count() + 1, MEASURED_REQUESTS)
            }
            ServingState::Loading | ServingState::None => {
                let load_time = self.residency.least_load_time(model)?;
                Some(load_time.saturating_sub(self.loading_since(model, now)))
            }
        }
    }

    /// How long the workers of the model that are being started have been loading, at most.
    fn loading_since(&self, model: &ModelRef, now: Duration) -> Duration {
        let starting = self.targets.iter();
        let starting =
            starting.filter(|(target, state)| target.model == *model && state.is_starting());
        let since = starting.map(|(_, state)| now.saturating_sub(state.begun()));
        since.max().unwrap_or_default()
    }

    /// The time until a slot is free for the request at a position, while all are busy. `None`
    /// unless at least `measured` requests of the model have completed.
    fn time_to_slot(
        &self,
        requirements: &WorkerRequirements,
        position: usize,
        measured: u32,
    ) -> Option<Duration> {
        let service_time = self.service_time(&requirements.model, measured)?;
        let slots = self.slots(requirements);
        if slots == 0 {
            return None;
        }
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        Some(service_time.saturating_mul(position) / slots)
    }

    fn service_time(&self, model: &ModelRef, measured: u32) -> Option<Duration> {
        let time = self.service_times.get(model)?;
        (time.completed >= measured).then_some(time.average)
    }

    fn slots(&self, requirements: &WorkerRequirements) -> u32 {
        self.registry.total_slots(&requirements.filter())
    }

    /// Estimates when a slot is free for a request behind `waiting` others.
    pub(crate) fn retry_after_seconds(&self, model: &ModelRef, waiting: usize) -> u64 {
        let filter = WorkerFilter {
            model: Some(model.clone()),
            ..WorkerFilter::default()
        };
        let service_time = self.service_time(model, 1).unwrap_or_default();
        let slots = self.registry.total_slots(&filter).max(1);
        let seconds = service_time.as_secs_f64() * waiting as f64 / f64::from(slots);
        retry_after(seconds)
    }

    /// Ends the requests that have waited too long for memory that other models use.
    pub(crate) fn fail_without_memory(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let limit = self.settings.memory_wait;
        let waits = |id: &RequestId| {
            let request = self.requests.get(id)?;
            let reason = request.reported?.reason;
            let waited = now.saturating_sub(request.lacks_memory_since?);
            let ends = reason == WaitReason::Memory && waited >= limit;
            ends.then(|| (id.clone(), request.requirements.model.clone(), waited))
        };
        let models = self.queue.models();
        let ids = models.flat_map(|model| self.queue.in_order(model));
        let late: Vec<_> = ids.filter_map(|queued| waits(&queued.id)).collect();
        for (id, model, waited) in late {
            let turn = self.residency.turn(&model, self.settings.turn);
            let seconds = retry_after(turn.as_secs_f64());
            self.fail(&id, errors::no_memory_in_time(&model, waited, seconds), out);
        }
    }
}

fn retry_after(seconds: f64) -> u64 {
    (seconds.ceil() as u64).clamp(RETRY_AFTER_SECONDS.0, RETRY_AFTER_SECONDS.1)
}
