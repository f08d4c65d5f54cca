use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, ModelRef, RequestId};
use queen_contract::RequestCounts;
use request_queue::{Deadline, Offer, QueuedRequest, RequestQueue, Ticket};
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, ServingState, SpawnId, WorkerFilter, WorkerRegistry};

use crate::{
    AttemptFailure, NewRequest, RequestOutcome, SchedulerEffect, SchedulerEvent, SchedulerSettings,
    SpawnTarget, TargetState, WaitReason, WorkerRequirements, errors,
    idle::IdleModels,
    placement::{Applicant, Placement, Placer, spawn_target, target_of_worker},
    target::Overdue,
};

/// Lowest and highest value of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: (u64, u64) = (1, 60);
/// Maximum number of workers that a request may exhaust the memory of.
const OUT_OF_MEMORY_ATTEMPTS: u32 = 2;

#[derive(Debug, Clone)]
struct Running {
    spawn: SpawnId,
    since: Duration,
    /// [`SchedulerEffect::Stop`] was returned.
    stopping: bool,
}

#[derive(Debug, Clone)]
struct Request {
    requirements: WorkerRequirements,
    deadline: Deadline,
    ticket: Ticket,
    /// `None` while the request waits.
    running: Option<Running>,
    /// Number of workers that the request was assigned to, without refusals.
    attempts: u32,
    /// Number of workers that the request was assigned to, including refusals.
    assignments: u32,
    /// The worker that failed it last.
    avoid: Option<SpawnId>,
    /// Why that worker failed it; reported if no other worker is available.
    last_failure: Option<Diagnostic>,
    /// The reason for waiting that its client was sent last.
    reported: Option<WaitReason>,
}

/// The requests, workers and spawns of one queen. See the crate documentation.
#[derive(Debug, Clone)]
pub struct Scheduler {
    settings: SchedulerSettings,
    registry: WorkerRegistry,
    queue: RequestQueue,
    requests: HashMap<RequestId, Request>,
    targets: BTreeMap<SpawnTarget, TargetState>,
    draining: bool,
    counts: RequestCounts,
    /// Moving average of the time that a request runs, by model.
    service_time: HashMap<ModelRef, Duration>,
    idle: IdleModels,
}

impl Scheduler {
    pub fn new(settings: SchedulerSettings) -> Self {
        Self {
            queue: RequestQueue::new(settings.queue_limit),
            settings,
            registry: WorkerRegistry::default(),
            requests: HashMap::new(),
            targets: BTreeMap::new(),
            draining: false,
            counts: RequestCounts::default(),
            service_time: HashMap::new(),
            idle: IdleModels::default(),
        }
    }

    pub fn registry(&self) -> &WorkerRegistry {
        &self.registry
    }

    /// Returns the requests counted since the start.
    pub fn counts(&self) -> RequestCounts {
        let waiting = self.queue.len() as u64;
        RequestCounts {
            waiting,
            running: self.requests.len() as u64 - waiting,
            ..self.counts
        }
    }

    /// Returns the targets with a spawn under way or recent failures.
    pub fn targets(&self) -> impl Iterator<Item = (&SpawnTarget, &TargetState)> {
        self.targets.iter()
    }

    /// Returns the models that will be unloaded, with the time until then if no request uses
    /// them.
    pub fn unloads(&self, now: Duration) -> impl Iterator<Item = (&ModelRef, Duration)> {
        self.idle.remaining(now)
    }

    /// Returns where a worker is spawned for these requirements.
    pub(crate) fn spawn_target(&self, requirements: &WorkerRequirements) -> SpawnTarget {
        spawn_target(requirements, &self.settings.default_node)
    }

    /// Returns the requests that wait for a worker at the target.
    pub fn waiting_for<'a>(
        &'a self,
        target: &'a SpawnTarget,
    ) -> impl Iterator<Item = &'a RequestId> {
        self.queue
            .in_order(&target.model)
            .map(|request| &request.id)
            .filter(move |id| {
                self.requests
                    .get(*id)
                    .is_some_and(|request| self.spawn_target(&request.requirements) == *target)
            })
    }

    /// Accepts a new request.
    ///
    /// Errors: [`Code::InvalidRequest`] if its id is in use, [`Code::Draining`],
    /// [`Code::QueueFull`].
    pub fn submit(
        &mut self,
        request: NewRequest,
        now: Duration,
    ) -> Result<Vec<SchedulerEffect>, Diagnostic> {
        let NewRequest {
            id,
            requirements,
            deadline,
        } = request;
        if self.requests.contains_key(&id) {
            return Err(errors::id_in_use(&id));
        }
        if self.draining {
            self.counts.failed += 1;
            return Err(errors::draining());
        }
        let model = requirements.model.clone();
        let queued = QueuedRequest {
            id: id.clone(),
            model: model.clone(),
            deadline,
        };
        let ticket = match self.queue.push(queued) {
            Ok(ticket) => ticket,
            Err(full) => {
                self.counts.failed += 1;
                let seconds = self.retry_after_seconds(&model, full.waiting);
                return Err(errors::queue_full(&model, full, seconds));
            }
        };
        let request = Request {
            requirements,
            deadline,
            ticket,
            running: None,
            attempts: 0,
            assignments: 0,
            avoid: None,
            last_failure: None,
            reported: None,
        };
        self.requests.insert(id, request);
        let mut effects = Vec::new();
        self.serve(&model, now, &mut effects);
        Ok(effects)
    }

    /// Applies a worker's heartbeat. Fails with [`Code::Fenced`] if the worker must exit.
    pub fn heartbeat(
        &mut self,
        heartbeat: WorkerHeartbeat,
        now: Duration,
    ) -> (Result<HeartbeatResult, Diagnostic>, Vec<SchedulerEffect>) {
        let model = heartbeat.worker.model_id.clone();
        let spawn = SpawnId::of(&heartbeat.worker);
        let result = self.registry.heartbeat(heartbeat, now);
        let mut effects = Vec::new();
        if result.is_ok() {
            for target in self.targets.values_mut() {
                target.registered(&spawn);
            }
            self.serve(&model, now, &mut effects);
        }
        (result, effects)
    }

    /// Applies an event that happened at `now` and returns what to do.
    pub fn handle(&mut self, event: SchedulerEvent, now: Duration) -> Vec<SchedulerEffect> {
        let mut effects = Vec::new();
        let out = &mut effects;
        match event {
            SchedulerEvent::Finished(id, outcome) => self.finished(&id, outcome, now, out),
            SchedulerEvent::AttemptFailed(id, failure) => {
                self.attempt_failed(&id, failure, now, out);
            }
            SchedulerEvent::Cancel(id, error) => self.cancel(&id, error, out),
            SchedulerEvent::SpawnProgress(target) => {
                if let Some(state) = self.targets.get_mut(&target) {
                    state.progressed(now);
                }
            }
            SchedulerEvent::Spawned(target, spawn) => self.spawned(&target, &spawn, now, out),
            SchedulerEvent::SpawnFailed(target, error) => {
                self.spawn_failed(&target, &error, now, out);
            }
            SchedulerEvent::Fence(id, lowest) => {
                self.registry.fence(&id, lowest);
                self.serve_all(now, out);
            }
            SchedulerEvent::KeepLoaded(model, limit) => self.idle.set(model, limit, now),
            SchedulerEvent::Drain => self.draining = true,
            SchedulerEvent::Abort(error) => {
                self.draining = true;
                let ids: Vec<RequestId> = self.requests.keys().cloned().collect();
                for id in ids {
                    self.cancel(&id, error.clone(), out);
                }
            }
            SchedulerEvent::Tick => self.tick(now, out),
        }
        effects
    }

    fn finished(
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
            let average = self.service_time.entry(model.clone()).or_insert(took);
            *average = (*average * 7 + took) / 8;
            let target = self
                .registry
                .get(&running.spawn.worker)
                .map(|info| target_of_worker(info, request.requirements.backend));
            if let Some(state) = target.and_then(|target| self.targets.get_mut(&target)) {
                state.served();
            }
        }
        self.registry.release(&running.spawn);
        self.serve(&model, now, out);
    }

    fn attempt_failed(
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
            AttemptFailure::Fault(error) => Some(error),
        };
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.avoid = Some(spawn);
        request.reported = None;
        let model = request.requirements.model.clone();
        let queued = QueuedRequest {
            id: id.clone(),
            model: model.clone(),
            deadline: request.deadline,
        };
        let is_out_of_memory = error.as_ref().is_some_and(|e| e.code == Code::OutOfMemory);
        let max_attempts = if is_out_of_memory {
            self.settings.max_attempts.min(OUT_OF_MEMORY_ATTEMPTS)
        } else {
            self.settings.max_attempts
        };
        let exhausted = request.attempts >= max_attempts;
        match error {
            Some(error) if exhausted => self.fail(id, error, out),
            error => {
                request.last_failure = error.or(request.last_failure.take());
                self.queue.put_back(request.ticket, queued);
            }
        }
        self.serve(&model, now, out);
    }

    /// Takes a worker out of routing. The first loss of a spawn counts as a crash of its target.
    fn worker_lost(&mut self, spawn: &SpawnId, required: Option<Backend>, now: Duration) {
        let target = self
            .registry
            .get_spawn(spawn)
            .map(|info| target_of_worker(info, required));
        if self.registry.connection_failed(spawn)
            && let Some(target) = target
        {
            self.targets.entry(target).or_default().crashed(now);
        }
    }

    fn cancel(&mut self, id: &RequestId, error: Diagnostic, out: &mut Vec<SchedulerEffect>) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        match &mut request.running {
            None => self.fail(id, error, out),
            Some(running) if running.stopping => {}
            Some(running) => {
                running.stopping = true;
                out.push(SchedulerEffect::Stop(id.clone(), error));
            }
        }
    }

    fn spawned(
        &mut self,
        target: &SpawnTarget,
        spawn: &SpawnId,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        // The worker may have registered, served and been stopped already.
        let registered = self.registry.has_registered(spawn);
        let state = self.targets.entry(target.clone()).or_default();
        state.spawned(spawn.clone(), now);
        if registered {
            state.registered(spawn);
        }
        self.serve(&target.model, now, out);
    }

    fn spawn_failed(
        &mut self,
        target: &SpawnTarget,
        error: &Diagnostic,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        // A worker that failed while it was loading would count as loading until its heartbeats
        // expire.
        self.registry
            .remove_starting(|info| target_of_worker(info, Some(target.backend)) == *target);
        let state = self.targets.entry(target.clone()).or_default();
        if !state.failed(error.clone(), now) {
            self.serve(&target.model, now, out);
            return;
        }
        let unserved: Vec<RequestId> = self
            .waiting_for(target)
            .filter(|id| {
                self.requests.get(*id).is_some_and(|request| {
                    let filter = request.requirements.filter();
                    self.registry.serving_state(&filter, now) == ServingState::None
                })
            })
            .cloned()
            .collect();
        for id in unserved {
            let error = self.no_worker_error(&id, error);
            self.fail(&id, error, out);
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let expired = self.registry.expire(now);
        out.extend(expired.into_iter().map(SchedulerEffect::WorkerExpired));
        for id in self.queue.expired(now) {
            self.fail(&id, errors::deadline_passed_in_queue(), out);
        }
        self.fail_overdue_spawns(now, out);
        self.serve_all(now, out);
        self.unload_idle(now, out);
        // Clients can name any model: targets that leave no trace must not accumulate.
        self.targets.retain(|_, state| !state.is_as_new(now));
    }

    fn unload_idle(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let requests = &self.requests;
        let is_used = |model: &ModelRef| {
            let mut models = requests.values().map(|request| &request.requirements.model);
            models.any(|used| used == model)
        };
        for model in self.idle.take_overdue(is_used, now) {
            let filter = WorkerRequirements::model(model).filter();
            let workers = self.registry.snapshot(&filter, now);
            let spawns = workers.iter().map(|worker| SpawnId::of(&worker.info));
            out.extend(spawns.map(SchedulerEffect::Unload));
        }
    }

    fn fail_overdue_spawns(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let overdue: Vec<(SpawnTarget, Overdue)> = self
            .targets
            .iter()
            .filter_map(|(target, state)| Some((target.clone(), state.overdue(now)?)))
            .collect();
        for (target, overdue) in overdue {
            let error = match overdue {
                Overdue::Spawn { silent } => {
                    out.push(SchedulerEffect::AbandonSpawn(target.clone()));
                    errors::spawn_stuck(&target, silent)
                }
                Overdue::Heartbeat(spawn) => errors::never_registered(&spawn),
            };
            self.spawn_failed(&target, &error, now, out);
        }
    }

    fn serve_all(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let models: Vec<ModelRef> = self.queue.models().cloned().collect();
        for model in models {
            self.serve(&model, now, out);
        }
    }

    /// Assigns waiting requests of the model to workers and spawns a worker where none is.
    fn serve(&mut self, model: &ModelRef, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let waiting = self.queue.waiting(model);
        if waiting == 0 {
            return;
        }
        let mut failed = Vec::new();
        // Requests with the same requirements as one that found no worker find none either.
        let mut blocked: Option<(WorkerRequirements, WaitReason)> = None;
        let Self {
            queue,
            requests,
            registry,
            targets,
            settings,
            ..
        } = self;
        queue.offer(model, |id| {
            let Some(request) = requests.get_mut(id) else {
                return Offer::Take;
            };
            if let Some((requirements, reason)) = &blocked
                && *requirements == request.requirements
            {
                report_waiting(id, request, *reason, out);
                return Offer::Keep;
            }
            let mut placer = Placer {
                registry,
                targets,
                default_node: &settings.default_node,
                waiting,
                now,
            };
            match placer.place(&request.applicant()) {
                Placement::Assigned(assignment) => {
                    request.assigned(&assignment, now);
                    registry.reserve(&assignment.spawn_id());
                    out.push(SchedulerEffect::Assign(id.clone(), assignment));
                    Offer::Take
                }
                Placement::Waits { reason, spawn } => {
                    out.extend(spawn.map(SchedulerEffect::Spawn));
                    report_waiting(id, request, reason, out);
                    blocked.get_or_insert_with(|| (request.requirements.clone(), reason));
                    Offer::Keep
                }
                Placement::Failed(error) => {
                    failed.push((id.clone(), *error));
                    Offer::Take
                }
            }
        });
        for (id, error) in failed {
            let error = self.no_worker_error(&id, &error);
            self.fail(&id, error, out);
        }
    }

    /// The error for a request without a worker: why its last worker failed it, if it had one.
    fn no_worker_error(&self, id: &RequestId, error: &Diagnostic) -> Diagnostic {
        let last_failure = self.requests.get(id).and_then(|r| r.last_failure.clone());
        match last_failure {
            None => error.clone(),
            Some(mut failure) => {
                failure.message =
                    format!("{}; no other worker is available: {error}", failure.message);
                failure
            }
        }
    }

    fn fail(&mut self, id: &RequestId, error: Diagnostic, out: &mut Vec<SchedulerEffect>) {
        if self.remove(id).is_some() {
            self.count(if error.code == Code::Cancelled {
                RequestOutcome::Cancelled
            } else {
                RequestOutcome::Failed
            });
            out.push(SchedulerEffect::Fail(id.clone(), error));
        }
    }

    fn remove(&mut self, id: &RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        if request.running.is_none() {
            self.queue.remove(&request.requirements.model, id);
        }
        Some(request)
    }

    fn count(&mut self, outcome: RequestOutcome) {
        match outcome {
            RequestOutcome::Completed => self.counts.completed += 1,
            RequestOutcome::Failed => self.counts.failed += 1,
            RequestOutcome::Cancelled => self.counts.cancelled += 1,
        }
    }

    /// Estimates when a slot is free for a request behind `waiting` others.
    fn retry_after_seconds(&self, model: &ModelRef, waiting: usize) -> u64 {
        let service_time = self.service_time.get(model).copied().unwrap_or_default();
        let slots = self.registry.total_slots(&WorkerFilter {
            model: Some(model.clone()),
            ..WorkerFilter::default()
        });
        let seconds = service_time.as_secs_f64() * waiting as f64 / f64::from(slots.max(1));
        (seconds.ceil() as u64).clamp(RETRY_AFTER_SECONDS.0, RETRY_AFTER_SECONDS.1)
    }
}

impl Request {
    fn applicant(&self) -> Applicant<'_> {
        Applicant {
            requirements: &self.requirements,
            avoid: self.avoid.as_ref(),
            attempts: self.attempts,
            assignments: self.assignments,
        }
    }

    fn assigned(&mut self, assignment: &crate::Assignment, now: Duration) {
        self.attempts = assignment.attempt;
        self.assignments = assignment.number;
        self.reported = None;
        self.running = Some(Running {
            spawn: assignment.spawn_id(),
            since: now,
            stopping: false,
        });
    }
}

/// Reports a reason of another kind than the client was sent last.
fn report_waiting(
    id: &RequestId,
    request: &mut Request,
    reason: WaitReason,
    out: &mut Vec<SchedulerEffect>,
) {
    let is_new = request.reported.is_none_or(|reported| {
        std::mem::discriminant(&reported) != std::mem::discriminant(&reason)
    });
    if is_new {
        request.reported = Some(reason);
        out.push(SchedulerEffect::Waiting(id.clone(), reason));
    }
}
