use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use hive_contract::{
    InstalledModel, ModelDetails, ModelFormat, NodePullRequest, PullRequest, RemoteModel,
    RemoteModelFile, UpdateResponse,
};
use hive_jobs::{Job, JobRegistry, SharedOperation};
use input_validation::ModelRef;
use model_format::WeightFormat;
use model_vendors::{Manifest, ModelVendor, Selection};
use serde_json::Map;
use worker_contract::SamplingValues;

use crate::{
    ModelCatalog, errors,
    needs::memory_of,
    pull::Pull,
    sources::{Copies, Fetch, Sources, is_remote},
    turns::Turns,
};

/// Number of models that are transferred at the same time.
const MAX_TRANSFERS: usize = 2;

/// Maximum length of a revision, in characters.
const MAX_REVISION: usize = 200;

/// Fetches models into the catalog.
pub struct Puller {
    pub(crate) sources: Arc<Sources>,
    running: Mutex<HashMap<PullRequest, SharedOperation>>,
}

impl Puller {
    /// A puller for `catalog`. Files are chosen by `selection`. Without `copies`, models are
    /// fetched from their vendors only.
    pub fn new(
        catalog: Arc<ModelCatalog>,
        vendors: Vec<Arc<dyn ModelVendor>>,
        fetch: Arc<dyn Fetch>,
        copies: Option<Copies>,
        selection: Selection,
    ) -> Self {
        Self {
            sources: Arc::new(Sources {
                catalog,
                vendors,
                fetch,
                copies,
                selection,
                turns: Turns::new(MAX_TRANSFERS),
            }),
            running: Mutex::default(),
        }
    }

    /// Starts a job that fetches a model. Jobs of one request share one download, wherever it
    /// copies from, which is cancelled with the last of them.
    pub fn start(
        &self,
        jobs: &JobRegistry,
        request: NodePullRequest,
    ) -> Result<Arc<Job>, Diagnostic> {
        let wanted = request.request.clone();
        if let Some(revision) = &wanted.revision
            && !(1..=MAX_REVISION).contains(&revision.chars().count())
        {
            return Err(errors::invalid_revision(revision, MAX_REVISION));
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, pull| !pull.has_ended());
        if let Some(pull) = running.get(&wanted)
            && let Some(job) = jobs.follow(pull)?
        {
            return Ok(job);
        }
        let sources = Arc::clone(&self.sources);
        let pull = jobs.start_shared("pull", |context| async move {
            Pull::new(&sources, request, &context).run().await
        })?;
        let job = jobs.follow(&pull)?;
        running.insert(wanted, pull);
        job.ok_or_else(|| Diagnostic::internal("a pull that nobody can follow"))
    }

    /// Describes a model that is on the machine, or else at its source.
    ///
    /// Errors: those of [`ModelCatalog::details`] and [`ModelVendor::resolve`].
    pub async fn details(&self, model: ModelRef) -> Result<ModelDetails, Diagnostic> {
        let catalog = Arc::clone(&self.sources.catalog);
        let asked = model.clone();
        let known = blocking(move || {
            if !is_remote(&asked) || catalog.rows().find(&asked)?.is_some() {
                return catalog.details(asked).map(Ok);
            }
            let pin = catalog.rows().pinned(&asked)?;
            Ok(Err(pin.map(|pin| pin.revision)))
        });
        match known.await? {
            Ok(details) => Ok(details),
            Err(revision) => {
                let manifest = self.sources.resolve(&model, revision.as_deref()).await?;
                Ok(remote_details(model, manifest))
            }
        }
    }

    /// Compares a fetched model with the newest revision at its source. Changes nothing.
    ///
    /// Errors: `INVALID_REQUEST` for a model that is not fetched from anywhere,
    /// `MODEL_NOT_FOUND`, and those of [`ModelVendor::resolve`].
    pub async fn update(&self, model: ModelRef) -> Result<UpdateResponse, Diagnostic> {
        if !is_remote(&model) {
            return Err(errors::not_updatable(&model));
        }
        let (catalog, asked) = (Arc::clone(&self.sources.catalog), model.clone());
        let (row, files) = blocking(move || {
            let rows = catalog.rows();
            let row = rows.find(&asked)?;
            let row = row.ok_or_else(|| errors::not_fetched(&asked))?;
            let files = rows.files(&row.model)?;
            Ok((row, files))
        })
        .await?;
        let manifest = self.sources.resolve(&row.model, None).await?;
        let changed = manifest.files.iter().filter(|file| {
            let known = files.iter().find(|known| known.path == file.path);
            known.is_none_or(|known| match file.sha256 {
                Some(sha256) => known.sha256 != hex::encode(sha256),
                None => known.size_bytes != file.size,
            })
        });
        Ok(UpdateResponse {
            model: row.model,
            current: row.revision,
            newest: manifest.revision.clone(),
            changed: changed.map(remote_file).collect(),
        })
    }
}

fn remote_file(file: &model_vendors::ManifestFile) -> RemoteModelFile {
    RemoteModelFile {
        path: file.path.clone(),
        size_bytes: file.size,
    }
}

fn remote_details(asked: ModelRef, manifest: Manifest) -> ModelDetails {
    let header = manifest.header;
    let memory = memory_of(&header);
    ModelDetails {
        model: InstalledModel {
            also: (asked != manifest.model)
                .then_some(asked)
                .into_iter()
                .collect(),
            model: manifest.model,
            format: match header.format {
                WeightFormat::Gguf => ModelFormat::Gguf,
                WeightFormat::Safetensors => ModelFormat::Safetensors,
            },
            size_bytes: manifest.files.iter().map(|file| file.size).sum(),
            architecture: header.architecture,
            quantization: header.quantization,
            context_length: header.context_length,
            parameters: header.parameters,
            sampling: SamplingValues::recommended(&header.sampling.values).0,
            files: None,
        },
        metadata: Map::new(),
        template: None,
        license: None,
        memory: Some(memory),
        remote: Some(RemoteModel {
            revision: manifest.revision,
            files: manifest.files.iter().map(remote_file).collect(),
            projectors: manifest.projectors,
        }),
    }
}
