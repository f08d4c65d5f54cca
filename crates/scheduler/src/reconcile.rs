//! Starts and stops workers until each deployment has as many as it wants.
//!
//! A deployment has one worker per device. Requests that wait for a busy model add one worker after
//! another, up to the maximum of its deployment; workers that are not needed any more are stopped
//! when they have been idle for some time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use input_validation::{Backend, DeviceId, ModelRef, NodeName, WorkerId};
use queen_contract::WorkerEntry;
use worker_contract::WorkerStatus;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{
    Deployment, DeploymentMap, NodeState, Scheduler, SchedulerEffect, Shortfall, SpawnTarget,
    StopCause, TargetState,
    decisions::Event,
    free_device::DeviceChoice,
    nodes::place_of,
    residency::{Residency, is_unused},
    target::Readiness,
};

/// Requests that wait for this long add a worker to their deployment.
const SCALE_UP_AFTER: Duration = Duration::from_secs(5);

/// A device that has a worker of a model, or will have one.
type Seat = (NodeName, DeviceId);

/// The workers of one model.
#[derive(Default)]
struct Workers {
    entries: Vec<WorkerEntry>,
    /// Workers on nodes or devices that the deployment does not name: of an earlier form of it, or
    /// for requests that named them.
    elsewhere: Vec<WorkerEntry>,
    /// The devices that have a worker of the model which is not being stopped.
    seats: BTreeSet<Seat>,
    /// Spawns under way whose workers have not registered.
    starting: usize,
}

impl Workers {
    fn present(&self) -> u32 {
        u32::try_from(self.seats.len() + self.starting).unwrap_or(u32::MAX)
    }
}

impl Scheduler {
    /// Replaces the deployments.
    pub(crate) fn set_deployments(
        &mut self,
        wanted: DeploymentMap,
        renewed: &BTreeSet<ModelRef>,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let deployments = &mut self.deployments;
        let is_kept = |model: &ModelRef| wanted.contains_key(model) && !renewed.contains(model);
        deployments
            .refused
            .retain(|target, _| is_kept(&target.model));
        deployments.busy_since.retain(|model, _| is_kept(model));
        let before = std::mem::replace(&mut deployments.wanted, wanted);
        let wanted = &deployments.wanted;
        deployments
            .abandoned
            .retain(|target| !wanted.contains_key(&target.model));
        let is_abandoned = |target: &&SpawnTarget| {
            before.contains_key(&target.model) && !wanted.contains_key(&target.model)
        };
        let starting = self.targets.iter().filter(|(_, state)| state.is_starting());
        let abandoned = starting.map(|(target, _)| target).filter(is_abandoned);
        deployments.abandoned.extend(abandoned.cloned());
        for (target, state) in &mut self.targets {
            if renewed.contains(&target.model) && !state.is_starting() {
                *state = TargetState::default();
            }
        }
        self.reconcile(now, out);
    }

    /// Returns the deployments that lack workers, and why.
    pub fn shortfalls(&self) -> impl Iterator<Item = (&ModelRef, &Shortfall)> {
        self.deployments.short.iter()
    }

    pub(crate) fn reconcile(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        self.deployments.short.clear();
        self.deployments.incomplete.clear();
        let has_settled = now >= self.settings.settle;
        if self.deployments.wanted.is_empty() || self.is_draining() || !has_settled {
            return;
        }
        let mut workers = self.workers_of_deployments(now);
        let mut models: Vec<ModelRef> = self.deployments.wanted.keys().cloned().collect();
        models.sort_by_key(|model| Reverse(self.deployments.priority(model)));
        for model in models {
            let Some(deployment) = self.deployments.wanted.get(&model).cloned() else {
                continue;
            };
            let workers = workers.remove(&model).unwrap_or_default();
            let wanted = self.wanted_workers(&model, &deployment, &workers, now);
            if workers.entries.len() < wanted as usize {
                self.deployments.incomplete.insert(model.clone());
            }
            if workers.present() < wanted {
                self.start_missing(&model, &deployment, &workers, wanted, now, out);
            } else {
                self.stop_excess(&model, &deployment, workers, now, out);
            }
        }
    }

    /// The workers that must not be stopped for a model of this priority.
    pub(crate) fn reserved_workers(&self, priority: i32, now: Duration) -> BTreeSet<WorkerId> {
        let mut reserved = BTreeSet::new();
        for (model, workers) in self.workers_of_deployments(now) {
            let Some(deployment) = self.deployments.wanted.get(&model) else {
                continue;
            };
            if deployment.priority >= priority {
                let kept = self.longest_unused_last(workers.entries);
                let kept = kept.into_iter().take(deployment.min_workers as usize);
                reserved.extend(kept.map(|entry| entry.info.id));
            }
        }
        reserved
    }

    fn workers_of_deployments(&self, now: Duration) -> BTreeMap<ModelRef, Workers> {
        let mut models: BTreeMap<ModelRef, Workers> = BTreeMap::new();
        for entry in self.registry.snapshot(&WorkerFilter::default(), now) {
            let info = &entry.info;
            let leaves = matches!(info.status, WorkerStatus::Draining | WorkerStatus::Stopped)
                || self.registry.is_stopping(&SpawnId::of(info));
            let is_down = self.nodes.get(&info.hive_id).is_none_or(|facts| {
                matches!(facts.state, NodeState::Down(_) | NodeState::Asleep(_))
            });
            let Some(deployment) = self.deployments.wanted.get(&info.model_id) else {
                continue;
            };
            if leaves || is_down {
                continue;
            }
            let workers = models.entry(info.model_id.clone()).or_default();
            if !deployment.may_run_on(&info.hive_id, info.device) {
                workers.elsewhere.push(entry);
                continue;
            }
            workers.seats.insert((info.hive_id.clone(), info.device));
            workers.entries.push(entry);
        }
        for (target, state) in &self.targets {
            let Some(deployment) = self.deployments.wanted.get(&target.model) else {
                continue;
            };
            if !state.is_starting() || !deployment.allows(&target.node, target.backend) {
                continue;
            }
            let workers = models.entry(target.model.clone()).or_default();
            // The worker of a spawn may register before the end of the spawn is reported.
            let is_its_worker = |entry: &WorkerEntry| {
                let registered = self.residency.of(&entry.info.id).loaded;
                target.covers(&entry.info)
                    && (entry.info.status == WorkerStatus::Starting || registered >= state.begun())
            };
            if let Some(seat) = seat_of(target) {
                workers.seats.insert(seat);
            } else if !workers.entries.iter().any(is_its_worker) {
                workers.starting += 1;
            }
        }
        models
    }

    /// How many workers the deployment wants now.
    fn wanted_workers(
        &mut self,
        model: &ModelRef,
        deployment: &Deployment,
        workers: &Workers,
        now: Duration,
    ) -> u32 {
        let present = workers.present();
        let is_serving = workers
            .entries
            .iter()
            .any(|entry| entry.info.status != WorkerStatus::Starting);
        let is_starting = workers
            .entries
            .iter()
            .any(|entry| entry.info.status == WorkerStatus::Starting)
            || workers.starting > 0;
        if !is_serving || is_starting || self.queue.waiting(model) == 0 {
            self.deployments.busy_since.remove(model);
            return deployment.min_workers;
        }
        let since = *self
            .deployments
            .busy_since
            .entry(model.clone())
            .or_insert(now);
        if now.saturating_sub(since) < SCALE_UP_AFTER {
            return deployment.min_workers;
        }
        let one_more = present.saturating_add(1).min(deployment.max_workers);
        one_more.max(deployment.min_workers)
    }

    fn start_missing(
        &mut self,
        model: &ModelRef,
        deployment: &Deployment,
        workers: &Workers,
        wanted: u32,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let mut seats = workers.seats.clone();
        let mut present = workers.present();
        while present < wanted {
            let DeviceChoice {
                target,
                places,
                policy_result,
            } = self.free_device(model, deployment, &seats, now);
            let failure = policy_result.and_then(|result| self.policy.placed(result, now).err());
            self.policy.report(out);
            let is_whole = deployment.removed_nodes(&self.nodes).is_empty();
            let begins = target.as_ref().is_some_and(|target| {
                let readiness = self.readiness(target, now);
                is_whole && readiness == Readiness::Now && !self.is_reserved(target, now)
            });
            let Some(target) = target.filter(|_| begins) else {
                let error = self.why_short(model, deployment, &places);
                let shortfall = Shortfall {
                    wanted,
                    present,
                    error,
                };
                self.deployments.short.insert(model.clone(), shortfall);
                return;
            };
            if let Some(device) = self.device_of(&target) {
                seats.insert((target.node.clone(), device));
            }
            present += 1;
            let state = self.targets.entry(target.clone()).or_default();
            state.begin(now);
            let policy_failed = failure.map(|failure| Event::PolicyFailed {
                request: None,
                model: model.clone(),
                failure,
            });
            self.decisions.extend(policy_failed, now);
            let event = Event::Deploys {
                target: target.clone(),
                wanted,
                places,
            };
            self.decisions.add(event, now);
            out.push(SchedulerEffect::Spawn(target));
        }
    }

    pub(crate) fn readiness(&self, target: &SpawnTarget, now: Duration) -> Readiness {
        let state = self.targets.get(target);
        state.map_or(Readiness::Now, |state| state.readiness(now))
    }

    /// Whether memory at the place is being freed for another model.
    fn is_reserved(&self, target: &SpawnTarget, now: Duration) -> bool {
        self.targets.iter().any(|(other, state)| {
            other != target && state.is_taking_room(now) && place_of(other) == place_of(target)
        })
    }

    fn device_of(&self, target: &SpawnTarget) -> Option<DeviceId> {
        if let Some((_, device)) = seat_of(target) {
            return Some(device);
        }
        let devices = &self.nodes.get(&target.node)?.devices;
        let device = devices.iter().find(|d| d.backend == target.backend);
        device.map(|device| device.id)
    }

    /// Stops the workers beyond the maximum, and those beyond the minimum that have been idle.
    fn stop_excess(
        &mut self,
        model: &ModelRef,
        deployment: &Deployment,
        workers: Workers,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let (min, max) = (deployment.min_workers, deployment.max_workers);
        let mut present = workers.present();
        let in_use: BTreeSet<SpawnId> = self.spawns_in_use().into_iter().cloned().collect();
        let is_idle = |entry: &WorkerEntry, residency: &Residency| {
            let unused_for = now.saturating_sub(residency.of(&entry.info.id).last);
            is_unused(entry, |spawn| in_use.contains(spawn)) && unused_for >= deployment.keep_alive
        };
        for entry in workers.elsewhere {
            if is_idle(&entry, &self.residency) {
                self.stop(SpawnId::of(&entry.info), StopCause::Surplus, now, out);
            }
        }
        let mut ordered = self.longest_unused_last(workers.entries);
        while present > min {
            let Some(entry) = ordered.pop() else {
                return;
            };
            if entry.info.status == WorkerStatus::Starting {
                continue;
            }
            let is_idle = self.queue.waiting(model) == 0 && is_idle(&entry, &self.residency);
            if present > max || is_idle {
                self.stop(SpawnId::of(&entry.info), StopCause::Surplus, now, out);
                present -= 1;
            }
        }
    }

    fn longest_unused_last(&self, mut entries: Vec<WorkerEntry>) -> Vec<WorkerEntry> {
        entries.sort_by_key(|entry| {
            let last = self.residency.of(&entry.info.id).last;
            (entry.active_requests == 0, Reverse(last))
        });
        entries
    }
}

/// The device of a target, if it names one or there is only one.
fn seat_of(target: &SpawnTarget) -> Option<Seat> {
    let device = match (target.device, target.backend) {
        (Some(device), _) => device,
        (None, Backend::Cpu) => DeviceId::Cpu(0),
        (None, _) => return None,
    };
    Some((target.node.clone(), device))
}
