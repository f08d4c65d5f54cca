//! The parts of split models: how they are named, and what is said about those that were lost.

use diagnostics::{Diagnostic, Narration, excerpt};
use futures_util::future::join_all;
use hive_contract::{WorkerProcess, WorkerState};
use input_validation::{Generation, NodeName, WorkerId};
use queen_store::WorkerRow;
use worker_registry::SpawnId;

use crate::spawning::Spawning;

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
        let ended = (1..).zip(others).map(|(number, name)| {
            let worker = &spawn.worker;
            async move {
                let id = part_id(worker, number).ok()?;
                let hive = self.nodes.get(name).ok()?.hive_now().ok()?;
                let part = hive.client.worker(&id).await.ok()?;
                // The hive names the cause of what it has stopped, in parentheses.
                let exit = part.last_exit.as_ref()?;
                let by_itself = part.state == WorkerState::Exited && !exit.contains('(');
                let is_of_it = by_itself && part.generation == row.generation;
                is_of_it.then(|| lost_part(name, &id, part.generation, std::slice::from_ref(&part)))
            }
        });
        let ended: Vec<String> = join_all(ended).await.into_iter().flatten().collect();
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
