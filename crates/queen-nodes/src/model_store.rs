//! The models on the disk of one node: calls that its hive answers.

use diagnostics::Diagnostic;
use futures_util::{Stream, StreamExt as _};
use hive_contract::{
    AliasRequest, BackupRequest, HiveClient, JobAccepted, JobEvent, ModelQuery, NodePullRequest,
    PruneRequest, PruneResponse, PullRequest, RemovedModel, UpdateResponse,
};
use input_validation::{JobId, NodeName};
use queen_contract::ModelReport;

use crate::{Nodes, errors};

impl Nodes {
    /// Lets requests for models that are not on a node fetch them.
    pub fn allow_auto_pull(&self) {
        self.catalog().allow_auto_pull();
    }

    /// The hive of a node; `None` is the queen's own machine.
    pub(crate) async fn hive(&self, node: Option<&NodeName>) -> Result<HiveClient, Diagnostic> {
        let local = NodeName::local();
        let node = self.get(node.unwrap_or(&local))?;
        Ok(node.hive_soon().await?.client)
    }

    /// Starts to fetch a model, or joins the job that does. It is copied from another node that
    /// has it, else fetched from its vendor.
    pub async fn pull(
        &self,
        node: Option<&NodeName>,
        request: &PullRequest,
    ) -> Result<JobAccepted, Diagnostic> {
        let local = NodeName::local();
        let node = self.get(node.unwrap_or(&local))?;
        let hive = node.hive_soon().await?.client;
        // Which nodes have the model is known from now on.
        self.models().await;
        let request = PullRequest {
            model: self.canonical(request.model.clone()),
            ..request.clone()
        };
        let revision = request.revision.as_deref();
        let copy_from = self
            .copy_source(&node, &request.model, revision, true)
            .await?;
        let request = NodePullRequest { request, copy_from };
        Ok(hive.pull_model(&request).await?)
    }

    /// Starts to compare the files of a model with their hashes.
    pub async fn verify(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<JobAccepted, Diagnostic> {
        let query = self.canonical_query(query);
        Ok(self.hive(node).await?.verify_model(&query).await?)
    }

    /// The events of a job about models, from the first to the terminal one. A pull that
    /// succeeds is known before its result is returned.
    pub async fn model_job_events(
        &self,
        node: Option<&NodeName>,
        id: &JobId,
    ) -> Result<impl Stream<Item = Result<JobEvent, Diagnostic>> + Send + use<>, Diagnostic> {
        let events = self.hive(node).await?.job_events(id).await?;
        let nodes = self.clone();
        let node = node.cloned();
        Ok(events.then(move |event| {
            let (nodes, node) = (nodes.clone(), node.clone());
            async move {
                match event? {
                    event @ JobEvent::Result(_) => {
                        nodes.models().await;
                        Ok(event)
                    }
                    JobEvent::Error(error) => {
                        let error = errors::on_node(error, node.as_ref());
                        Ok(JobEvent::Error(error))
                    }
                    event => Ok(event),
                }
            }
        }))
    }

    /// Cancels a job of a node's hive.
    pub async fn cancel_model_job(
        &self,
        node: Option<&NodeName>,
        id: &JobId,
    ) -> Result<(), Diagnostic> {
        Ok(self.hive(node).await?.cancel_job(id).await?)
    }

    /// Describes a model, whether or not the node has it, and how it fits on the devices of all
    /// nodes. Without `node`, a node that has the files is asked, if there is one.
    pub async fn show_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<ModelReport, Diagnostic> {
        // Which nodes have the model is known from now on.
        self.models().await;
        let query = self.canonical_query(query);
        let holder = self.catalog().holders(&query.model, None).into_iter();
        let mut responding = holder.filter(|name| {
            let node = self.get(name);
            node.is_ok_and(|node| node.hive_now().is_ok())
        });
        let has_it = responding.next();
        let hive = self.hive(node.or(has_it.as_ref())).await?;
        let details = hive.show_model(&query).await?;
        Ok(ModelReport {
            fit: self.fit(&details).await,
            details,
        })
    }

    /// Removes the files of a model.
    pub async fn remove_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<RemovedModel, Diagnostic> {
        let query = self.canonical_query(query);
        let result = self.hive(node).await?.remove_model(&query).await?;
        // Names are known from now on.
        self.models().await;
        Ok(result)
    }

    /// Compares a model with the newest revision at its source.
    pub async fn update_model(
        &self,
        node: Option<&NodeName>,
        query: &ModelQuery,
    ) -> Result<UpdateResponse, Diagnostic> {
        let query = self.canonical_query(query);
        Ok(self.hive(node).await?.update_model(&query).await?)
    }

    /// Removes the models that were not used for the longest time.
    pub async fn prune_models(
        &self,
        node: Option<&NodeName>,
        request: &PruneRequest,
    ) -> Result<PruneResponse, Diagnostic> {
        let result = self.hive(node).await?.prune_models(request).await?;
        // Names are known from now on.
        self.models().await;
        Ok(result)
    }

    /// Sets or removes an alias.
    pub async fn set_alias(
        &self,
        node: Option<&NodeName>,
        request: &AliasRequest,
    ) -> Result<(), Diagnostic> {
        // An alias of an alias stands for the model, so that no circle can arise.
        let request = AliasRequest {
            model: request.model.clone().map(|model| self.canonical(model)),
            ..request.clone()
        };
        self.hive(node).await?.set_alias(&request).await?;
        // Names are known from now on.
        self.models().await;
        Ok(())
    }

    /// Writes a copy of the database of models to the node's disk.
    pub async fn back_up_catalog(
        &self,
        node: Option<&NodeName>,
        request: &BackupRequest,
    ) -> Result<(), Diagnostic> {
        Ok(self.hive(node).await?.back_up_catalog(request).await?)
    }

    /// Replaces the database of models with a copy on the node's disk.
    pub async fn restore_catalog(
        &self,
        node: Option<&NodeName>,
        request: &BackupRequest,
    ) -> Result<(), Diagnostic> {
        self.hive(node).await?.restore_catalog(request).await?;
        // Names are known from now on.
        self.models().await;
        Ok(())
    }

    fn canonical_query(&self, query: &ModelQuery) -> ModelQuery {
        ModelQuery {
            model: self.canonical(query.model.clone()),
        }
    }
}
