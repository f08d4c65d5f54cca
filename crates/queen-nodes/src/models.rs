use std::collections::BTreeSet;

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{InstalledModel, ModelDetails, ShowModelRequest};
use input_validation::ModelRef;
use worker_contract::{Capability, WorkerInfo};

use crate::{NodeModel, Nodes, errors, model_path};

impl Nodes {
    /// Returns the models of all nodes, ordered by reference. For a hive that does not
    /// respond, its last list is used.
    pub async fn models(&self) -> Vec<NodeModel> {
        let nodes = self.all();
        let lists = nodes.iter().filter_map(|node| {
            let hive = node.hive_now().ok()?;
            Some(async move { (node.name(), hive.client.models().await) })
        });
        for (node, list) in join_all(lists).await {
            match list {
                Ok(list) => self.catalog().set_models(node.clone(), list.models),
                Err(error) => tracing::warn!(%node, %error, "the hive does not list its models"),
            }
        }
        self.catalog().models()
    }

    /// Returns what the hives last reported of a model, without calling one.
    pub fn known_model(&self, model: &ModelRef) -> Option<InstalledModel> {
        self.catalog().model(model)
    }

    /// Reads the files of a model on the first node that has them. `None` if no hive can.
    pub async fn model_details(&self, model: &ModelRef) -> Option<ModelDetails> {
        let request = ShowModelRequest {
            model: model.clone(),
        };
        for node in self.all() {
            let Ok(hive) = node.hive_now() else { continue };
            match hive.client.show_model(&request).await {
                Ok(details) => {
                    self.catalog().describe(details.model.clone());
                    return Some(details);
                }
                Err(error) => tracing::debug!(%model, ?error, "the hive does not describe it"),
            }
        }
        None
    }

    /// Returns a model's entry as of now: its files may have been replaced. If no hive responds,
    /// the last entry is used.
    pub async fn described_model(&self, model: &ModelRef) -> Option<InstalledModel> {
        match self.model_details(model).await {
            Some(details) => Some(details.model),
            None => self.known_model(model),
        }
    }

    /// Returns the reference that a model is served under, so that all links to a file lead to
    /// one worker. Links are resolved on the queen's disk; a path that it does not have stays as
    /// it is.
    pub async fn canonical_model(&self, model: ModelRef) -> ModelRef {
        if !matches!(model, ModelRef::File(_)) {
            return model;
        }
        let given = model.clone();
        blocking(move || Ok(model_path::resolve(model)))
            .await
            .unwrap_or(given)
    }

    /// Checks that a model can be requested: a built-in model must be one that a node has;
    /// files are checked when they are loaded. Fails with
    /// [`Code::ModelNotFound`](diagnostics::Code::ModelNotFound).
    pub async fn check_model(&self, model: &ModelRef) -> Result<(), Diagnostic> {
        let built_in = matches!(model, ModelRef::Builtin { .. });
        if !built_in || self.known_model(model).is_some() {
            return Ok(());
        }
        let models = self.models().await;
        // If no hive responds, the spawn finds out.
        if models.is_empty() || models.iter().any(|known| known.entry.model == *model) {
            return Ok(());
        }
        Err(errors::model_not_found(&model.to_string()))
    }

    /// Returns the models that can be requested: those of the nodes, the deployed ones, and
    /// those in `served`.
    pub async fn model_names(
        &self,
        served: impl IntoIterator<Item = ModelRef>,
    ) -> Result<BTreeSet<String>, Diagnostic> {
        let models = self.models().await;
        let deployed = self.state().call(|store| store.deployments()).await?;
        Ok(models
            .into_iter()
            .map(|model| model.entry.model)
            .chain(deployed.into_iter().map(|row| row.key.model))
            .chain(served)
            .map(|model| model.to_string())
            .collect())
    }

    /// Remembers the capabilities of a worker for its model, for when no worker serves it.
    pub fn remember_capabilities(&self, worker: &WorkerInfo) {
        self.catalog().remember(worker);
    }

    /// Returns the capabilities of the model's last worker.
    pub fn capabilities(&self, model: &ModelRef) -> Vec<Capability> {
        self.catalog().capabilities(model)
    }
}
