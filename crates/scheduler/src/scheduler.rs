use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use input_validation::{ModelRef, NodeName, RequestId};
use jiff::Timestamp;
use queen_contract::{Decision, RequestCounts};
use request_queue::{QueuedRequest, RequestQueue};
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, SpawnId, WorkerRegistry};

use crate::{
    NewRequest, NodeMap, RequestOutcome, SchedulerEffect, SchedulerEvent, SchedulerSettings,
    SpawnTarget, TargetState,
    decisions::{DecisionLog, Event},
    deployments::Deployments,
    displaced::Displaced,
    errors,
    idle::IdleModels,
    policy::ActivePolicy,
    prefixes::PrefixTable,
    request::Request,
    residency::Residency,
    service_time::ServiceTime,
};

/// The requests, workers and spawns of one queen. See the crate documentation.
#[derive(Debug, Clone)]
pub struct Scheduler {
    pub(crate) settings: SchedulerSettings,
    pub(crate) nodes: NodeMap,
    pub(crate) registry: WorkerRegistry,
    pub(crate) queue: RequestQueue,
    pub(crate) requests: HashMap<RequestId, Request>,
    pub(crate) targets: BTreeMap<SpawnTarget, TargetState>,
    pub(crate) draining: bool,
    pub(crate) deployments: Deployments,
    pub(crate) counts: RequestCounts,
    /// How long requests run, by model.
    pub(crate) service_times: HashMap<ModelRef, ServiceTime>,
    pub(crate) idle: IdleModels,
    pub(crate) decisions: DecisionLog,
    pub(crate) residency: Residency,
    pub(crate) prefixes: PrefixTable,
    pub(crate) policy: ActivePolicy,
    pub(crate) displaced: Displaced,
}

impl Scheduler {
    pub fn new(settings: SchedulerSettings) -> Self {
        Self {
            queue: RequestQueue::new(settings.queue_limit),
            settings,
            nodes: NodeMap::new(),
            registry: WorkerRegistry::default(),
            requests: HashMap::new(),
            targets: BTreeMap::new(),
            draining: false,
            deployments: Deployments::default(),
            counts: RequestCounts::default(),
            service_times: HashMap::new(),
            idle: IdleModels::default(),
            decisions: DecisionLog::default(),
            residency: Residency::default(),
            prefixes: PrefixTable::default(),
            policy: ActivePolicy::default(),
            displaced: Displaced::default(),
        }
    }

    /// Returns the nodes and ports where a worker was since the last call and none is now.
    pub fn take_freed_ports(&mut self) -> Vec<(NodeName, u16)> {
        self.registry.take_freed_ports()
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
                    .is_some_and(|request| request.target.as_ref() == Some(target))
            })
    }

    /// Describes the latest `limit` decisions, the oldest first: all of them, or those about a
    /// request, a worker or a model. `time` is the wall-clock time of a moment.
    pub fn decisions(
        &self,
        about: Option<&str>,
        limit: usize,
        time: impl Fn(Duration) -> Timestamp,
    ) -> Vec<Decision> {
        self.decisions.describe(about, limit, time)
    }

    /// Accepts a new request.
    ///
    /// Errors: [`Code::InvalidRequest`] if its id is in use, [`Code::Draining`],
    /// [`Code::QueueFull`], [`Code::DeadlineExceeded`] if it cannot have a worker in time.
    pub fn submit(
        &mut self,
        request: NewRequest,
        now: Duration,
    ) -> Result<Vec<SchedulerEffect>, Diagnostic> {
        let NewRequest {
            id,
            requirements,
            priority,
            client,
            deadline,
            prompt,
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
            priority,
            client,
            arrived: now,
            deadline,
        };
        let ticket = match self.queue.push(queued.clone()) {
            Ok(ticket) => ticket,
            Err(full) => {
                self.counts.failed += 1;
                let seconds = self.retry_after_seconds(&model, full.waiting);
                return Err(errors::queue_full(&model, full, seconds));
            }
        };
        if let Some(error) = self.too_late(&queued, &requirements, now) {
            self.queue.remove(&model, &id);
            self.counts.failed += 1;
            let event = Event::Refused {
                request: id,
                model,
                error: error.clone(),
                places: Vec::new(),
            };
            self.decisions.add(event, now);
            return Err(error);
        }
        let request = Request::new(requirements, &queued, prompt, ticket);
        self.requests.insert(id, request);
        let mut effects = Vec::new();
        self.serve(&model, now, &mut effects);
        self.make_room(now, &mut effects);
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
        if let Ok(HeartbeatResult::Registered) = result {
            self.records_registration(&spawn, now);
        }
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
            SchedulerEvent::Nodes(nodes) => self.set_nodes(nodes, now, out),
            SchedulerEvent::Deployments(wanted, renewed) => {
                self.set_deployments(wanted, &renewed, now, out);
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
            SchedulerEvent::Exited(spawn) => self.exited(&spawn, now, out),
            SchedulerEvent::Stopping(spawn) => self.stopping(&spawn, now, out),
            SchedulerEvent::Replacing(spawn) => self.registry.set_stopping(&spawn),
            SchedulerEvent::PartLost(spawn, reason) => self.part_lost(&spawn, reason, now),
            SchedulerEvent::Fence(id, lowest) => {
                self.registry.fence(&id, lowest);
                self.serve_all(now, out);
            }
            SchedulerEvent::Policy(policy) => {
                self.policy = ActivePolicy::new(policy);
                self.forget_shortages();
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
        self.make_room(now, out);
        effects
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
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

    fn tick(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let late = self.registry.late(now);
        out.extend(late.into_iter().map(SchedulerEffect::CheckProcess));
        for spawn in self.registry.expire(now) {
            let lost = Event::Lost {
                spawn: spawn.clone(),
            };
            self.decisions.add(lost, now);
            out.push(SchedulerEffect::WorkerExpired(spawn));
        }
        for id in self.queue.expired(now) {
            self.fail(&id, errors::deadline_passed_in_queue(), out);
        }
        self.fail_without_memory(now, out);
        self.fail_overdue_spawns(now, out);
        self.serve_all(now, out);
        self.unload_idle(now, out);
        self.stop_stalled(now, out);
        self.leave_devices(now, out);
        self.leave_nodes(now, out);
        self.reconcile(now, out);
        self.report_positions(now, out);
        // Clients can name any model: targets that leave no trace must not accumulate.
        self.targets.retain(|_, state| !state.is_as_new(now));
    }

    pub(crate) fn fail(
        &mut self,
        id: &RequestId,
        error: Diagnostic,
        out: &mut Vec<SchedulerEffect>,
    ) {
        if self.remove(id).is_some() {
            self.count(if error.code == Code::Cancelled {
                RequestOutcome::Cancelled
            } else {
                RequestOutcome::Failed
            });
            out.push(SchedulerEffect::Fail(id.clone(), error));
        }
    }

    pub(crate) fn remove(&mut self, id: &RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        if request.running.is_none() {
            self.queue.remove(&request.requirements.model, id);
        }
        Some(request)
    }

    pub(crate) fn count(&mut self, outcome: RequestOutcome) {
        match outcome {
            RequestOutcome::Completed => self.counts.completed += 1,
            RequestOutcome::Failed => self.counts.failed += 1,
            RequestOutcome::Cancelled => self.counts.cancelled += 1,
        }
    }
}
