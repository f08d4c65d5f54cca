use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use input_validation::{Generation, NodeName, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use worker_contract::{WorkerHeartbeat, WorkerInfo, WorkerStatus};

use crate::{
    REMOVED_AFTER,
    worker::{Candidate, SpawnId, Worker, WorkerFilter},
    worker_table::WorkerTable,
};

/// How an accepted heartbeat changed the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatResult {
    /// A worker, or a newer spawn of one, was added.
    Registered,
    /// A known worker's state was updated.
    Refreshed,
    /// Nothing changed: a later heartbeat of the same process was applied before.
    OutOfOrder,
    /// The worker reported that it is exiting and was removed.
    Deregistered,
}

/// Whether an existing worker can serve a request, now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServingState {
    /// No worker can serve it.
    None,
    /// A worker that can serve it is loading its model.
    Loading,
    /// A worker that can serve it is running; its slots may be busy.
    Serving,
}

/// Which generations of a worker may register.
#[derive(Debug, Clone, Copy)]
struct Fence {
    /// The lowest generation that may register.
    lowest: Generation,
    /// That generation has registered. If not, the fence was raised by stopping a worker.
    registered: bool,
}

/// All workers of a queen.
#[derive(Debug, Clone, Default)]
pub struct WorkerRegistry {
    workers: WorkerTable,
    fences: HashMap<WorkerId, Fence>,
    /// Spawns that are being stopped, until they are fenced.
    stopping: HashSet<SpawnId>,
    /// Nodes and ports of workers that were removed or replaced.
    removed: Vec<(NodeName, u16)>,
}

impl WorkerRegistry {
    /// Applies a heartbeat. Fails with [`Code::Fenced`] if the sender must exit because a
    /// newer spawn of the worker is known or the worker was stopped.
    pub fn heartbeat(
        &mut self,
        heartbeat: WorkerHeartbeat,
        now: Duration,
    ) -> Result<HeartbeatResult, Diagnostic> {
        let id = heartbeat.worker.id.clone();
        let generation = heartbeat.worker.generation;
        if let Some(fence) = self.fences.get(&id)
            && generation < fence.lowest
        {
            return Err(fenced(&id, generation, fence.lowest));
        }
        if heartbeat.worker.status == WorkerStatus::Stopped {
            self.fence(&id, Generation(generation.0.saturating_add(1)));
            return Ok(HeartbeatResult::Deregistered);
        }
        let is_stopping = self.stopping.contains(&SpawnId::of(&heartbeat.worker));
        let fence = Fence {
            lowest: generation,
            registered: true,
        };
        self.fences.insert(id.clone(), fence);
        let is_same = |info: &WorkerInfo| {
            let new = &heartbeat.worker;
            (info.generation, info.pid, &info.model_id) == (generation, new.pid, &new.model_id)
        };
        if let Some(worker) = self.workers.get_mut(&id)
            && is_same(&worker.info)
        {
            return if worker.refresh(heartbeat, now) {
                Ok(HeartbeatResult::Refreshed)
            } else {
                Ok(HeartbeatResult::OutOfOrder)
            };
        }
        let worker = Worker::new(heartbeat, is_stopping, now);
        let replaced = self.workers.insert(worker);
        let place = replaced.map(|worker| place_of(&worker.info));
        self.removed.extend(place);
        Ok(HeartbeatResult::Registered)
    }

    /// Raises the worker's fence to `lowest` and removes a registered spawn below it. A fence
    /// is never lowered.
    pub fn fence(&mut self, id: &WorkerId, lowest: Generation) {
        let raised = Fence {
            lowest,
            registered: false,
        };
        let fence = self.fences.entry(id.clone()).or_insert(raised);
        if fence.lowest < lowest {
            *fence = raised;
        }
        self.stopping
            .retain(|spawn| spawn.worker != *id || spawn.generation >= lowest);
        if self
            .workers
            .get(id)
            .is_some_and(|worker| worker.info.generation < lowest)
        {
            self.drop_worker(id);
        }
    }

    /// Returns true if the first heartbeat of this spawn is not pending: the spawn has
    /// registered, a later one has, or it was fenced.
    pub fn has_registered(&self, spawn: &SpawnId) -> bool {
        self.fences.get(&spawn.worker).is_some_and(|fence| {
            fence.lowest > spawn.generation || fence.lowest == spawn.generation && fence.registered
        })
    }

    /// Removes a worker whose process has exited, unless a newer spawn has registered.
    pub fn remove(&mut self, spawn: &SpawnId) {
        if self.current_mut(spawn).is_some() {
            self.drop_worker(&spawn.worker);
        }
    }

    /// Returns the nodes and ports where a worker was since the last call and none is now.
    pub fn take_freed_ports(&mut self) -> Vec<(NodeName, u16)> {
        let mut freed = std::mem::take(&mut self.removed);
        freed.retain(|place| {
            let mut workers = self.workers.all();
            !workers.any(|worker| place_of(&worker.info) == *place)
        });
        freed
    }

    /// Removes the workers that are loading and that `is_lost` accepts. One that is alive
    /// registers again by its next heartbeat.
    pub fn remove_starting(&mut self, is_lost: impl Fn(&WorkerInfo) -> bool) {
        let lost = self.workers.remove_if(|worker| {
            worker.info.status == WorkerStatus::Starting && is_lost(&worker.info)
        });
        let places = lost.iter().map(|worker| place_of(&worker.info));
        self.removed.extend(places);
    }

    /// Records that a connection to the worker was refused or broke: it receives no new
    /// requests until its next heartbeat. Returns false if that was known already or the
    /// spawn is not registered.
    pub fn connection_failed(&mut self, spawn: &SpawnId) -> bool {
        self.current_mut(spawn)
            .is_some_and(Worker::connection_failed)
    }

    /// Records that the worker computes nothing although it has requests: it receives no new
    /// ones until a heartbeat reports a later step. Returns false if that was known already or
    /// the spawn is not registered.
    pub fn stalled(&mut self, spawn: &SpawnId, now: Duration) -> bool {
        self.current_mut(spawn)
            .is_some_and(|worker| worker.stalled(now))
    }

    /// Returns the workers that stalled 10 s ago, did not recover since, and are not being
    /// stopped.
    pub fn lost_to_stall(&self, now: Duration) -> Vec<SpawnId> {
        let workers = self.workers.all();
        workers
            .filter(|worker| worker.is_lost_to_stall(now))
            .map(|worker| SpawnId::of(&worker.info))
            .collect()
    }

    /// Records that the worker is being stopped: it receives no new requests.
    /// [`fence`](Self::fence) must follow.
    pub fn set_stopping(&mut self, spawn: &SpawnId) {
        if let Some(worker) = self.current_mut(spawn) {
            worker.set_stopping();
            self.stopping.insert(spawn.clone());
        }
    }

    /// Returns true if this spawn is being stopped.
    pub fn is_stopping(&self, spawn: &SpawnId) -> bool {
        self.stopping.contains(spawn)
    }

    /// Records that the worker answered that all its slots are busy: it receives no new
    /// requests for 1, 2, then 4 s, or until its next heartbeat.
    pub fn all_slots_busy(&mut self, spawn: &SpawnId, now: Duration) {
        if let Some(worker) = self.current_mut(spawn) {
            worker.back_off(now);
        }
    }

    /// Returns the workers whose heartbeat is late, each of them every 5 s.
    pub fn late(&mut self, now: Duration) -> Vec<SpawnId> {
        let workers = self.workers.all_mut();
        workers
            .filter_map(|worker| worker.check_late(now).then(|| SpawnId::of(&worker.info)))
            .collect()
    }

    /// Removes the workers without a heartbeat for 30 s and returns them.
    pub fn expire(&mut self, now: Duration) -> Vec<SpawnId> {
        let silent = |worker: &Worker| worker.heartbeat_age(now) >= REMOVED_AFTER;
        let expired = self.workers.remove_if(silent);
        let places = expired.iter().map(|worker| place_of(&worker.info));
        self.removed.extend(places);
        let expired = expired.iter();
        expired.map(|worker| SpawnId::of(&worker.info)).collect()
    }

    /// Occupies a slot of the worker until [`release`](Self::release).
    pub fn reserve(&mut self, spawn: &SpawnId) {
        if let Some(worker) = self.current_mut(spawn) {
            worker.reserve();
        }
    }

    /// Frees a slot. Has no effect if this spawn is not registered any more.
    pub fn release(&mut self, spawn: &SpawnId) {
        if let Some(worker) = self.current_mut(spawn) {
            worker.release();
        }
    }

    /// Returns the workers that match the filter and can accept a request now.
    pub fn candidates<'a>(
        &'a self,
        filter: &'a WorkerFilter,
        now: Duration,
    ) -> impl Iterator<Item = Candidate<'a>> + 'a {
        self.workers.matching(filter).filter_map(move |worker| {
            let free_slots = worker.free_slots(now);
            (free_slots > 0).then_some(Candidate {
                info: &worker.info,
                free_slots,
            })
        })
    }

    /// Returns the workers that match the filter, whether or not they can accept a request.
    pub fn matching<'a>(
        &'a self,
        filter: &'a WorkerFilter,
        now: Duration,
    ) -> impl Iterator<Item = (&'a WorkerInfo, Availability)> + 'a {
        let matching = self.workers.matching(filter);
        matching.map(move |worker| (&worker.info, worker.availability(now)))
    }

    /// Returns the best state among the available workers that match the filter.
    pub fn serving_state(&self, filter: &WorkerFilter, now: Duration) -> ServingState {
        self.workers
            .matching(filter)
            .filter(|worker| worker.availability(now) == Availability::Available)
            .map(|worker| match worker.info.status {
                WorkerStatus::Ready | WorkerStatus::Busy => ServingState::Serving,
                WorkerStatus::Starting => ServingState::Loading,
                WorkerStatus::Draining | WorkerStatus::Stopped => ServingState::None,
            })
            .max()
            .unwrap_or(ServingState::None)
    }

    /// Returns the number of workers.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Returns the last heartbeat of the worker.
    pub fn get(&self, id: &WorkerId) -> Option<&WorkerInfo> {
        self.workers.get(id).map(|worker| &worker.info)
    }

    /// Returns the last heartbeat of this spawn, if it is the registered one.
    pub fn get_spawn(&self, spawn: &SpawnId) -> Option<&WorkerInfo> {
        self.get(&spawn.worker)
            .filter(|info| info.generation == spawn.generation)
    }

    /// Returns the workers that match the filter, ordered by id.
    pub fn snapshot(&self, filter: &WorkerFilter, now: Duration) -> Vec<WorkerEntry> {
        self.workers
            .matching(filter)
            .map(|worker| worker.entry(now))
            .collect()
    }

    /// Returns the number of slots, busy or free, of the workers that match the filter.
    pub fn total_slots(&self, filter: &WorkerFilter) -> u32 {
        self.workers
            .matching(filter)
            .map(|worker| worker.info.slots_total)
            .sum()
    }

    fn drop_worker(&mut self, id: &WorkerId) {
        let worker = self.workers.remove(id);
        self.removed
            .extend(worker.map(|worker| place_of(&worker.info)));
    }

    fn current_mut(&mut self, spawn: &SpawnId) -> Option<&mut Worker> {
        self.workers
            .get_mut(&spawn.worker)
            .filter(|worker| worker.info.generation == spawn.generation)
    }
}

fn place_of(info: &WorkerInfo) -> (NodeName, u16) {
    (info.hive_id.clone(), info.port)
}

fn fenced(id: &WorkerId, generation: Generation, lowest: Generation) -> Diagnostic {
    Diagnostic::new(
        Code::Fenced,
        format!(
            "worker {id} of generation {generation} must exit: only generation {lowest} or later may serve"
        ),
    )
    .hint("no action needed: a newer process has replaced this one, or it was stopped")
    .detail("generation", generation.0)
    .detail("lowest_generation", lowest.0)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "stall_tests.rs"]
mod stall_tests;
