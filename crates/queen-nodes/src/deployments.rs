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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use input_validation::Backend;
    use queen_contract::{RequestCounts, WorkerEntry};
    use queen_dispatch::TargetEntry;
    use queen_store::DeploymentKey;
    use scheduler::SpawnTarget;
    use serde_json::json;

    use super::*;

    fn row() -> DeploymentRow {
        DeploymentRow {
            key: DeploymentKey {
                model: "mock:a=1".parse().unwrap(),
                node: "local".parse().unwrap(),
                device: "CPU-0".parse().unwrap(),
            },
            worker_id: "mock-0".parse().unwrap(),
            generation: input_validation::Generation(1),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            last_error: None,
        }
    }

    fn worker(id: &str, status: &str, availability: &str) -> WorkerEntry {
        serde_json::from_value(json!({
            "id": id, "generation": 1, "hive_id": "local", "model_id": "mock:a=1",
            "device": "CPU-0", "port": 1, "pid": 1, "status": status, "implementation": "mock",
            "version": "1", "slots_total": 1, "slots_free": 1, "queue_depth": 0,
            "context_length": 1, "memory_bytes": 1, "kv_cache": {"total": 0, "used": 0},
            "availability": availability, "heartbeat_age_ms": 0, "active_requests": 0,
        }))
        .unwrap()
    }

    fn target(node: &str, starting: bool, pause: u64) -> TargetEntry {
        TargetEntry {
            target: SpawnTarget {
                model: "mock:a=1".parse().unwrap(),
                node: node.parse().unwrap(),
                backend: Backend::Cpu,
            },
            starting,
            pause: Duration::from_secs(pause),
        }
    }

    #[test]
    fn the_state_is_that_of_the_available_worker_else_that_of_its_spawn() {
        use DeploymentState::{Backoff, Idle, Ready, Starting};
        let available = |status| vec![worker("mock-0", status, "available")];
        for (workers, targets, expected) in [
            (vec![], vec![], Idle),
            (available("ready"), vec![], Ready),
            (available("busy"), vec![target("local", false, 9)], Ready),
            (available("starting"), vec![], Starting),
            (available("draining"), vec![], Idle),
            (vec![worker("mock-0", "ready", "silent")], vec![], Idle),
            (vec![worker("mock-1", "ready", "available")], vec![], Idle),
            (vec![], vec![target("local", true, 0)], Starting),
            (vec![], vec![target("local", false, 9)], Backoff),
            (vec![], vec![target("local", false, 0)], Idle),
            (vec![], vec![target("attic", true, 0)], Idle),
        ] {
            let snapshot = DispatcherSnapshot {
                workers,
                counts: RequestCounts::default(),
                targets,
                unloads: Vec::new(),
            };
            assert_eq!(state(&row(), &snapshot), expected, "{snapshot:?}");
        }
    }
}
