//! Workers leave the nodes that are put to sleep, and nodes that have something to do stay awake.

use std::{collections::BTreeSet, time::Duration};

use input_validation::NodeName;
use worker_contract::WorkerStatus;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{NodeFacts, NodeMap, NodeState, Scheduler, SchedulerEffect, StopCause};

impl Scheduler {
    /// The nodes that have something to do: requests run or wait there, a worker is being spawned,
    /// or deployments keep workers there all the time. Workers alone do not count.
    pub fn nodes_in_use(&self, now: Duration) -> BTreeSet<NodeName> {
        let mut used: BTreeSet<NodeName> = BTreeSet::new();
        let starting = self.targets.iter().filter(|(_, state)| state.is_starting());
        used.extend(starting.map(|(target, _)| target.node.clone()));
        for request in self.requests.values() {
            used.extend(request.requirements.node.clone());
            used.extend(request.target.iter().map(|target| target.node.clone()));
        }
        let in_use = self.spawns_in_use();
        let reserved = self.reserved_workers(i32::MIN, now);
        for entry in self.registry.snapshot(&WorkerFilter::default(), now) {
            let info = &entry.info;
            // A client may use a worker without the queen.
            let is_busy = entry.active_requests > 0
                || info.queue_depth > 0
                || info.slots_free < info.slots_total
                || matches!(info.status, WorkerStatus::Starting | WorkerStatus::Busy);
            let is_used = is_busy || in_use.contains(&SpawnId::of(info));
            if !is_used && !reserved.contains(&info.id) {
                continue;
            }
            used.insert(info.hive_id.clone());
            if let Some(deployment) = self.deployments.wanted.get(&info.model_id) {
                used.extend(deployment.parts.iter().cloned());
            }
        }
        used
    }

    /// Stops the workers on nodes that are put to sleep. Their requests continue elsewhere.
    pub(crate) fn leave_nodes(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let leaving = self.nodes.iter().filter(
            |(_, facts)| matches!(&facts.state, NodeState::Asleep(sleeping) if sleeping.leaves),
        );
        let mut stops = Vec::new();
        for (node, _) in leaving {
            let filter = WorkerFilter {
                node: Some(node.clone()),
                ..WorkerFilter::default()
            };
            let workers = self.registry.matching(&filter, now);
            let spawns = workers.map(|(info, _)| SpawnId::of(info));
            stops.extend(spawns.filter(|spawn| !self.registry.is_stopping(spawn)));
        }
        for spawn in stops {
            self.stop(spawn, StopCause::Sleep, now, out);
        }
    }

    /// The time to wake a node up is not part of the time to load a model.
    pub(crate) fn nodes_wake(&mut self, nodes: &NodeMap, now: Duration) {
        for (target, state) in &mut self.targets {
            let was_asleep = self
                .nodes
                .get(&target.node)
                .is_some_and(NodeFacts::is_asleep);
            let is_asleep = nodes.get(&target.node).is_some_and(NodeFacts::is_asleep);
            if was_asleep && !is_asleep {
                state.node_is_awake(now);
            }
        }
    }
}
