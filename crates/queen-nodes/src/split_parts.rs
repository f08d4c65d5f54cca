//! The parts of split models: how they are named, and what is said about those that were lost.

use diagnostics::{Diagnostic, Narration, excerpt};
use futures_util::future::join_all;
use hive_contract::WorkerProcess;
use input_validation::{Generation, NodeName, WorkerId};
use queen_store::WorkerRow;
use worker_contract::WorkerInfo;
use worker_registry::SpawnId;

use crate::{Nodes, spawning::Spawning};

/// The id of the process that computes a part of a worker's model. Parts count from 1.
pub(crate) fn part_id(worker: &WorkerId, number: usize) -> Result<WorkerId, Diagnostic> {
    format!("{worker}-part{number}").parse()
}

/// Which part of a worker on which node has ended, and how, as far as its hive knows.
pub(crate) fn lost_part(
    node: &NodeName,
    id: &WorkerId,
    generation: Generation,
    processes: &[WorkerProcess],
) -> String {
    let mut processes = processes.iter();
    let part = processes.find(|part| part.worker_id == *id && part.generation == generation);
    match part.and_then(|part| part.last_exit.as_ref()) {
        Some(exit) => format!(
            "its part {id} on node {node} has ended: {}",
            excerpt(exit, 100)
        ),
        None => format!("its part {id} on node {node} does not run"),
    }
}

impl Nodes {
    /// Says which parts of a worker's model have ended by themselves, as far as the hives respond.
    /// `others` are the nodes of its parts, in order.
    pub(crate) async fn lost_parts<'a>(
        &self,
        spawn: &SpawnId,
        others: impl Iterator<Item = &'a NodeName>,
    ) -> Vec<String> {
        let ended = (1..).zip(others).map(|(number, name)| async move {
            let id = part_id(&spawn.worker, number).ok()?;
            let hive = self.get(name).ok()?.hive_now().ok()?;
            let part = hive.client.worker(&id).await.ok()?;
            let is_of_it = part.ended_by_itself && part.generation == spawn.generation;
            is_of_it.then(|| lost_part(name, &id, part.generation, std::slice::from_ref(&part)))
        });
        join_all(ended).await.into_iter().flatten().collect()
    }

    /// Says which parts of the model of a worker have ended by themselves; `None` if there is none.
    pub(crate) async fn lost_parts_of(&self, worker: &WorkerInfo) -> Option<String> {
        let deployments = self.state().call(|store| store.deployments()).await.ok()?;
        let mut deployments = deployments.into_iter();
        let split = deployments.find(|wanted| wanted.model == worker.model_id)?;
        let others = split.split.iter();
        let others = others.filter(|name| **name != worker.hive_id);
        let lost = self.lost_parts(&SpawnId::of(worker), others).await;
        (!lost.is_empty()).then(|| lost.join("; "))
    }
}

impl Spawning<'_> {
    /// Says which parts of the last spawn of the worker have ended by themselves: then it has, too,
    /// and the queen may not have seen it without them.
    pub(crate) async fn report_lost_parts(&self, row: &WorkerRow, split: &[NodeName]) {
        let spawn = SpawnId {
            worker: row.worker_id.clone(),
            generation: row.generation,
        };
        let others = split.iter();
        let others = others.filter(|name| **name != self.target.node);
        let ended = self.nodes.lost_parts(&spawn, others).await;
        if ended.is_empty() || self.nodes.splits().has_reported(&spawn) {
            return;
        }
        let reason = ended.join("; ");
        let message = format!("worker {}: {reason}", spawn.worker);
        self.narrate(Narration::warn("queen", "split", message))
            .await;
        self.dispatcher.part_lost(spawn, reason).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_worker_have_ids_of_their_own() {
        let worker: WorkerId = "qwen-0".parse().unwrap();
        assert_eq!(part_id(&worker, 2).unwrap().as_str(), "qwen-0-part2");
    }
}
