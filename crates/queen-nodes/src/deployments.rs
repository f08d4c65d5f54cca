//! What users want of the workers of their models.

use std::{collections::BTreeSet, time::Duration};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use input_validation::ModelRef;
use queen_contract::{DEFAULT_KEEP_ALIVE_SECONDS, DeployCall, DeploymentSpec, UndeployCall};
use queen_dispatch::Dispatcher;
use worker_contract::limits::MAX_SLOTS;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Nodes, errors};

/// Most workers of a deployment.
const MOST_WORKERS: u32 = 1000;

impl Nodes {
    /// Creates or replaces deployments. After this call has returned, workers that run with other
    /// values of a replaced deployment are replaced one after another, and those of removed ones
    /// are stopped.
    ///
    /// Returns the models as they are listed. Errors: `INVALID_REQUEST`, `NODE_NOT_FOUND`,
    /// `MODEL_NOT_FOUND`; those of the checks before a start if no node can have the workers,
    /// whatever is waited for. Then nothing is changed.
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
        for spec in &wanted {
            let named: Vec<_> = spec.nodes.iter().chain(&spec.split).cloned().collect();
            self.deployed_on((!named.is_empty()).then_some(&*named));
        }
        // Before it is decided where the workers run.
        let known = self.facts().borrow().clone();
        dispatcher.nodes(known).await;
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
        if !spec.split.is_empty() {
            return self.checked_split(spec).await;
        }
        let nodes = match spec.nodes.as_slice() {
            [] => self.all().iter().map(|node| node.name().clone()).collect(),
            named => named.to_vec(),
        };
        self.check_possible(&spec, &nodes).await?;
        Ok(spec)
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
pub(crate) fn wanted(spec: &DeploymentSpec) -> scheduler::Deployment {
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
        parts: spec.split.iter().skip(1).cloned().collect(),
        backend: spec.backend,
        keep_alive: Duration::from_secs(keep_alive),
        priority: spec.priority,
    }
}
