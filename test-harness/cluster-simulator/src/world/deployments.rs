//! What users deploy, and whether they have it in the end.

use std::{collections::BTreeSet, time::Duration};

use input_validation::{Backend, DeviceId};
use scheduler::{Deployment, DeploymentMap, SchedulerEvent};
use worker_contract::WorkerStatus;
use worker_registry::WorkerFilter;

use crate::{
    deployment_plan::WantedWorkers, message::Event, promise::Promise, world::World,
    world::process::Process,
};

/// A user whose call fails because the queen is down repeats it.
const AGAIN: Duration = Duration::from_secs(1);

impl World<'_> {
    /// A user deploys a model, or removes its deployment.
    pub(super) fn deploy(&mut self, change: usize) {
        if self.queen.is_down {
            return self.at(self.now + AGAIN, Event::Deploy(change));
        }
        let change = &self.plan.deployments[change];
        let model = self.names.models[change.model].clone();
        match &change.wanted {
            Some(wanted) => self.queen.deployed.insert(change.model, wanted.clone()),
            None => self.queen.deployed.remove(&change.model),
        };
        let event = SchedulerEvent::Deployments(self.deployment_map(), [model].into());
        self.scheduler_event(event);
    }

    /// Users remove all deployments: their workers hold memory that other models may need.
    pub(super) fn remove_deployments(&mut self) {
        if self.queen.deployed.is_empty() {
            return;
        }
        self.queen.deployed.clear();
        let event = SchedulerEvent::Deployments(DeploymentMap::new(), BTreeSet::new());
        self.scheduler_event(event);
    }

    /// The deployments as the scheduler receives them.
    pub(super) fn deployment_map(&self) -> DeploymentMap {
        let deployed = self.queen.deployed.iter();
        deployed
            .map(|(model, wanted)| (self.names.models[*model].clone(), self.deployment(wanted)))
            .collect()
    }

    fn deployment(&self, wanted: &WantedWorkers) -> Deployment {
        let nodes = wanted.nodes.iter();
        Deployment {
            min_workers: wanted.min,
            max_workers: wanted.max,
            nodes: nodes.map(|node| self.names.nodes[*node].clone()).collect(),
            backend: wanted.gpu.then_some(Backend::Cuda),
            keep_alive: Duration::from_millis(wanted.keep_alive_ms),
            priority: wanted.priority,
            parts: BTreeSet::new(),
        }
    }

    /// Every deployment has its workers if there is memory for them, and never too many.
    pub(super) fn check_deployments(&mut self) {
        // What failed since the last tick is considered in the next one.
        self.scheduler_event(SchedulerEvent::Tick);
        for (model, wanted) in self.queen.deployed.clone() {
            let present = self.workers_of(model, &wanted);
            let count = present.len();
            if count > wanted.max as usize {
                let message = format!(
                    "model {model} has {count} workers, at most {} are wanted",
                    wanted.max
                );
                return self.violate(Promise::Desired, message);
            }
            let is_short = count < wanted.min as usize;
            if is_short && let Some((node, device)) = self.room_for(model, &wanted, &present) {
                let message = format!(
                    "model {model} has {count} workers of {}, although device {device} of node \
                     {node} has room",
                    wanted.min
                );
                return self.violate(Promise::Desired, message);
            }
            if is_short && !self.is_shortfall_known(model) {
                let message = format!("nobody learns that model {model} has {count} workers");
                return self.violate(Promise::Desired, message);
            }
        }
    }

    /// Whether a start is under way, or the scheduler says why none is.
    fn is_shortfall_known(&self, model: usize) -> bool {
        let name = &self.names.models[model];
        let scheduler = &self.queen.scheduler;
        let mut starting = scheduler.targets().filter(|(_, state)| state.is_starting());
        starting.any(|(target, _)| target.model == *name)
            || scheduler.shortfalls().any(|(model, _)| model == name)
    }

    /// The places of the registered workers of a deployment.
    fn workers_of(&self, model: usize, wanted: &WantedWorkers) -> Vec<(usize, DeviceId)> {
        let deployment = self.deployment(wanted);
        let now = self.queen_now();
        let registry = self.queen.scheduler.registry();
        let entries = registry.snapshot(&WorkerFilter::default(), now);
        let of_model = entries.iter().map(|entry| &entry.info).filter(|info| {
            info.model_id == self.names.models[model]
                && deployment.may_run_on(&info.hive_id, info.device)
                && !matches!(info.status, WorkerStatus::Draining | WorkerStatus::Stopped)
        });
        let place = |pid: u32, device| {
            let process: &Process = &self.processes[pid as usize - 1];
            (process.node, device)
        };
        of_model.map(|info| place(info.pid, info.device)).collect()
    }

    /// A place for a further worker of a deployment that has memory for it.
    fn room_for(
        &self,
        model: usize,
        wanted: &WantedWorkers,
        present: &[(usize, DeviceId)],
    ) -> Option<(usize, DeviceId)> {
        let deployment = self.deployment(wanted);
        let places = (0..self.plan.nodes.len()).flat_map(|node| {
            let devices = std::iter::once(DeviceId::Cpu(0)).chain((0..).map(DeviceId::Gpu));
            let free = self.free_memory(node).into_iter();
            devices
                .zip(free)
                .map(move |(device, free)| (node, device, free))
        });
        let mut possible = places.filter(|(node, device, free)| {
            deployment.may_run_on(&self.names.nodes[*node], *device)
                && !present.contains(&(*node, *device))
                && *free >= self.plan.models[model].bytes
        });
        possible.next().map(|(node, device, _)| (node, device))
    }
}
