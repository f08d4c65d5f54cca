//! The deployments, and what is there of their workers.

use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use input_validation::{ModelRef, WorkerId};
use queen_contract::{
    Availability, DeployedPart, DeployedWorker, Deployment, DeploymentSpec, DeploymentState,
};
use queen_dispatch::DispatcherSnapshot;
use queen_store::WorkerRow;
use worker_contract::WorkerStatus;

use crate::{Nodes, deployments};

impl Nodes {
    /// Returns the deployments with their state in `snapshot`: those that users made, and those of
    /// models that requests have named.
    pub async fn deployments(
        &self,
        snapshot: &DispatcherSnapshot,
    ) -> Result<Vec<Deployment>, Diagnostic> {
        let state = self.state();
        let rows = state.call(|store| store.workers()).await?;
        let wanted = state.call(|store| store.deployments()).await?;
        let mut models: BTreeMap<ModelRef, (Option<DeploymentSpec>, Vec<WorkerRow>)> =
            BTreeMap::new();
        for spec in wanted {
            let model = spec.model.clone();
            models.entry(model).or_default().0 = Some(spec);
        }
        for row in rows {
            models.entry(row.key.model.clone()).or_default().1.push(row);
        }
        let (models, parts) = (models.into_iter(), self.splits().parts());
        let deployments =
            models.map(|(model, (wanted, rows))| describe(model, wanted, &rows, snapshot, &parts));
        // Those that nobody wants, and that have neither a worker nor an error, are history.
        let is_current = |deployment: &Deployment| {
            deployment.wanted.is_some()
                || deployment.state != DeploymentState::Idle
                || deployment.last_error.is_some()
        };
        Ok(deployments.filter(is_current).collect())
    }
}

fn describe(
    model: ModelRef,
    wanted: Option<DeploymentSpec>,
    rows: &[WorkerRow],
    snapshot: &DispatcherSnapshot,
    parts: &BTreeMap<WorkerId, Vec<DeployedPart>>,
) -> Deployment {
    let workers: Vec<DeployedWorker> = rows
        .iter()
        .map(|row| DeployedWorker {
            worker_id: row.worker_id.clone(),
            node: row.key.node.clone(),
            device: row.key.device,
            generation: row.generation,
            state: worker_state(row, snapshot),
            created_at: row.created_at,
            last_error: row.last_error.clone(),
            parts: parts.get(&row.worker_id).cloned().unwrap_or_default(),
        })
        .collect();
    let is = |state| {
        workers
            .iter()
            .filter(|worker| worker.state == state)
            .count()
    };
    let desired = wanted.as_ref().map(deployments::wanted);
    let ready = workers.iter().filter(|worker| {
        let is_in_place =
            |desired: &scheduler::Deployment| desired.may_run_on(&worker.node, worker.device);
        worker.state == DeploymentState::Ready && desired.as_ref().is_none_or(is_in_place)
    });
    let ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
    let shortfall = snapshot.shortfalls.get(&model);
    let least = wanted.as_ref().map_or(0, |spec| spec.min_workers);
    let is_starting = is(DeploymentState::Starting) > 0
        || snapshot
            .targets
            .iter()
            .any(|entry| entry.starting && entry.target.model == model);
    let state = match (ready, shortfall) {
        (0, _) if is_starting => DeploymentState::Starting,
        (0, Some(_)) => DeploymentState::Backoff,
        (0, None) if is(DeploymentState::Backoff) > 0 => DeploymentState::Backoff,
        (0, None) => match least {
            0 => DeploymentState::Idle,
            _ => DeploymentState::Starting,
        },
        (ready, None) if ready >= least => DeploymentState::Ready,
        _ => DeploymentState::Partial,
    };
    let stored = workers
        .iter()
        .filter(|worker| worker.state != DeploymentState::Ready)
        .find_map(|worker| worker.last_error.clone());
    let last_error = match (shortfall, &wanted) {
        (Some(shortfall), _) => Some(shortfall.error.message.clone()),
        // The error of a worker that is not needed is of no interest.
        (None, Some(_)) if ready >= least => None,
        (None, _) => stored,
    };
    Deployment {
        model,
        state,
        wanted,
        ready_workers: ready,
        last_error,
        workers,
    }
}

fn worker_state(row: &WorkerRow, snapshot: &DispatcherSnapshot) -> DeploymentState {
    let worker = snapshot.workers.iter().find(|worker| {
        worker.info.id == row.worker_id && worker.availability == Availability::Available
    });
    let key = &row.key;
    let target = snapshot.targets.iter().find(|entry| {
        let target = &entry.target;
        target.model == key.model
            && target.node == key.node
            && target.device.is_none_or(|device| device == key.device)
    });
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

    use diagnostics::Code;
    use input_validation::Backend;
    use queen_contract::{RequestCounts, WorkerEntry};
    use queen_dispatch::TargetEntry;
    use queen_store::WorkerKey;
    use scheduler::{Shortfall, SpawnTarget};
    use serde_json::json;

    use super::*;

    fn row() -> WorkerRow {
        WorkerRow {
            key: WorkerKey {
                model: "mock:a=1".parse().unwrap(),
                node: "local".parse().unwrap(),
                device: "CPU-0".parse().unwrap(),
            },
            worker_id: "mock-0".parse().unwrap(),
            generation: input_validation::Generation(1),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            engine: None,
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
                device: None,
            },
            starting,
            pause: Duration::from_secs(pause),
        }
    }

    fn snapshot(workers: Vec<WorkerEntry>, targets: Vec<TargetEntry>) -> DispatcherSnapshot {
        DispatcherSnapshot {
            workers,
            counts: RequestCounts::default(),
            queues: Vec::new(),
            targets,
            shortfalls: BTreeMap::new(),
            unloads: Vec::new(),
        }
    }

    #[test]
    fn the_state_of_a_worker_is_its_own_if_it_is_available_else_that_of_its_spawn() {
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
            let snapshot = snapshot(workers, targets);
            assert_eq!(worker_state(&row(), &snapshot), expected, "{snapshot:?}");
        }
    }

    #[test]
    fn the_state_of_a_deployment_compares_its_workers_with_what_is_wanted() {
        use DeploymentState::{Backoff, Idle, Partial, Ready, Starting};
        let model = || "mock:a=1".parse::<ModelRef>().unwrap();
        let wants = |min_workers| {
            Some(DeploymentSpec {
                min_workers,
                ..DeploymentSpec::of(model())
            })
        };
        let ready = || vec![worker("mock-0", "ready", "available")];
        let starting = || vec![target("attic", true, 0)];
        for (wanted, workers, targets, short, expected) in [
            (None, ready(), vec![], false, Ready),
            (None, vec![], vec![], false, Idle),
            (wants(0), vec![], vec![], false, Idle),
            (wants(1), vec![], vec![], false, Starting),
            (wants(1), ready(), vec![], false, Ready),
            (wants(1), ready(), starting(), false, Ready),
            (wants(2), ready(), starting(), false, Partial),
            (wants(2), ready(), vec![], true, Partial),
            (wants(1), vec![], vec![], true, Backoff),
            (wants(1), vec![], starting(), true, Starting),
        ] {
            let mut snapshot = snapshot(workers, targets);
            if short {
                let shortfall = Shortfall {
                    wanted: 2,
                    present: 0,
                    error: Diagnostic::new(Code::InsufficientRam, "too little memory"),
                };
                snapshot.shortfalls.insert(model(), shortfall);
            }
            let described = describe(model(), wanted, &[row()], &snapshot, &BTreeMap::new());
            assert_eq!(described.state, expected, "{snapshot:?}");
            let error = short.then_some("too little memory");
            assert_eq!(described.last_error.as_deref(), error);
        }
    }
}
