use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use input_validation::{Generation, NodeName, WorkerId};
use node_link::Exposed;
use queen_contract::DeployedPart;
use worker_registry::SpawnId;

/// What the queen knows of the workers whose models are split.
#[derive(Debug, Default)]
pub(crate) struct Splits(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Those that this queen has started, with the ports that lead to their parts.
    open: BTreeMap<WorkerId, (Generation, Vec<Exposed>)>,
    /// The parts of workers, as they were last seen.
    parts: BTreeMap<WorkerId, Vec<DeployedPart>>,
    /// Parts that links of nodes were asked to reach, each with its worker until that starts again.
    reached: Vec<(Option<WorkerId>, Part)>,
    starting: BTreeSet<WorkerId>,
    /// The last spawn of each worker of which a lost part was reported.
    reported: BTreeMap<WorkerId, Generation>,
    /// Number of changes of `starting`.
    changes: u64,
}

/// Node and port of a part.
type Part = (NodeName, u16);

/// A worker whose parts are being started; ends when it is dropped.
pub(crate) struct Starting<'a> {
    splits: &'a Splits,
    worker: WorkerId,
}

impl Splits {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self, worker: &WorkerId) -> Starting<'_> {
        let mut table = self.table();
        table.starting.insert(worker.clone());
        table.changes += 1;
        table.open.remove(worker);
        table.parts.remove(worker);
        for (of, _) in &mut table.reached {
            of.take_if(|of| of == worker);
        }
        Starting {
            splits: self,
            worker: worker.clone(),
        }
    }

    /// The workers whose parts are being started, and the number of changes of this set.
    pub(crate) fn starting(&self) -> (BTreeSet<WorkerId>, u64) {
        let table = self.table();
        (table.starting.clone(), table.changes)
    }

    /// Records that a lost part of this spawn is reported. Returns whether one was before.
    pub(crate) fn has_reported(&self, spawn: &SpawnId) -> bool {
        let mut table = self.table();
        let before = table
            .reported
            .insert(spawn.worker.clone(), spawn.generation);
        before == Some(spawn.generation)
    }

    /// Records that the link of a node reaches a part of this worker.
    pub(crate) fn reached(&self, worker: &WorkerId, part: Part) {
        self.table().reached.push((Some(worker.clone()), part));
    }

    /// Returns the reached parts whose worker is neither being started nor open, and forgets them.
    pub(crate) fn take_unneeded(&self) -> Vec<Part> {
        let mut table = self.table();
        let Table {
            open,
            reached,
            starting,
            ..
        } = &mut *table;
        let is_needed = |worker: &WorkerId| starting.contains(worker) || open.contains_key(worker);
        let unneeded = reached.extract_if(.., |(of, _)| !of.as_ref().is_some_and(is_needed));
        unneeded.map(|(_, part)| part).collect()
    }

    /// Whether the ports that lead to the parts of a worker are open. `None` if another queen has
    /// opened them.
    pub(crate) fn is_open(&self, worker: &WorkerId, generation: Generation) -> Option<bool> {
        let table = self.table();
        let (opened, ports) = table.open.get(worker)?;
        (*opened == generation).then(|| ports.iter().all(Exposed::is_open))
    }

    /// Whether this queen has started parts. One may still run although its deployment is gone: its
    /// node may have been out of reach.
    pub(crate) fn had_any(&self) -> bool {
        self.table().changes > 0
    }

    /// The parts of workers, as they were last seen.
    pub(crate) fn parts(&self) -> BTreeMap<WorkerId, Vec<DeployedPart>> {
        self.table().parts.clone()
    }

    /// Records the running parts of a worker that is being started.
    pub(crate) fn run_parts(&self, worker: &WorkerId, parts: Vec<DeployedPart>) {
        self.table().parts.insert(worker.clone(), parts);
    }

    /// Forgets the parts of a worker that does not have any.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        let mut table = self.table();
        table.open.remove(worker);
        table.parts.remove(worker);
    }

    /// Records a worker that serves, and the ports that lead to its parts.
    pub(crate) fn started(&self, worker: &WorkerId, generation: Generation, ports: Vec<Exposed>) {
        let mut table = self.table();
        table.open.insert(worker.clone(), (generation, ports));
    }

    /// Replaces what is known of the parts of workers that are not being started, and closes the
    /// ports of those that have none. Does nothing and returns `false` if starts have begun or
    /// ended since `changes`, because what was seen may be from before.
    pub(crate) fn seen(
        &self,
        mut parts: BTreeMap<WorkerId, Vec<DeployedPart>>,
        changes: u64,
    ) -> bool {
        let mut table = self.table();
        if table.changes != changes {
            return false;
        }
        let Table {
            open,
            parts: known,
            starting,
            ..
        } = &mut *table;
        open.retain(|worker, _| starting.contains(worker) || parts.contains_key(worker));
        parts.retain(|worker, _| !starting.contains(worker));
        known.retain(|worker, _| starting.contains(worker));
        known.append(&mut parts);
        true
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut table = self.splits.table();
        table.starting.remove(&self.worker);
        table.changes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_noticed_by_whoever_looks_meanwhile() {
        let splits = Splits::default();
        let worker: WorkerId = "w-0".parse().unwrap();
        let (none, before) = splits.starting();
        assert!(none.is_empty() && !splits.had_any());
        let start = splits.start(&worker);
        assert!(splits.starting().0.contains(&worker));
        drop(start);
        let (none, after) = splits.starting();
        assert!(none.is_empty());
        assert_ne!(before, after);
        assert_eq!(splits.is_open(&worker, Generation(1)), None);
        let ports = vec![Exposed::direct(7)];
        splits.started(&worker, Generation(1), ports);
        assert_eq!(splits.is_open(&worker, Generation(1)), Some(true));
        assert_eq!(splits.is_open(&worker, Generation(2)), None);
        assert!(!splits.seen(BTreeMap::new(), before));
        assert!(splits.seen(BTreeMap::new(), after));
        assert!(splits.had_any());
        assert_eq!(splits.is_open(&worker, Generation(1)), None);
    }

    #[test]
    fn a_part_is_not_needed_after_the_end_of_its_worker_and_of_a_failed_start() {
        let splits = Splits::default();
        let worker: WorkerId = "w-0".parse().unwrap();
        let part = |port| ("attic".parse().unwrap(), port);
        let start = splits.start(&worker);
        splits.reached(&worker, part(1));
        assert!(splits.take_unneeded().is_empty());
        drop(start);
        assert_eq!(splits.take_unneeded(), [part(1)]);
        let start = splits.start(&worker);
        splits.reached(&worker, part(2));
        splits.started(&worker, Generation(1), Vec::new());
        drop(start);
        assert!(splits.take_unneeded().is_empty());
        let start = splits.start(&worker);
        splits.reached(&worker, part(3));
        assert_eq!(splits.take_unneeded(), [part(2)], "it starts again");
        drop(start);
        assert_eq!(splits.take_unneeded(), [part(3)]);
        assert!(splits.take_unneeded().is_empty());
    }
}
