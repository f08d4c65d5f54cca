//! A catalog in a temporary directory, and a vendor whose files are on this disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::{Code, Diagnostic};
use file_transfer::{Fetched, RemoteFile, TransferProgress};
use futures_util::future::BoxFuture;
use hive_contract::{JobEvent, PullRequest, PullResponse};
use hive_jobs::{Job, JobContext, JobRegistry, NodeEvents, Reporter};
use input_validation::ModelRef;
use model_vendors::{Manifest, ManifestFile, ModelVendor, Role, Selection};
use sha2::{Digest as _, Sha256};
use state_files::Home;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{Fetch, ModelCatalog, Puller};

pub(crate) fn catalog_in(dir: &Path) -> ModelCatalog {
    let home = Home::at(dir);
    ModelCatalog::open(home.model_dirs(), home.model_database(), Vec::new()).unwrap()
}

pub(crate) fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

pub(crate) fn context() -> JobContext {
    JobContext::new(Reporter::discard())
}

/// A GGUF file that a worker could load.
pub(crate) fn haiku() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/rbee-haiku-tiny-q8_0.gguf")
}

/// A source of models: every repository of the hub has the same two files.
#[derive(Debug)]
pub(crate) struct FakeHub {
    pub(crate) revision: Mutex<String>,
    /// Path under which the weights are stored.
    pub(crate) weights: Mutex<String>,
    /// Files that were fetched, in order.
    pub(crate) fetched: Mutex<Vec<String>>,
    pub(crate) resolved: Mutex<u32>,
    /// A fetch needs a permit. Tests that hold fetches back take them away.
    pub(crate) permits: Semaphore,
    /// Content that is sent for the weights, if not the right one.
    pub(crate) wrong_content: Mutex<Option<Vec<u8>>>,
    /// Space that fetches leave on the disk.
    pub(crate) reserve: Mutex<u64>,
    /// Copy of the weights that another tool has.
    pub(crate) copy: Mutex<Option<PathBuf>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            revision: Mutex::new("c1".into()),
            weights: Mutex::new("sub/model.gguf".into()),
            fetched: Mutex::default(),
            resolved: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            wrong_content: Mutex::default(),
            reserve: Mutex::default(),
            copy: Mutex::default(),
        })
    }

    pub(crate) fn fetched(&self) -> Vec<String> {
        lock(&self.fetched).clone()
    }

    fn content(path: &str, revision: &str) -> Vec<u8> {
        if path == "notes.txt" {
            return format!("notes of {revision}").into_bytes();
        }
        fs::read(haiku()).unwrap()
    }
}

impl ModelVendor for FakeHub {
    fn supports(&self, model: &ModelRef) -> bool {
        matches!(model, ModelRef::Hub { .. })
    }

    fn resolve<'a>(
        &'a self,
        model: &'a ModelRef,
        revision: Option<&'a str>,
        _selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Manifest, Diagnostic>> {
        Box::pin(async move {
            *lock(&self.resolved) += 1;
            let ModelRef::Hub { repository, .. } = model else {
                panic!("not of the hub");
            };
            if repository == "org/missing" {
                return Err(Diagnostic::new(Code::ModelNotFound, "no such repository"));
            }
            let revision = revision.map_or_else(|| lock(&self.revision).clone(), str::to_owned);
            let weights = lock(&self.weights).clone();
            let files = [
                (weights.as_str(), Role::Weights),
                ("notes.txt", Role::Companion),
            ];
            let files = files.map(|(path, role)| {
                let content = Self::content(path, &revision);
                ManifestFile {
                    path: path.to_owned(),
                    remote: path.to_owned(),
                    size: content.len() as u64,
                    sha256: (role == Role::Weights).then(|| Sha256::digest(&content).into()),
                    role,
                }
            });
            Ok(Manifest {
                model: format!("hf:{repository}:Q8_0").parse().unwrap(),
                revision,
                entry: weights,
                header: model_format::inspect(&haiku()).unwrap(),
                files: files.to_vec(),
                projectors: Vec::new(),
            })
        })
    }

    fn local_copy(&self, _manifest: &Manifest, file: &ManifestFile) -> Option<PathBuf> {
        lock(&self.copy)
            .clone()
            .filter(|_| file.role == Role::Weights)
    }

    fn locate<'a>(
        &'a self,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> BoxFuture<'a, Result<RemoteFile, Diagnostic>> {
        Box::pin(async move {
            Ok(RemoteFile {
                url: format!("{}#{}", manifest.revision, file.remote),
                bearer: None,
                size: Some(file.size),
                sha256: file.sha256,
            })
        })
    }
}

impl Fetch for FakeHub {
    fn fetch<'a>(
        &'a self,
        file: &'a RemoteFile,
        target: &'a Path,
        progress: &'a (dyn Fn(TransferProgress) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Fetched, Diagnostic>> {
        Box::pin(async move {
            let (revision, path) = file.url.split_once('#').unwrap();
            let content = Self::content(path, revision);
            let report = |done: usize| {
                progress(TransferProgress {
                    done: done as u64,
                    total: file.size,
                    rate: Some(10.0),
                });
            };
            report(1);
            fs::write(target.with_extension("partial"), &content[..1]).unwrap();
            tokio::select! {
                permit = self.permits.acquire() => permit.unwrap().forget(),
                () = cancel.cancelled() => {
                    return Err(Diagnostic::new(Code::Cancelled, "cancelled"));
                }
            }
            lock(&self.fetched).push(path.to_owned());
            let wrong = lock(&self.wrong_content).clone();
            let content = wrong.filter(|_| path != "notes.txt").unwrap_or(content);
            fs::write(target, &content).unwrap();
            fs::remove_file(target.with_extension("partial")).unwrap();
            report(content.len());
            Ok(Fetched {
                size: content.len() as u64,
                sha256: Sha256::digest(&content).into(),
                received: content.len() as u64,
            })
        })
    }

    fn reserve_bytes(&self) -> u64 {
        *lock(&self.reserve)
    }
}

/// A catalog with a hub, in a directory.
pub(crate) struct Fixture {
    pub(crate) hub: Arc<FakeHub>,
    pub(crate) catalog: Arc<ModelCatalog>,
    pub(crate) puller: Arc<Puller>,
    pub(crate) jobs: JobRegistry,
}

impl Fixture {
    pub(crate) fn new(dir: &Path) -> Self {
        Self::with_hub(dir, FakeHub::new())
    }

    pub(crate) fn with_hub(dir: &Path, hub: Arc<FakeHub>) -> Self {
        let catalog = Arc::new(catalog_in(dir));
        let puller = Arc::new(Puller::new(
            Arc::clone(&catalog),
            vec![Arc::clone(&hub) as Arc<dyn ModelVendor>],
            Arc::clone(&hub) as Arc<dyn Fetch>,
            None,
            Selection::default(),
        ));
        Self {
            hub,
            catalog,
            puller,
            jobs: JobRegistry::new(NodeEvents::default()),
        }
    }

    pub(crate) fn start(&self, name: &str, revision: Option<&str>) -> Arc<Job> {
        let request = PullRequest {
            model: model(name),
            revision: revision.map(str::to_owned),
        };
        self.puller.start(&self.jobs, request.into()).unwrap()
    }

    pub(crate) async fn pull(&self, name: &str) -> Result<PullResponse, Diagnostic> {
        result(&self.start(name, None)).await
    }

    /// References of all fetched models.
    pub(crate) fn listed(&self) -> Vec<String> {
        let models = self.catalog.list(&[]).unwrap();
        let names = models.into_iter().map(|entry| entry.model.to_string());
        names.filter(|name| !name.starts_with("builtin:")).collect()
    }
}

pub(crate) async fn result(job: &Arc<Job>) -> Result<PullResponse, Diagnostic> {
    match job.finished().await {
        JobEvent::Result(value) => Ok(serde_json::from_value(value).unwrap()),
        JobEvent::Error(error) => Err(error),
        other => panic!("not a result: {other:?}"),
    }
}
