use std::collections::{BTreeMap, BTreeSet, HashMap};

use input_validation::{ModelRef, WorkerId};

use crate::worker::{Worker, WorkerFilter};

/// The workers in the order of their ids, and by their models.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerTable {
    workers: BTreeMap<WorkerId, Worker>,
    by_model: HashMap<ModelRef, BTreeSet<WorkerId>>,
}

impl WorkerTable {
    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// The number of ids in the lists of the models.
    #[cfg(test)]
    pub(crate) fn listed(&self) -> usize {
        self.by_model.values().map(BTreeSet::len).sum()
    }

    pub(crate) fn get(&self, id: &WorkerId) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// The worker, whose model must not be changed.
    pub(crate) fn get_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id)
    }

    /// Inserts a worker. Returns the one of its id that it replaces.
    pub(crate) fn insert(&mut self, worker: Worker) -> Option<Worker> {
        let (id, model) = (worker.info.id.clone(), worker.info.model_id.clone());
        let replaced = self.remove(&id);
        self.by_model.entry(model).or_default().insert(id.clone());
        self.workers.insert(id, worker);
        replaced
    }

    pub(crate) fn remove(&mut self, id: &WorkerId) -> Option<Worker> {
        let removed = self.workers.remove(id)?;
        let model = &removed.info.model_id;
        if let Some(ids) = self.by_model.get_mut(model) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_model.remove(model);
            }
        }
        Some(removed)
    }

    /// Removes the workers that `is_removed` accepts.
    pub(crate) fn remove_if(&mut self, is_removed: impl Fn(&Worker) -> bool) -> Vec<Worker> {
        let removed = self.workers.values().filter(|worker| is_removed(worker));
        let removed: Vec<WorkerId> = removed.map(|worker| worker.info.id.clone()).collect();
        removed.iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// All workers, whose models must not be changed.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.workers.values_mut()
    }

    /// The workers that match the filter. Only those of its model are examined.
    pub(crate) fn matching<'a>(
        &'a self,
        filter: &'a WorkerFilter,
    ) -> impl Iterator<Item = &'a Worker> + 'a {
        let model = filter.model.as_ref();
        let all = model.is_none().then(|| self.workers.values());
        let ids = model.and_then(|model| self.by_model.get(model));
        let of_model = ids.into_iter().flatten();
        let of_model = of_model.filter_map(|id| self.workers.get(id));
        let workers = all.into_iter().flatten().chain(of_model);
        workers.filter(|worker| filter.matches(&worker.info))
    }
}
