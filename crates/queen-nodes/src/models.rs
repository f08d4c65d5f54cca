use std::collections::BTreeSet;

use daemon_shell::blocking;
use diagnostics::{Code, Diagnostic};
use futures_util::future::join_all;
use hive_contract::{AliasEntry, InstalledModel, ModelDetails, ModelQuery};
use input_validation::{ModelRef, NodeName};
use worker_contract::{Capability, WorkerInfo};

use crate::{NodeModel, Nodes, catalog::is_fetched, errors, model_path};

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
                Ok(list) => self.catalog().set_models(node.clone(), list),
                Err(error) => tracing::warn!(%node, %error, "the hive does not list its models"),
            }
        }
        self.publish();
        self.catalog().models()
    }

    /// Returns what the hives last reported of a model, without calling one.
    pub fn known_model(&self, model: &ModelRef) -> Option<InstalledModel> {
        self.catalog().model(model)
    }

    /// Reads the files of a model on the first node that has them. `None` if no hive can.
    pub async fn model_details(&self, model: &ModelRef) -> Option<ModelDetails> {
        let request = ModelQuery {
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

    /// Returns the aliases and the notices of all nodes.
    pub fn aliases_and_notices(&self) -> (Vec<AliasEntry>, Vec<String>) {
        self.catalog().aliases_and_notices()
    }

    /// Returns the reference by which the nodes list a model: an alias and the reference that
    /// a model was fetched by stand for it.
    pub fn canonical(&self, model: ModelRef) -> ModelRef {
        self.catalog().canonical(model)
    }

    /// Returns the model that a reference or an alias stands for, without calling a hive.
    pub fn named(&self, name: &str) -> Option<ModelRef> {
        match name.parse() {
            Ok(model) => Some(self.canonical(model)),
            Err(_) => self.catalog().alias(name),
        }
    }

    /// Checks that a model can be requested, and returns its canonical reference. A built-in
    /// model must be one that a node has; one that is fetched must be on a node, unless
    /// requests may fetch models; files are checked when they are loaded. Fails with
    /// [`Code::ModelNotFound`](diagnostics::Code::ModelNotFound).
    pub async fn check_model(&self, model: &ModelRef) -> Result<ModelRef, Diagnostic> {
        let requested = self.canonical(model.clone());
        let built_in = matches!(model, ModelRef::Builtin { .. });
        if !(built_in || is_fetched(model)) || self.known_model(&requested).is_some() {
            return Ok(requested);
        }
        let models = self.models().await;
        let requested = self.canonical(model.clone());
        // If no hive responds, the spawn finds out.
        if models.is_empty() || models.iter().any(|known| known.entry.model == requested) {
            return Ok(requested);
        }
        match requested {
            ModelRef::Hub { .. } | ModelRef::Ollama { .. }
                if self.catalog().may_pull(&requested) =>
            {
                Ok(requested)
            }
            ModelRef::Hub { .. } | ModelRef::Ollama { .. } => {
                Err(errors::not_on_any_node(&requested))
            }
            ModelRef::File(_) | ModelRef::Mock(_) => Ok(requested),
            ModelRef::Builtin { .. } => Err(errors::model_not_found(&model.to_string())),
        }
    }

    /// Checks that the model and the node of a request exist, and returns the model's canonical
    /// reference. The hint of an error names those that do.
    ///
    /// Errors: `NODE_NOT_FOUND`, and those of [`check_model`](Self::check_model).
    pub async fn check_named(
        &self,
        model: ModelRef,
        node: Option<&NodeName>,
    ) -> Result<ModelRef, Diagnostic> {
        if let Some(node) = node
            && let Err(error) = self.get(node)
        {
            let nodes = self.all();
            let names = nodes.iter().map(|node| node.name().to_string());
            return Err(error.hint(errors::one_of(names.collect())));
        }
        let model = self.canonical_model(model).await;
        match self.check_model(&model).await {
            Err(error) if error.code == Code::ModelNotFound => {
                let names = self.model_names([]).await?;
                Err(error.hint(errors::one_of(names.into_iter().collect())))
            }
            checked => checked,
        }
    }

    /// Returns the models that can be requested: those of the nodes, the deployed ones, and
    /// those in `served`.
    pub async fn model_names(
        &self,
        served: impl IntoIterator<Item = ModelRef>,
    ) -> Result<BTreeSet<String>, Diagnostic> {
        let models = self.models().await;
        let workers = self.state().call(|store| store.workers()).await?;
        let deployed = self.state().call(|store| store.deployments()).await?;
        let deployed = deployed.into_iter().map(|deployment| deployment.model);
        let deployed = deployed.chain(workers.into_iter().map(|row| row.key.model));
        // The files of a model that was fetched may have been removed, also after its last worker
        // has exited.
        let others = deployed
            .chain(served)
            .filter(|model| !is_fetched(model) || self.known_model(model).is_some());
        Ok(models
            .into_iter()
            .map(|model| model.entry.model)
            .chain(others)
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
