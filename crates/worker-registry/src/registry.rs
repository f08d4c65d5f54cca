use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use input_validation::{Generation, WorkerId};
use queen_contract::{Availability, WorkerEntry};
use worker_contract::{WorkerHeartbeat, WorkerInfo, WorkerStatus};

use crate::{
    REMOVED_AFTER,
    worker::{Candidate, Filter, Lease, Worker},
};

/// What a heartbeat changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A worker, or a newer spawn of one, is new here.
    Registered,
    /// A known worker told its state.
    Refreshed,
    /// A later heartbeat of the same process was seen before.
    Overtaken,
    /// The worker said goodbye.
    Stopped,
}

/// What a request can hope for without a new worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prospect {
    /// No worker serves or will.
    Nobody,
    /// A worker loads its model.
    Loading,
    /// A worker serves.
    Serving,
}

/// All workers of a queen.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    workers: BTreeMap<WorkerId, Worker>,
    /// The lowest generation that may still register, by worker.
    fences: HashMap<WorkerId, Generation>,
}

impl Registry {
    /// Takes in a heartbeat. [`Code::Fenced`] tells the sender to end: a newer spawn of it is
    /// known, or it was stopped.
    pub fn heartbeat(
        &mut self,
        heartbeat: WorkerHeartbeat,
        now: Duration,
    ) -> Result<Heard, Diagnostic> {
        let id = heartbeat.worker.id.clone();
        let generation = heartbeat.worker.generation;
        let lowest = self.fences.get(&id).copied().unwrap_or(Generation(0));
        if generation < lowest {
            return Err(Diagnostic::new(
                Code::Fenced,
                format!(
                    "worker {id} of generation {generation} must end: only generation {lowest} and later may serve"
                ),
            )
            .detail("generation", generation.0)
            .detail("lowest_generation", lowest.0));
        }
        if heartbeat.worker.status == WorkerStatus::Stopped {
            self.fence(&id, Generation(generation.0.saturating_add(1)));
            return Ok(Heard::Stopped);
        }
        self.fences.insert(id.clone(), generation);
        match self.workers.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(Worker::new(heartbeat, now));
                Ok(Heard::Registered)
            }
            Entry::Occupied(mut entry) => {
                let worker = entry.get_mut();
                if worker.info.generation == generation && worker.info.pid == heartbeat.worker.pid {
                    if worker.refresh(heartbeat, now) {
                        Ok(Heard::Refreshed)
                    } else {
                        Ok(Heard::Overtaken)
                    }
                } else {
                    *worker = Worker::new(heartbeat, now);
                    Ok(Heard::Registered)
                }
            }
        }
    }

    /// From now on only `lowest` and later generations of the worker may register; one below
    /// is forgotten. A fence never goes down.
    pub fn fence(&mut self, id: &WorkerId, lowest: Generation) {
        let fence = self.fences.entry(id.clone()).or_insert(lowest);
        *fence = (*fence).max(lowest);
        let lowest = *fence;
        if self
            .workers
            .get(id)
            .is_some_and(|worker| worker.info.generation < lowest)
        {
            self.workers.remove(id);
        }
    }

    /// Whether this spawn of the worker, or a later one, was ever heard or is fenced: a first
    /// heartbeat of it is no longer to be waited for.
    pub fn was_heard(&self, lease: &Lease) -> bool {
        self.fences
            .get(&lease.worker)
            .is_some_and(|lowest| *lowest >= lease.generation)
    }

    /// Forgets a worker whose process is gone, if it is still this generation.
    pub fn remove(&mut self, lease: &Lease) {
        if self.current(lease).is_some() {
            self.workers.remove(&lease.worker);
        }
    }

    /// A connection to the worker was refused or broke: no new work until a heartbeat
    /// follows. Returns whether the worker was thought well until now.
    pub fn link_failed(&mut self, lease: &Lease) -> bool {
        self.current_mut(lease).is_some_and(Worker::fail)
    }

    /// The worker answered that every slot is taken: it is asked again after 1, 2, 4 s, or
    /// after its next heartbeat.
    pub fn refused(&mut self, lease: &Lease, now: Duration) {
        if let Some(worker) = self.current_mut(lease) {
            worker.refuse_for_a_while(now);
        }
    }

    /// Forgets workers that have been silent for 30 s, and names them.
    pub fn expire(&mut self, now: Duration) -> Vec<Lease> {
        let gone: Vec<Lease> = self
            .workers
            .values()
            .filter(|worker| worker.age(now) >= REMOVED_AFTER)
            .map(Worker::lease)
            .collect();
        for lease in &gone {
            self.workers.remove(&lease.worker);
        }
        gone
    }

    /// Counts a request of this queen on the worker until [`release`](Self::release).
    pub fn reserve(&mut self, lease: &Lease) {
        if let Some(worker) = self.current_mut(lease) {
            worker.reserve();
        }
    }

    /// The request is no longer on the worker. Nothing happens when this spawn of the worker
    /// is not known any more.
    pub fn release(&mut self, lease: &Lease) {
        if let Some(worker) = self.current_mut(lease) {
            worker.release();
        }
    }

    /// Workers that may get a request now.
    pub fn candidates<'a>(
        &'a self,
        filter: &'a Filter,
        now: Duration,
    ) -> impl Iterator<Item = Candidate<'a>> + 'a {
        self.workers.values().filter_map(move |worker| {
            let free_slots = worker.free_slots(now);
            (free_slots > 0 && filter.matches(&worker.info)).then_some(Candidate {
                info: &worker.info,
                free_slots,
            })
        })
    }

    /// What a request can hope for that waits for a worker that passes the filter.
    pub fn prospect(&self, filter: &Filter, now: Duration) -> Prospect {
        self.workers
            .values()
            .filter(|worker| {
                filter.matches(&worker.info) && worker.availability(now) == Availability::Available
            })
            .map(|worker| match worker.info.status {
                WorkerStatus::Ready | WorkerStatus::Busy => Prospect::Serving,
                WorkerStatus::Starting => Prospect::Loading,
                WorkerStatus::Draining | WorkerStatus::Stopped => Prospect::Nobody,
            })
            .max()
            .unwrap_or(Prospect::Nobody)
    }

    /// What is known of one worker.
    pub fn get(&self, id: &WorkerId) -> Option<&WorkerInfo> {
        self.workers.get(id).map(|worker| &worker.info)
    }

    /// Requests of this queen on the worker.
    pub fn active(&self, id: &WorkerId) -> u32 {
        self.workers.get(id).map_or(0, Worker::active)
    }

    /// The workers as clients of the queen see them, by name.
    pub fn snapshot(&self, filter: &Filter, now: Duration) -> Vec<WorkerEntry> {
        self.workers
            .values()
            .filter(|worker| filter.matches(&worker.info))
            .map(|worker| worker.entry(now))
            .collect()
    }

    fn current(&self, lease: &Lease) -> Option<&Worker> {
        self.workers
            .get(&lease.worker)
            .filter(|worker| worker.info.generation == lease.generation)
    }

    fn current_mut(&mut self, lease: &Lease) -> Option<&mut Worker> {
        self.workers
            .get_mut(&lease.worker)
            .filter(|worker| worker.info.generation == lease.generation)
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
