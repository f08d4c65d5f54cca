//! How workers start and stop.

use std::{collections::BTreeSet, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{ModelRef, RequestId};
use worker_registry::{ServingState, SpawnId};

use crate::{
    NodeMap, NodeState, Scheduler, SchedulerEffect, SpawnTarget, StopCause, WorkerRequirements,
    decisions::Event,
    errors,
    target::{Overdue, is_input_error, may_succeed_elsewhere, missing_bytes},
};

impl Scheduler {
    pub(crate) fn spawned(
        &mut self,
        target: &SpawnTarget,
        spawn: &SpawnId,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        // The worker may have registered, served and been stopped already.
        let registered = self.registry.has_registered(spawn);
        let state = self.targets.entry(target.clone()).or_default();
        let load_time = now.saturating_sub(state.begun());
        self.residency.loaded_in(&target.model, load_time);
        self.residency.registered(&spawn.worker, now);
        state.spawned(spawn.clone(), now);
        self.deployments.refused.remove(target);
        let is_unwanted =
            self.deployments.abandoned.remove(target) && self.queue.waiting(&target.model) == 0;
        if registered || is_unwanted {
            state.registered(spawn);
        }
        if is_unwanted {
            self.stop(spawn.clone(), StopCause::Surplus, now, out);
        }
        self.serve(&target.model, now, out);
    }

    pub(crate) fn spawn_failed(
        &mut self,
        target: &SpawnTarget,
        error: &Diagnostic,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let event = Event::SpawnFailed {
            target: target.clone(),
            error: error.clone(),
        };
        self.decisions.add(event, now);
        self.deployments.abandoned.remove(target);
        // A worker that failed while it was loading would count as loading until its heartbeats
        // expire.
        self.registry.remove_starting(|info| target.covers(info));
        if let Some(missing) = missing_bytes(error)
            && self.may_have_room(target, missing, now)
        {
            let state = self.targets.entry(target.clone()).or_default();
            state.lacks_memory(error.clone(), missing, now);
            self.serve(&target.model, now, out);
            return;
        }
        if is_input_error(error.code) && self.deployments.wanted.contains_key(&target.model) {
            let refused = (now, error.clone());
            self.deployments.refused.insert(target.clone(), refused);
        }
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
        let elsewhere = may_succeed_elsewhere(error.code);
        for id in unserved {
            match self.requests.get_mut(&id) {
                Some(request) if elsewhere && request.may_go_elsewhere(target) => {
                    request.spawn_failed(target, error);
                }
                _ => {
                    let error = self.no_worker_error(&id, error);
                    self.fail(&id, error, out);
                }
            }
        }
        self.serve(&target.model, now, out);
    }

    /// Replaces what is known of the nodes. Spawns on nodes that are gone or down are abandoned.
    pub(crate) fn set_nodes(
        &mut self,
        nodes: NodeMap,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let lost: Vec<(SpawnTarget, Diagnostic)> = self
            .targets
            .iter()
            .filter(|(_, state)| state.is_spawning())
            .filter_map(|(target, _)| {
                let error = match nodes.get(&target.node) {
                    Some(facts) => match &facts.state {
                        NodeState::Down(error) => error.clone(),
                        _ => return None,
                    },
                    // A node that was not known when the spawn began was added a moment ago.
                    None if self.nodes.contains_key(&target.node) => {
                        errors::node_removed(&target.node)
                    }
                    None => return None,
                };
                Some((target.clone(), error))
            })
            .collect();
        self.nodes_wake(&nodes, now);
        self.nodes = nodes;
        self.leave_devices(now, out);
        self.leave_nodes(now, out);
        for (target, error) in lost {
            out.push(SchedulerEffect::AbandonSpawn(target.clone()));
            self.spawn_failed(&target, &error, now, out);
        }
        self.serve_all(now, out);
    }

    pub(crate) fn unload_idle(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let requests = &self.requests;
        let is_used = |model: &ModelRef| {
            let mut models = requests.values().map(|request| &request.requirements.model);
            models.any(|used| used == model)
        };
        for model in self.idle.take_overdue(is_used, now) {
            let filter = WorkerRequirements::model(model).filter();
            let reserved = self.reserved_workers(i32::MIN, now);
            let workers = self.registry.snapshot(&filter, now).into_iter();
            for worker in workers.filter(|worker| !reserved.contains(&worker.info.id)) {
                self.stop(SpawnId::of(&worker.info), StopCause::Idle, now, out);
            }
        }
    }

    pub(crate) fn fail_overdue_spawns(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
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

    /// Stops the workers that stalled and did not recover.
    pub(crate) fn stop_stalled(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        for spawn in self.registry.lost_to_stall(now) {
            self.stop(spawn, StopCause::Stalled, now, out);
        }
    }

    /// The workers that run requests of this queen.
    pub(crate) fn spawns_in_use(&self) -> BTreeSet<&SpawnId> {
        let requests = self.requests.values();
        let running = requests.filter_map(|request| request.running.as_ref());
        running.map(|running| &running.spawn).collect()
    }

    pub(crate) fn stop(
        &mut self,
        spawn: SpawnId,
        cause: StopCause,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        self.registry.set_stopping(&spawn);
        let info = self.registry.get_spawn(&spawn);
        let event = Event::Stops {
            model: info.map(|info| info.model_id.clone()),
            spawn: spawn.clone(),
            cause,
        };
        self.decisions.add(event, now);
        out.push(SchedulerEffect::StopWorker(spawn, cause));
    }

    /// Records why a worker of a split model is replaced. Its process may have exited already.
    pub(crate) fn part_lost(&mut self, spawn: &SpawnId, reason: String, now: Duration) {
        let info = self.registry.get_spawn(spawn);
        let event = Event::PartLost {
            model: info.map(|info| info.model_id.clone()),
            spawn: spawn.clone(),
            reason,
        };
        self.decisions.add(event, now);
        self.registry.set_stopping(spawn);
    }

    /// A user has a worker stopped. No worker is spawned for the requests that run on it or
    /// wait for it: they continue on other workers or fail.
    pub(crate) fn stopping(
        &mut self,
        spawn: &SpawnId,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let Some(info) = self.registry.get_spawn(spawn) else {
            return;
        };
        for request in self.requests.values_mut() {
            let is_affected = match &request.running {
                Some(running) => running.spawn == *spawn,
                None => request.requirements.filter().matches(info),
            };
            if is_affected {
                request.stopped_worker = Some(spawn.worker.clone());
            }
        }
        let model = info.model_id.clone();
        self.registry.set_stopping(spawn);
        self.serve(&model, now, out);
    }

    /// The error for a request without a worker: why its last worker failed it, if it had one.
    pub(crate) fn no_worker_error(&self, id: &RequestId, error: &Diagnostic) -> Diagnostic {
        let request = self.requests.get(id);
        let request = request.filter(|request| request.stopped_worker.is_none());
        let last_failure = request.and_then(|request| request.last_failure.clone());
        match last_failure {
            None => error.clone(),
            Some(mut failure) => {
                failure.message =
                    format!("{}; no other worker is available: {error}", failure.message);
                failure
            }
        }
    }
}
