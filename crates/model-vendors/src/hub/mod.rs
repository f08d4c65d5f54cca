//! Vendor: the hub of Hugging Face, or a server with its protocol.
//!
//! The protocol is that of the hub's documentation (<https://huggingface.co/docs/hub/api>): the
//! commit of a revision, the tree of files at it, and files by commit. The library `hf-hub` says
//! where the hub's own tools keep their files. Its client is not used: it reads responses of any
//! size and follows links to other servers with the token.

mod api;
mod refusal;

use std::path::PathBuf;

use diagnostics::{Code, Diagnostic};
use file_transfer::{RemoteFile, Secret};
use futures_util::future::BoxFuture;
use hf_hub::Repo;
use input_validation::ModelRef;
use model_format::{ModelHeader, index_shards};
use reqwest::Url;

use crate::{
    EngineCheck, Manifest, ManifestFile, ModelVendor, Role, Selection, VendorSettings, errors,
    header::{self, Weights},
    http::Http,
    hub::api::Repository,
    manifest,
    select::{
        self, Candidate, Candidates, Listing, REQUIRED, RepoFile, SAFETENSORS, SafetensorsModel,
    },
    settings::endpoint,
};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Branch that a repository has by default.
const DEFAULT_BRANCH: &str = "main";
/// Maximum number of safetensors files of a model.
const MAX_SHARDS: usize = 1000;

/// The hub.
pub(crate) struct HubVendor {
    http: Http,
    endpoint: Url,
    token: Option<Secret>,
    cache: Option<PathBuf>,
    offline: bool,
}

/// The files of a selected model.
struct Selected {
    weights: Vec<RepoFile>,
    companions: Vec<RepoFile>,
    entry: String,
    /// What selects it in a reference.
    selection: String,
}

impl HubVendor {
    pub(crate) fn new(settings: &VendorSettings, http: Http) -> Result<Self, Diagnostic> {
        Ok(Self {
            http,
            endpoint: endpoint(settings.hub_endpoint.as_deref(), DEFAULT_ENDPOINT)?,
            token: settings.hub_token.clone(),
            cache: settings.hub_cache.clone(),
            offline: settings.hub_offline,
        })
    }

    fn repository<'a>(&'a self, name: &'a str) -> Repository<'a> {
        Repository {
            http: &self.http,
            endpoint: &self.endpoint,
            token: self.token.as_ref(),
            name,
        }
    }

    async fn find(
        &self,
        model: &ModelRef,
        pinned: Option<&str>,
        selection: &Selection,
    ) -> Result<Manifest, Diagnostic> {
        let ModelRef::Hub {
            repository: name,
            revision,
            selection: named,
        } = model
        else {
            return Err(not_of_hub(model));
        };
        if self.offline {
            return Err(errors::offline(model));
        }
        let repository = self.repository(name);
        let wanted = pinned.or(revision.as_deref()).unwrap_or(DEFAULT_BRANCH);
        let info = repository.info(wanted).await?;
        let listing = repository.tree(&info.commit).await?;
        let candidates = Candidates::of(&listing);
        let runnable = candidates.runnable();
        let chosen = select::choose(
            &listing,
            &candidates,
            named.as_deref(),
            selection.memory_bytes,
        )
        .map_err(|why| errors::not_selected(name, why, &runnable, &candidates.others))?;
        let (selected, header) = match chosen {
            Candidate::Gguf(model) => {
                let selected = Selected {
                    entry: model.path().to_owned(),
                    selection: candidates.selection_of(&model),
                    weights: model.files,
                    companions: Vec::new(),
                };
                let parts = repository.weights(&info.commit, &selected.weights);
                let header = header::gguf(
                    &self.http,
                    &|r| repository.check(r),
                    parts,
                    &selection.engines,
                )
                .await;
                (selected, header)
            }
            Candidate::Safetensors(model) => {
                let selected = repository
                    .safetensors(&info.commit, &listing, model)
                    .await?;
                let header = repository
                    .safetensors_header(&info.commit, &selected, &selection.engines)
                    .await;
                (selected, header)
            }
        };
        let header = header.map_err(|error| {
            let others = runnable.iter().filter(|(s, _)| *s != selected.selection);
            let others: Vec<_> = others.cloned().collect();
            with_alternatives(error, name, &others)
        })?;
        let model = canonical(model, &info.name, &selected.selection)?;
        let weights = selected.weights.iter().map(|file| (file, Role::Weights));
        let companions = selected
            .companions
            .iter()
            .map(|file| (file, Role::Companion));
        let files = weights.chain(companions).map(|(file, role)| ManifestFile {
            path: file.path.clone(),
            remote: file.path.clone(),
            size: file.size,
            sha256: file.sha256,
            role,
        });
        Ok(Manifest {
            model,
            revision: info.commit,
            files: manifest::checked(files.collect())?,
            entry: selected.entry,
            header,
            projectors: candidates.projectors,
        })
    }
}

/// Lists other models of the repository, if the error is one that another model may not have.
fn with_alternatives(
    error: Diagnostic,
    repository: &str,
    others: &[(String, Option<u64>)],
) -> Diagnostic {
    match error.code {
        Code::UnsupportedQuantization | Code::InvalidModelFile => {
            errors::with_alternatives(error, repository, others)
        }
        _ => error,
    }
}

fn not_of_hub(model: &ModelRef) -> Diagnostic {
    Diagnostic::internal(format!("{model} is not a model of the hub"))
}

/// Returns the one reference of a model, whatever its user wrote: the name of the repository in
/// the hub's case, no default branch, and the selected type of weights or file.
fn canonical(model: &ModelRef, hub_name: &str, selection: &str) -> Result<ModelRef, Diagnostic> {
    let ModelRef::Hub {
        repository,
        revision,
        ..
    } = model
    else {
        return Err(not_of_hub(model));
    };
    let is_same = hub_name.eq_ignore_ascii_case(repository);
    let canonical = ModelRef::Hub {
        repository: if is_same { hub_name } else { repository }.to_owned(),
        revision: revision
            .clone()
            .filter(|revision| revision != DEFAULT_BRANCH),
        selection: Some(selection.to_owned()),
    };
    // References have fewer characters than names of files.
    if canonical.to_string().parse().ok().as_ref() != Some(&canonical) {
        return Err(errors::unnameable(repository, selection));
    }
    Ok(canonical)
}

impl Repository<'_> {
    fn weights(&self, commit: &str, files: &[RepoFile]) -> Vec<Weights> {
        let weights = files.iter().map(|file| Weights {
            path: file.path.clone(),
            size: file.size,
            remote: self.remote(commit, &file.path, file.size, file.sha256),
        });
        weights.collect()
    }

    /// Finds the shards and the other files of a model in safetensors files.
    async fn safetensors(
        &self,
        commit: &str,
        listing: &Listing,
        model: SafetensorsModel,
    ) -> Result<Selected, Diagnostic> {
        for required in REQUIRED {
            if !listing.files.contains_key(required) {
                return Err(errors::incomplete(self.name, required));
            }
        }
        let mut companions = listing.companions();
        let weights = match model {
            SafetensorsModel::Single(file) => vec![file],
            SafetensorsModel::Sharded(index) => {
                let shards = index_shards(&self.small_file(commit, &index).await?)?;
                if shards.len() > MAX_SHARDS {
                    return Err(errors::too_many_files(MAX_SHARDS));
                }
                companions.push(index);
                let file = |name: &String| {
                    let found = listing.files.get(name).cloned();
                    found.ok_or_else(|| errors::incomplete(self.name, name))
                };
                shards.iter().map(file).collect::<Result<_, _>>()?
            }
        };
        Ok(Selected {
            weights,
            companions,
            entry: String::new(),
            selection: SAFETENSORS.to_owned(),
        })
    }

    async fn safetensors_header(
        &self,
        commit: &str,
        selected: &Selected,
        engines: &EngineCheck,
    ) -> Result<ModelHeader, Diagnostic> {
        let read = async |name: &str| {
            let file = selected.companions.iter().find(|file| file.path == name);
            match file {
                Some(file) => self.small_file(commit, file).await.map(Some),
                None => Ok(None),
            }
        };
        let config = read("config.json").await?.unwrap_or_default();
        let generation = read("generation_config.json").await?;
        let shards = self.weights(commit, &selected.weights);
        let check = |reply: &_| self.check(reply);
        header::safetensors(self.http, &check, shards, config, generation, engines).await
    }
}

impl ModelVendor for HubVendor {
    fn supports(&self, model: &ModelRef) -> bool {
        matches!(model, ModelRef::Hub { .. })
    }

    fn resolve<'a>(
        &'a self,
        model: &'a ModelRef,
        revision: Option<&'a str>,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Manifest, Diagnostic>> {
        Box::pin(self.find(model, revision, selection))
    }

    fn locate<'a>(
        &'a self,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> BoxFuture<'a, Result<RemoteFile, Diagnostic>> {
        let located = match &manifest.model {
            model if self.offline => Err(errors::offline(model)),
            ModelRef::Hub { repository, .. } => {
                let repository = self.repository(repository);
                Ok(repository.remote(&manifest.revision, &file.remote, file.size, file.sha256))
            }
            other => Err(not_of_hub(other)),
        };
        Box::pin(std::future::ready(located))
    }

    /// The cache has a blob for each content, which large files name by their SHA-256
    /// (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
    fn local_copy(&self, manifest: &Manifest, file: &ManifestFile) -> Option<PathBuf> {
        let ModelRef::Hub { repository, .. } = &manifest.model else {
            return None;
        };
        let folder = Repo::model(repository.clone()).folder_name();
        let blob = hex::encode(file.sha256?);
        Some(self.cache.as_ref()?.join(folder).join("blobs").join(blob))
    }
}
