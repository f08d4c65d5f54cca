//! Workers leave the devices that are left to other programs, and return.

use std::{collections::BTreeSet, time::Duration};

use input_validation::Backend;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Scheduler, SchedulerEffect, StopCause, decisions::Event, residency::is_unused};

impl Scheduler {
    /// Stops the workers on devices that are left to other programs. Their requests continue
    /// elsewhere. When the device is used again, the workers on CPUs that replaced them are
    /// stopped once they are idle, so that the next ones are started on the device.
    pub(crate) fn leave_devices(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let mut leaving = Vec::new();
        for (node, facts) in &self.nodes {
            if facts.yielded.is_empty() {
                continue;
            }
            let filter = WorkerFilter {
                node: Some(node.clone()),
                ..WorkerFilter::default()
            };
            for (info, _) in self.registry.matching(&filter, now) {
                let spawn = SpawnId::of(info);
                let reason = facts.yielded.get(&info.device);
                let reason = reason.filter(|_| !self.registry.is_stopping(&spawn));
                leaving.extend(reason.map(|reason| {
                    let event = Event::Yields {
                        spawn: spawn.clone(),
                        model: info.model_id.clone(),
                        node: node.clone(),
                        reason: reason.clone(),
                    };
                    (
                        spawn,
                        (node.clone(), info.device),
                        info.model_id.clone(),
                        event,
                    )
                }));
            }
        }
        for (spawn, device, model, event) in leaving {
            self.registry.set_stopping(&spawn);
            self.decisions.add(event, now);
            self.displaced.leaves(device, model, now);
            out.push(SchedulerEffect::StopWorker(spawn, StopCause::Yield));
        }
        self.return_to_devices(now, out);
    }

    fn return_to_devices(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let nodes = &self.nodes;
        self.displaced.begin_return(|(node, device)| {
            let facts = nodes.get(node);
            facts.is_none_or(|facts| !facts.yielded.contains_key(device))
        });
        if self.displaced.returning.is_empty() {
            return;
        }
        let in_use: BTreeSet<SpawnId> = self.spawns_in_use().into_iter().cloned().collect();
        let mut idle = Vec::new();
        let (registry, residency) = (&self.registry, &self.residency);
        self.displaced.returning.retain(|model, left| {
            let filter = WorkerFilter {
                model: Some(model.clone()),
                backend: Some(Backend::Cpu),
                ..WorkerFilter::default()
            };
            let mut substitutes = registry.snapshot(&filter, now);
            substitutes.retain(|entry| {
                residency.of(&entry.info.id).loaded >= *left
                    && !registry.is_stopping(&SpawnId::of(&entry.info))
            });
            let all = substitutes.len();
            substitutes.retain(|entry| is_unused(entry, |spawn| in_use.contains(spawn)));
            let stays = substitutes.len() < all;
            idle.extend(
                substitutes
                    .into_iter()
                    .map(|entry| SpawnId::of(&entry.info)),
            );
            stays
        });
        for spawn in idle {
            self.stop(spawn, StopCause::Return, now, out);
        }
    }
}
