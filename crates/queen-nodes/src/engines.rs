//! Which engines run the models of workers.

use std::time::Duration;

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{EngineDecision, EngineList, WorkerProcess};
use input_validation::{NodeName, WorkerId};
use queen_contract::{Decision, DecisionCandidate, DecisionKind};
use tokio::time::timeout;

use crate::Nodes;

/// Time limit for the hives: a decision that is not known in time is left out.
const LIMIT: Duration = Duration::from_secs(2);

impl Nodes {
    /// Returns the engines of a node.
    pub async fn engines(&self, node: Option<&NodeName>) -> Result<EngineList, Diagnostic> {
        let machine = self.hive(node).await?.capabilities().await?;
        Ok(EngineList {
            engines: machine.engines,
        })
    }

    /// Returns which engines were chosen for the workers of all nodes and why, as their hives have
    /// recorded it. `about` is the id of a worker or a model.
    pub async fn engine_decisions(&self, about: Option<&str>) -> Vec<Decision> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| async move {
            let hive = node.hive_now().ok()?;
            let listed = timeout(LIMIT, hive.client.workers()).await.ok()?;
            Some((node.name().clone(), listed.ok()?.workers))
        });
        let lists = join_all(asked).await.into_iter().flatten();
        let decisions = lists.flat_map(|(node, workers)| {
            let workers = workers.into_iter();
            workers.filter_map(move |worker| decision(&node, worker))
        });
        decisions
            .filter(|decision| about.is_none_or(|about| concerns(decision, about)))
            .collect()
    }
}

fn concerns(decision: &Decision, about: &str) -> bool {
    let is_worker = decision.worker.as_ref().map(WorkerId::as_str) == Some(about);
    is_worker || decision.model.as_ref().map(ToString::to_string).as_deref() == Some(about)
}

fn decision(node: &NodeName, worker: WorkerProcess) -> Option<Decision> {
    let EngineDecision {
        engine,
        reason,
        candidates,
    } = worker.engine?;
    let candidates = candidates.into_iter().map(|candidate| DecisionCandidate {
        name: candidate.name,
        chosen: candidate.chosen,
        note: candidate.note,
    });
    let mut candidates: Vec<DecisionCandidate> = candidates.collect();
    if candidates.is_empty() {
        // A part has no choice of engines.
        candidates.push(DecisionCandidate {
            name: engine,
            chosen: true,
            note: "it computes parts of models".to_owned(),
        });
    }
    Some(Decision {
        time: worker.started_at,
        kind: DecisionKind::Engine,
        request: None,
        model: Some(worker.model),
        worker: Some(worker.worker_id),
        node: Some(node.clone()),
        reason,
        candidates,
        more_candidates: 0,
    })
}
