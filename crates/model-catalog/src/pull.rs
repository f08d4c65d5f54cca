use std::{
    fs, io,
    path::{Component, Path},
    sync::Arc,
    time::Duration,
};

use daemon_shell::{FileLock, blocking};
use diagnostics::{Code, Diagnostic};
use hive_contract::{CopySource, NodePullRequest, PullRequest, PullResponse};
use hive_jobs::JobContext;
use jiff::Timestamp;
use model_vendors::{Manifest, Role};
use state_files::{ModelDir, ModelFile, ModelRecord};
use tokio::time::sleep;
use worker_contract::SamplingValues;

use crate::{
    ModelCatalog,
    care::{delete_directory, size_on_disk},
    errors, hash,
    pull_files::{FileFetch, create_directory},
    rebuild,
    sources::{Origin, Sources, is_remote},
    turns::Turn,
};

/// How often a hive asks for the lock of a directory that another pull holds.
const LOCK_POLL: Duration = Duration::from_millis(250);

/// One pull of one model.
pub(crate) struct Pull<'a> {
    sources: &'a Sources,
    request: PullRequest,
    copy_from: Option<CopySource>,
    context: &'a JobContext,
}

/// What is known before the vendor is asked.
enum Known {
    /// All files are there.
    Complete,
    /// The revision to fetch, if it is pinned.
    Incomplete { revision: Option<String> },
}

impl<'a> Pull<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        request: NodePullRequest,
        context: &'a JobContext,
    ) -> Self {
        Self {
            sources,
            request: request.request,
            copy_from: request.copy_from,
            context,
        }
    }

    pub(crate) async fn run(&self) -> Result<PullResponse, Diagnostic> {
        let model = &self.request.model;
        let known = if is_remote(model) {
            self.known().await?
        } else {
            Known::Complete
        };
        let fetched_bytes = match known {
            Known::Complete => 0,
            Known::Incomplete { revision } => self.fetch(revision.as_deref()).await?,
        };
        let (catalog, model) = (self.catalog(), model.clone());
        let model = blocking(move || catalog.describe(&model)).await?;
        Ok(PullResponse {
            model,
            fetched_bytes,
        })
    }

    fn catalog(&self) -> Arc<ModelCatalog> {
        Arc::clone(&self.sources.catalog)
    }

    fn narrate(&self, message: String) {
        self.context.reporter.info("pull", message);
    }

    async fn known(&self) -> Result<Known, Diagnostic> {
        let (catalog, request) = (self.catalog(), self.request.clone());
        blocking(move || {
            let rows = catalog.rows();
            let row = rows.find(&request.model)?;
            let pin = rows.pinned(&request.model)?.map(|pin| pin.revision);
            let own = row.as_ref().map(|row| row.revision.clone());
            let revision = request.revision.clone().or(own).or(pin);
            if let Some(row) = row
                && request.revision.is_none_or(|asked| asked == row.revision)
                && row.problem.is_none()
                && let Some(directory) = &row.directory
                && are_present(&catalog.dirs().named(directory), &rows.files(&row.model)?)
            {
                return Ok(Known::Complete);
            }
            Ok(Known::Incomplete { revision })
        })
        .await
    }

    /// Copies the model from another node, or fetches it from its vendor. Returns the number of
    /// bytes that were fetched.
    async fn fetch(&self, revision: Option<&str>) -> Result<u64, Diagnostic> {
        let vendor = || self.sources.origin(&self.request.model);
        let Some(source) = &self.copy_from else {
            return self.fetch_from(&vendor()?, revision).await;
        };
        let copied = match self.sources.other_nodes(&source.queen_url) {
            Ok(nodes) => self.fetch_from(&nodes, revision).await,
            Err(error) => Err(error),
        };
        match copied {
            Err(error) if source.or_vendor && is_of_source(error.code) => {
                let message = format!("cannot copy it from another node: {}", error.message);
                self.context.reporter.warn("pull", message);
                // The copy may have pinned a revision.
                let Known::Incomplete { revision } = self.known().await? else {
                    return Ok(0);
                };
                let fetched = self.fetch_from(&vendor()?, revision.as_deref()).await;
                fetched.map_err(|later| errors::after_copy(later, &error))
            }
            copied => copied,
        }
    }

    /// Returns the number of bytes that were fetched.
    async fn fetch_from(&self, origin: &Origin, revision: Option<&str>) -> Result<u64, Diagnostic> {
        let model = &self.request.model;
        let place = if origin.is_copy {
            " on other nodes"
        } else {
            ""
        };
        self.narrate(format!("looking up {model}{place}"));
        let selection = &self.sources.selection;
        let look_up = origin.vendor.resolve(model, revision, selection);
        let what = format!("the pull of {model}");
        let manifest = self.context.phase(&what, None, look_up).await?;
        check_paths(&manifest)?;
        let catalog = self.catalog();
        let dir = catalog.dirs().of(&manifest.model, &manifest.revision);
        self.check_space(origin, &manifest, &dir).await?;
        self.pin(&manifest).await?;
        let _lock = self.lock(&dir).await?;
        let record = self.stored(&dir).await?;
        if let Some((record, true)) = &record
            && !self.is_damaged(&manifest).await?
        {
            self.register(&dir, record.clone()).await?;
            return Ok(0);
        }
        self.remove_damaged(&dir, record.map(|(record, _)| record))
            .await?;
        let _turn = self.turn().await?;
        let files = FileFetch {
            origin,
            manifest: &manifest,
            dir: &dir,
            context: self.context,
        };
        let (files, fetched) = files.run().await?;
        let record = self.record(&manifest, files);
        self.register(&dir, record).await?;
        Ok(fetched)
    }

    /// Checks that the disk has space for what is not on it yet, and for the reserve.
    async fn check_space(
        &self,
        origin: &Origin,
        manifest: &Manifest,
        dir: &ModelDir,
    ) -> Result<(), Diagnostic> {
        let vendor = &origin.vendor;
        let files = manifest.files.iter();
        let files: Vec<_> = files
            .map(|file| (file.size, vendor.local_copy(manifest, file)))
            .collect();
        let (model, dir) = (manifest.model.clone(), dir.files());
        let reserve = origin.fetch.reserve_bytes();
        blocking(move || {
            // Copies are linked, as a rule. If they are not, each transfer checks again.
            let needed = files.iter().filter(|(size, copy)| {
                let copy = copy.as_ref().and_then(|copy| fs::metadata(copy).ok());
                copy.is_none_or(|copy| copy.len() != *size)
            });
            let needed: u64 = needed.map(|(size, _)| size).sum();
            let missing = needed.saturating_sub(size_on_disk(&dir));
            let mut existing = dir.ancestors().filter(|dir| dir.exists());
            let disk = existing.next().unwrap_or(Path::new("/"));
            let stat = rustix::fs::statvfs(disk).map_err(|e| errors::storage(disk, &e.into()))?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            if missing > 0 && missing.saturating_add(reserve) > free {
                return Err(errors::insufficient_disk(
                    &model, disk, missing, reserve, free,
                ));
            }
            Ok(())
        })
        .await
    }

    /// Pins the revision, so that an interrupted pull is continued with the same one.
    async fn pin(&self, manifest: &Manifest) -> Result<(), Diagnostic> {
        let (catalog, reference) = (self.catalog(), self.request.model.clone());
        let (model, revision) = (manifest.model.clone(), manifest.revision.clone());
        blocking(move || {
            let mut rows = catalog.rows();
            // A newer revision takes the place of the old one when it is complete.
            if rows.find(&reference)?.is_none() {
                rows.pin(&reference, &model, &revision)?;
            }
            Ok(())
        })
        .await
    }

    /// The record of a complete model, and whether all its files are there.
    async fn stored(&self, dir: &ModelDir) -> Result<Option<(ModelRecord, bool)>, Diagnostic> {
        let dir = dir.clone();
        blocking(move || {
            let record = ModelRecord::read(&dir)?.intact();
            Ok(record.map(|record| {
                let present = are_present(&dir, &record.files);
                (record, present)
            }))
        })
        .await
    }

    /// Waits while another pull fetches the same files, in this hive or in another one that
    /// shares the directory.
    async fn lock(&self, dir: &ModelDir) -> Result<FileLock, Diagnostic> {
        create_directory(&dir.files()).await?;
        let what = format!("the pull of {}", self.request.model);
        let wait = async {
            let mut waits = false;
            loop {
                if let Some(lock) = FileLock::try_acquire(&dir.lock())? {
                    return Ok(lock);
                }
                if !std::mem::replace(&mut waits, true) {
                    self.narrate("waiting for another download of the same files".to_owned());
                }
                sleep(LOCK_POLL).await;
            }
        };
        self.context.phase(&what, None, wait).await
    }

    /// Waits until fewer other models are transferred.
    async fn turn(&self) -> Result<Turn<'_>, Diagnostic> {
        let what = format!("the pull of {}", self.request.model);
        let wait = self.sources.turns.take(|position| {
            self.narrate(format!(
                "waiting for other downloads, at position {position} of the queue"
            ));
        });
        let wait = async { Ok(wait.await) };
        self.context.phase(&what, None, wait).await
    }

    async fn is_damaged(&self, manifest: &Manifest) -> Result<bool, Diagnostic> {
        let (catalog, model) = (self.catalog(), manifest.model.clone());
        blocking(move || {
            let row = catalog.rows().find(&model)?;
            Ok(row.is_some_and(|row| row.problem.is_some()))
        })
        .await
    }

    /// Removes the files of a complete model that are not what its record says, so that they
    /// are fetched again.
    async fn remove_damaged(
        &self,
        dir: &ModelDir,
        record: Option<ModelRecord>,
    ) -> Result<(), Diagnostic> {
        let Some(record) = record else { return Ok(()) };
        self.narrate("looking for damaged files".to_owned());
        let (files, cancel) = (dir.files(), self.context.cancel.clone());
        blocking(move || {
            for file in record.files {
                let path = files.join(&file.path);
                match hash::sha256(&path, &cancel, drop) {
                    Ok(None) => return Err(errors::cancelled("the pull")),
                    Ok(Some(found)) if found == file.sha256 => {}
                    Ok(Some(_)) => {
                        fs::remove_file(&path).map_err(|e| errors::storage(&path, &e))?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(errors::storage(&path, &e)),
                }
            }
            Ok(())
        })
        .await
    }

    fn record(&self, manifest: &Manifest, files: Vec<ModelFile>) -> ModelRecord {
        let header = &manifest.header;
        let weights: Vec<&ModelFile> = manifest
            .files
            .iter()
            .zip(&files)
            .filter(|(file, _)| file.role == Role::Weights)
            .map(|(_, file)| file)
            .collect();
        let sha256 = match weights.as_slice() {
            [only] => only.sha256.clone(),
            several => hash::of_list(
                several
                    .iter()
                    .map(|file| (file.sha256.as_str(), file.path.as_str())),
            ),
        };
        ModelRecord {
            model: manifest.model.clone(),
            requested: self.request.model.clone(),
            revision: manifest.revision.clone(),
            entry: manifest.entry.clone(),
            files,
            architecture: header.architecture.clone(),
            quantization: header.quantization.clone(),
            context_length: header.context_length,
            parameters: header.parameters,
            sampling: SamplingValues::recommended(&header.sampling.values).0,
            sha256,
            added_at: Timestamp::now(),
        }
    }

    /// Adds a complete model to the catalog in place of an older revision.
    async fn register(&self, dir: &ModelDir, record: ModelRecord) -> Result<(), Diagnostic> {
        let (catalog, dir, requested) = (self.catalog(), dir.clone(), self.request.model.clone());
        let message = format!("{} is complete", record.model);
        blocking(move || {
            record.write(&dir)?;
            let mut rows = catalog.rows();
            let old = rows.find(&record.model)?.and_then(|row| row.directory);
            let row = rebuild::add(&mut rows, &dir, &record)?;
            rows.pin(&requested, &row.model, &row.revision)?;
            match old {
                // A worker that has it open keeps it until it closes it.
                Some(old) if old != dir.name() => delete_directory(&catalog.dirs().named(&old)),
                _ => Ok(()),
            }
        })
        .await?;
        self.narrate(message);
        Ok(())
    }
}

/// Whether a failure is one of the source of the files, so that another source may succeed.
fn is_of_source(code: Code) -> bool {
    matches!(
        code,
        Code::ModelNotFound
            | Code::ModelAccessDenied
            | Code::DownloadFailed
            | Code::DownloadStalled
            | Code::ChecksumMismatch
            | Code::InvalidModelFile
    )
}

/// The vendors check their paths; a mistake there must not overwrite foreign files.
fn check_paths(manifest: &Manifest) -> Result<(), Diagnostic> {
    let paths = manifest.files.iter().map(|file| &file.path);
    for path in paths.chain([&manifest.entry]) {
        let mut parts = Path::new(path).components();
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(errors::unsafe_path(&manifest.model, path));
        }
    }
    Ok(())
}

fn are_present(dir: &ModelDir, files: &[ModelFile]) -> bool {
    files.iter().all(|file| {
        let path = dir.files().join(&file.path);
        fs::metadata(path).is_ok_and(|metadata| metadata.len() == file.size_bytes)
    })
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
