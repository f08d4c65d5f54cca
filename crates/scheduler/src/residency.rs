//! What is known of the workers that use the memory of the nodes.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use input_validation::{ModelRef, WorkerId};
use queen_contract::WorkerEntry;
use worker_contract::WorkerInfo;
use worker_registry::{SpawnId, WorkerFilter, WorkerRegistry};

use crate::{NodeMap, eviction::FreedMemory, nodes::Place};

/// A turn lasts at least this many times as long as the loading of the model that waits.
const LOADS_PER_TURN: u32 = 3;
/// A turn lasts at most this many times as long as the shortest one: the first load of a model may
/// include its download.
const LONGEST_TURN: u32 = 10;

/// When workers were used, how long models take to load, and who must end their turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Residency {
    pub(crate) uses: HashMap<WorkerId, Use>,
    load_times: HashMap<ModelRef, LoadTime>,
    /// Workers that receive no new requests, because their turn has ended.
    pub(crate) yielding: BTreeSet<WorkerId>,
    pub(crate) freed: FreedMemory,
}

/// How long a model takes to load.
#[derive(Debug, Clone, Copy)]
struct LoadTime {
    latest: Duration,
    /// Of several loads, as the first one may include the download.
    least: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    pub(crate) loaded: Duration,
    pub(crate) last: Duration,
}

impl Residency {
    pub(crate) fn registered(&mut self, worker: &WorkerId, now: Duration) {
        let new = Use {
            loaded: now,
            last: now,
        };
        self.uses.insert(worker.clone(), new);
    }

    pub(crate) fn used(&mut self, worker: &WorkerId, now: Duration) {
        if let Some(known) = self.uses.get_mut(worker) {
            known.last = now;
        }
    }

    pub(crate) fn loaded_in(&mut self, model: &ModelRef, time: Duration) {
        let before = self.load_times.get(model);
        let measured = LoadTime {
            latest: time,
            least: before.map(|before| before.least.unwrap_or(before.latest).min(time)),
        };
        self.load_times.insert(model.clone(), measured);
    }

    /// How long the model took to load the last time, its download included.
    pub(crate) fn load_time(&self, model: &ModelRef) -> Option<Duration> {
        self.load_times.get(model).map(|time| time.latest)
    }

    /// How long the model takes to load at least. Unknown until it was loaded twice.
    pub(crate) fn least_load_time(&self, model: &ModelRef) -> Option<Duration> {
        self.load_times.get(model).and_then(|time| time.least)
    }

    pub(crate) fn is_yielding(&self, worker: &WorkerId) -> bool {
        self.yielding.contains(worker)
    }

    pub(crate) fn of(&self, worker: &WorkerId) -> Use {
        let unknown = Use {
            loaded: Duration::ZERO,
            last: Duration::ZERO,
        };
        self.uses.get(worker).copied().unwrap_or(unknown)
    }

    pub(crate) fn turn(&self, model: &ModelRef, least: Duration) -> Duration {
        let load = self.load_time(model).unwrap_or_default();
        load.saturating_mul(LOADS_PER_TURN)
            .clamp(least, least.saturating_mul(LONGEST_TURN))
    }
}

/// Whether a worker runs no request of this queen or of others. `is_in_use` says whether this queen
/// runs a request on it: one that registered again counts none that it runs since before.
pub(crate) fn is_unused(entry: &WorkerEntry, is_in_use: impl Fn(&SpawnId) -> bool) -> bool {
    entry.active_requests == 0
        && entry.info.slots_free == entry.info.slots_total
        && !is_in_use(&SpawnId::of(&entry.info))
}

/// The memory of all workers at a place, which could be made free, in bytes.
pub(crate) fn bytes_held(registry: &WorkerRegistry, nodes: &NodeMap, place: &Place) -> u64 {
    let filter = WorkerFilter {
        node: Some(place.0.clone()),
        backend: Some(place.1),
        ..WorkerFilter::default()
    };
    let workers = registry.matching(&filter, Duration::ZERO);
    workers.fold(0, |bytes, (info, _)| {
        bytes.saturating_add(worker_bytes(info, nodes))
    })
}

/// The memory of a worker, in bytes: on a GPU it is not that of its process.
pub(crate) fn worker_bytes(info: &WorkerInfo, nodes: &NodeMap) -> u64 {
    let facts = nodes.get(&info.hive_id);
    let files = facts.and_then(|facts| facts.models.get(&info.model_id));
    info.memory_bytes.max(files.copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_grows_with_the_time_to_load_but_not_with_a_long_download() {
        let model: ModelRef = "mock:a=1".parse().unwrap();
        let least = Duration::from_secs(30);
        let mut residency = Residency::default();
        assert_eq!(residency.turn(&model, least), least);
        for (load, turn) in [(5, 30), (40, 120), (3600, 300)] {
            residency.loaded_in(&model, Duration::from_secs(load));
            assert_eq!(residency.turn(&model, least), Duration::from_secs(turn));
        }
    }

    #[test]
    fn the_least_load_time_is_that_of_two_loads_or_more() {
        let model: ModelRef = "mock:a=1".parse().unwrap();
        let mut residency = Residency::default();
        for (load, least) in [(3600, None), (9, Some(9)), (7, Some(7)), (8, Some(7))] {
            residency.loaded_in(&model, Duration::from_secs(load));
            assert_eq!(
                residency.least_load_time(&model),
                least.map(Duration::from_secs)
            );
            assert_eq!(residency.load_time(&model), Some(Duration::from_secs(load)));
        }
    }
}
