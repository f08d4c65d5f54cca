//! How the attempts of requests end.

use std::time::Duration;

use diagnostics::Code;
use input_validation::{Backend, DeviceId, RequestId};
use worker_contract::WorkerInfo;
use worker_registry::SpawnId;

use crate::{
    AttemptFailure, RequestOutcome, Scheduler, SchedulerEffect, SpawnTarget, decisions::Event,
    request::Running,
};

/// Maximum number of workers that a request may exhaust the memory of.
const OUT_OF_MEMORY_ATTEMPTS: u32 = 2;

impl Scheduler {
    pub(crate) fn finished(
        &mut self,
        id: &RequestId,
        outcome: RequestOutcome,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let Some(request) = self.remove(id) else {
            return;
        };
        self.count(outcome);
        let Some(running) = request.running else {
            return;
        };
        let model = request.requirements.model;
        if outcome == RequestOutcome::Completed {
            let took = now.saturating_sub(running.since);
            let measured = self.service_times.entry(model.clone()).or_default();
            measured.add(took);
            let target = self
                .registry
                .get(&running.spawn.worker)
                .map(|info| self.target_of(info, request.requirements.backend));
            if let Some(state) = target.and_then(|target| self.targets.get_mut(&target)) {
                state.served();
            }
        }
        self.registry.release(&running.spawn);
        self.residency.used(&running.spawn.worker, now);
        self.serve(&model, now, out);
    }

    pub(crate) fn attempt_failed(
        &mut self,
        id: &RequestId,
        failure: AttemptFailure,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let Some(Running { spawn, .. }) = request.running.take() else {
            return;
        };
        self.registry.release(&spawn);
        let error = match failure {
            AttemptFailure::Refused(_) => {
                self.registry.all_slots_busy(&spawn, now);
                request.attempts = request.attempts.saturating_sub(1);
                None
            }
            AttemptFailure::Link(error) => {
                let backend = request.requirements.backend;
                self.worker_lost(&spawn, backend, now);
                Some(error)
            }
            AttemptFailure::Crashed(error) => {
                let backend = request.requirements.backend;
                self.worker_lost(&spawn, backend, now);
                self.registry.remove(&spawn);
                Some(error)
            }
            AttemptFailure::Stalled(error) => {
                let backend = request.requirements.backend;
                self.worker_stalled(&spawn, backend, now);
                Some(error)
            }
            AttemptFailure::Fault(error) => Some(error),
        };
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.avoid = Some(spawn.clone());
        request.reported = None;
        let model = request.requirements.model.clone();
        let queued = request.queued(id);
        let is_out_of_memory = error.as_ref().is_some_and(|e| e.code == Code::OutOfMemory);
        let max_attempts = if is_out_of_memory {
            self.settings.max_attempts.min(OUT_OF_MEMORY_ATTEMPTS)
        } else {
            self.settings.max_attempts
        };
        let exhausted = request.attempts >= max_attempts;
        let event = Event::AttemptFailed {
            request: id.clone(),
            model: model.clone(),
            spawn,
            again: error.is_none() || !exhausted,
            error: error.clone(),
        };
        self.decisions.add(event, now);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        match error {
            Some(error) if exhausted => self.fail(id, error, out),
            error => {
                request.last_failure = error.or(request.last_failure.take());
                self.queue.put_back(request.ticket, queued);
            }
        }
        self.serve(&model, now, out);
    }

    /// Removes a worker whose process has exited. Its requests fail by themselves.
    pub(crate) fn exited(
        &mut self,
        spawn: &SpawnId,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let Some(info) = self.registry.get_spawn(spawn) else {
            return;
        };
        let model = info.model_id.clone();
        self.worker_lost(spawn, None, now);
        self.registry.remove(spawn);
        let exited = Event::Exited {
            spawn: spawn.clone(),
            model: model.clone(),
        };
        self.decisions.add(exited, now);
        self.serve(&model, now, out);
    }

    /// Takes a worker out of routing until its next heartbeat. The first loss of a spawn counts
    /// as a crash of its target, unless it was stopped.
    fn worker_lost(&mut self, spawn: &SpawnId, required: Option<Backend>, now: Duration) {
        let is_new = self.registry.connection_failed(spawn);
        if is_new && !self.registry.is_stopping(spawn) {
            self.count_crash(spawn, required, now);
        }
    }

    /// Takes a worker out of routing until it has recovered. Counts as a crash of its target.
    fn worker_stalled(&mut self, spawn: &SpawnId, required: Option<Backend>, now: Duration) {
        if self.registry.stalled(spawn, now) {
            self.count_crash(spawn, required, now);
        }
    }

    fn count_crash(&mut self, spawn: &SpawnId, required: Option<Backend>, now: Duration) {
        if let Some(info) = self.registry.get_spawn(spawn) {
            let target = self.target_of(info, required);
            self.targets.entry(target).or_default().crashed(now);
        }
    }

    /// Returns the target that a worker was spawned for. `required` is the backend that a request
    /// on this worker required; a node has only one kind of GPU, so it is the worker's backend.
    pub(crate) fn target_of(&self, info: &WorkerInfo, required: Option<Backend>) -> SpawnTarget {
        let backend = match info.device {
            DeviceId::Cpu(_) => Backend::Cpu,
            DeviceId::Gpu(_) => required.unwrap_or(Backend::Cuda),
        };
        let facts = self.nodes.get(&info.hive_id);
        let names_device = self.deployments.wanted.contains_key(&info.model_id)
            && facts.is_some_and(|facts| facts.has_several(backend));
        SpawnTarget {
            model: info.model_id.clone(),
            node: info.hive_id.clone(),
            backend,
            device: names_device.then_some(info.device),
        }
    }
}
