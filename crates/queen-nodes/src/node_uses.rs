//! What uses a node that a user wants to remove.

use diagnostics::Diagnostic;
use hive_contract::WorkerState;
use input_validation::NodeName;
use queen_dispatch::Dispatcher;
use worker_registry::WorkerFilter;

use crate::Nodes;

impl Nodes {
    /// What uses a node: its workers, parts of split models, spawns that are under way, and
    /// deployments that name it.
    pub(crate) async fn uses(
        &self,
        name: &NodeName,
        dispatcher: &Dispatcher,
    ) -> Result<Vec<String>, Diagnostic> {
        let filter = WorkerFilter {
            node: Some(name.clone()),
            ..WorkerFilter::default()
        };
        let snapshot = dispatcher.snapshot(filter).await?;
        let workers = snapshot.workers.iter();
        let workers = workers.map(|w| format!("worker {} ({})", w.info.id, w.info.model_id));
        let spawns = snapshot.targets.iter();
        let spawns = spawns.filter(|entry| entry.starting && entry.target.node == *name);
        let spawns = spawns.map(|entry| format!("a worker is starting for {}", entry.target.model));
        let mut uses: Vec<String> = workers.chain(spawns).collect();
        uses.extend(self.parts_on(name).await);
        let deployments = self.state().call(|store| store.deployments()).await?;
        let named = deployments.iter();
        let named = named.filter(|spec| spec.nodes.contains(name) || spec.split.contains(name));
        uses.extend(named.map(|spec| format!("the deployment of {} names it", spec.model)));
        Ok(uses)
    }

    /// The parts of split models that run on a node, as far as it responds.
    async fn parts_on(&self, name: &NodeName) -> Vec<String> {
        let Ok(hive) = self.get(name).and_then(|node| node.hive_now()) else {
            return Vec::new();
        };
        let Ok(list) = hive.client.workers().await else {
            return Vec::new();
        };
        let running = list.workers.into_iter();
        let running = running.filter(|process| process.state == WorkerState::Running);
        let parts = running.filter_map(|process| {
            let (id, model) = (process.worker_id, process.model);
            let of = process.part_of?;
            Some(format!("the part {id} of worker {of} ({model})"))
        });
        parts.collect()
    }
}
