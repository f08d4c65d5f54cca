use diagnostics::Diagnostic;
use queen_contract::{Availability, Deployment, DeploymentState};
use queen_dispatch::DispatcherSnapshot;
use queen_store::DeploymentRow;
use worker_contract::WorkerStatus;

use crate::Nodes;

impl Nodes {
    /// Returns the deployments with their state in `snapshot`.
    pub async fn deployments(
        &self,
        snapshot: &DispatcherSnapshot,
    ) -> Result<Vec<Deployment>, Diagnostic> {
        let rows = self.state().call(|store| store.deployments()).await?;
        Ok(rows
            .into_iter()
            .map(|row| Deployment {
                state: state(&row, snapshot),
                model: row.key.model,
                node: row.key.node,
                worker_id: row.worker_id,
                generation: row.generation,
                created_at: row.created_at,
                last_error: row.last_error,
            })
            .collect())
    }
}

fn state(row: &DeploymentRow, snapshot: &DispatcherSnapshot) -> DeploymentState {
    let worker = snapshot.workers.iter().find(|worker| {
        worker.info.id == row.worker_id && worker.availability == Availability::Available
    });
    let target = snapshot
        .targets
        .iter()
        .find(|entry| entry.target.model == row.key.model && entry.target.node == row.key.node);
    match (worker.map(|worker| worker.info.status), target) {
        (Some(WorkerStatus::Ready | WorkerStatus::Busy), _) => DeploymentState::Ready,
        (Some(WorkerStatus::Starting), _) => DeploymentState::Starting,
        (_, Some(entry)) if entry.starting => DeploymentState::Starting,
        (_, Some(entry)) if !entry.pause.is_zero() => DeploymentState::Backoff,
        _ => DeploymentState::Idle,
    }
}
