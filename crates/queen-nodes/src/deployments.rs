//! What users want of the workers of their models, and what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use input_validation::{ModelRef, WorkerId};
use queen_contract::{
    Availability, DEFAULT_KEEP_ALIVE_SECONDS, DeployCall, DeployedPart, DeployedWorker, Deployment,
    DeploymentSpec, DeploymentState, UndeployCall,
};
use queen_dispatch::{Dispatcher, DispatcherSnapshot};
use queen_store::WorkerRow;
use worker_contract::{WorkerStatus, limits::MAX_SLOTS};
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Nodes, errors};

/// Most workers of a deployment.
const MOST_WORKERS: u32 = 1000;

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

    /// Creates or replaces deployments. After this call has returned, workers that run with other
    /// values of a replaced deployment are replaced one after another, and those of removed ones
    /// are stopped.
    ///
    /// Returns the models as they are listed. Errors: `INVALID_REQUEST`, `NODE_NOT_FOUND`,
    /// `MODEL_NOT_FOUND`. Then nothing is changed.
    pub async fn deploy(
        &self,
        call: DeployCall,
        dispatcher: &Dispatcher,
    ) -> Result<Vec<ModelRef>, Diagnostic> {
        let mut wanted: Vec<DeploymentSpec> = Vec::with_capacity(call.deployments.len());
        for spec in call.deployments {
            let spec = self.checked(spec).await?;
            if wanted.iter().any(|other| other.model == spec.model) {
                return Err(errors::deployed_twice(&spec.model));
            }
            wanted.push(spec);
        }
        let _turn = self.deployment_changes().lock().await;
        let before = self.state().call(|store| store.deployments()).await?;
        let (new, only) = (wanted.clone(), call.only);
        self.state()
            .call(move |store| store.set_deployments(&new, only))
            .await?;
        let models: Vec<ModelRef> = wanted.iter().map(|spec| spec.model.clone()).collect();
        let renewed = models.clone();
        self.state()
            .call(move |store| {
                let mut models = renewed.iter();
                models.try_for_each(|model| store.clear_errors(model))
            })
            .await?;
        let values = |spec: &DeploymentSpec| {
            let (engine, split) = (spec.engine.clone(), spec.split.clone());
            (engine, spec.context_length, spec.slots, split)
        };
        let changed: Vec<&DeploymentSpec> = wanted
            .iter()
            .filter(|spec| {
                let before = before.iter().find(|before| before.model == spec.model);
                values(spec) != before.map_or((None, None, None, Vec::new()), values)
            })
            .collect();
        for spec in &changed {
            // It does not count as a worker of the deployment any more.
            if let Some(first) = self.workers_of(&spec.model, dispatcher).await?.first() {
                dispatcher.replacing(first.clone()).await;
            }
        }
        let renewed = models.iter().cloned().collect();
        self.publish_deployments(renewed, dispatcher).await?;
        let removed = before.iter().filter(|before| {
            let mut wanted = wanted.iter();
            call.only && !wanted.any(|spec| spec.model == before.model)
        });
        for spec in removed {
            let (nodes, dispatcher) = (self.clone(), dispatcher.clone());
            let model = spec.model.clone();
            tokio::spawn(async move {
                if let Err(error) = nodes.stop_workers(&model, None, &dispatcher).await {
                    tracing::warn!(%model, %error, "the workers of a removed deployment are not stopped");
                }
            });
        }
        for spec in changed {
            let model = spec.model.clone();
            let (nodes, dispatcher) = (self.clone(), dispatcher.clone());
            tokio::spawn(async move { nodes.replace_workers(&model, &dispatcher).await });
        }
        Ok(models)
    }

    /// Removes the deployment of a model and stops its workers. Fails with `NOT_FOUND`.
    pub async fn undeploy(
        &self,
        call: UndeployCall,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let model = self.canonical_model(self.canonical(call.model)).await;
        let turn = self.deployment_changes().lock().await;
        let removed = model.clone();
        let was_deployed = self
            .state()
            .call(move |store| store.remove_deployment(&removed))
            .await?;
        if !was_deployed {
            return Err(errors::deployment_not_found(&model));
        }
        self.publish_deployments(BTreeSet::new(), dispatcher)
            .await?;
        drop(turn);
        self.stop_workers(&model, call.drain_seconds, dispatcher)
            .await
    }

    /// Stops the workers of a model.
    async fn stop_workers(
        &self,
        model: &ModelRef,
        drain_seconds: Option<u64>,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let workers = self.workers_of(model, dispatcher).await?;
        let stops = workers
            .iter()
            .map(|spawn| self.stop_worker(&spawn.worker, drain_seconds, false, dispatcher));
        let stopped: Result<Vec<()>, _> = join_all(stops).await.into_iter().collect();
        stopped?;
        let model = model.clone();
        self.state()
            .call(move |store| store.clear_errors(&model))
            .await
    }

    /// Reports the deployments to the dispatcher. Earlier failures of the models in `renewed` are
    /// forgotten.
    pub async fn publish_deployments(
        &self,
        renewed: BTreeSet<ModelRef>,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let deployments = self.state().call(|store| store.deployments()).await?;
        let deployments = deployments.into_iter();
        let wanted = deployments.map(|spec| (spec.model.clone(), wanted(&spec)));
        dispatcher.deployments(wanted.collect(), renewed).await;
        Ok(())
    }

    async fn checked(&self, mut spec: DeploymentSpec) -> Result<DeploymentSpec, Diagnostic> {
        let asked = spec.model.clone();
        let model = self.canonical_model(spec.model).await;
        let checked = self.check_model(&model).await;
        spec.model = checked.map_err(|error| error.detail("model", asked.to_string()))?;
        let (min, max) = (spec.min_workers, spec.max_workers);
        let most = max.unwrap_or(min.max(1));
        if most < min.max(1) || most > MOST_WORKERS {
            return Err(errors::wrong_worker_numbers(&spec.model, min, most));
        }
        if let Some(slots) = spec.slots.filter(|slots| !(1..=MAX_SLOTS).contains(slots)) {
            return Err(errors::wrong_slots(&spec.model, slots, MAX_SLOTS));
        }
        for node in &spec.nodes {
            self.get(node)?;
        }
        spec.nodes.sort();
        spec.nodes.dedup();
        if spec.split.is_empty() {
            return Ok(spec);
        }
        self.checked_split(spec).await
    }

    /// Replaces the workers of a model one after another, so that the others serve meanwhile.
    async fn replace_workers(&self, model: &ModelRef, dispatcher: &Dispatcher) {
        let workers = match self.workers_of(model, dispatcher).await {
            Ok(workers) => workers,
            Err(error) => {
                tracing::error!(%model, %error, "the workers of a changed deployment are not replaced");
                return;
            }
        };
        for SpawnId { worker, .. } in workers {
            if let Err(error) = self.stop_worker(&worker, None, true, dispatcher).await {
                tracing::warn!(%worker, %error, "a worker of a changed deployment is not replaced");
            }
        }
    }

    async fn workers_of(
        &self,
        model: &ModelRef,
        dispatcher: &Dispatcher,
    ) -> Result<Vec<SpawnId>, Diagnostic> {
        let filter = WorkerFilter {
            model: Some(model.clone()),
            ..WorkerFilter::default()
        };
        let workers = dispatcher.workers(filter).await?.into_iter();
        Ok(workers.map(|worker| SpawnId::of(&worker.info)).collect())
    }
}

/// What the scheduler needs to know.
fn wanted(spec: &DeploymentSpec) -> scheduler::Deployment {
    let keep_alive = spec
        .keep_alive_seconds
        .unwrap_or(DEFAULT_KEEP_ALIVE_SECONDS);
    scheduler::Deployment {
        min_workers: spec.min_workers,
        max_workers: spec.max_workers(),
        // The worker of a split model runs on the first of its machines.
        nodes: match spec.split.first() {
            Some(main) => BTreeSet::from([main.clone()]),
            None => spec.nodes.iter().cloned().collect(),
        },
        backend: spec.backend,
        keep_alive: Duration::from_secs(keep_alive),
        priority: spec.priority,
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
    let desired = wanted.as_ref().map(self::wanted);
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
