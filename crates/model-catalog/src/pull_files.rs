//! The files of one model, fetched one after another.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use daemon_shell::blocking;
use diagnostics::{Diagnostic, bytes, counted, escape};
use hive_contract::Progress;
use hive_jobs::JobContext;
use model_vendors::{Manifest, ManifestFile};
use state_files::{ModelDir, ModelFile};

use crate::{adopt::LocalCopy, errors, hash, sources::Origin};

/// Characters of a revision in a message.
const SHOWN_REVISION: usize = 12;

/// Fetches the files of a model into its directory, which is locked.
pub(crate) struct FileFetch<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) manifest: &'a Manifest,
    pub(crate) dir: &'a ModelDir,
    pub(crate) context: &'a JobContext,
}

impl FileFetch<'_> {
    /// Fetches the files that are not there. Returns all of them, and the number of bytes
    /// received.
    pub(crate) async fn run(&self) -> Result<(Vec<ModelFile>, u64), Diagnostic> {
        let manifest = self.manifest;
        let total = manifest.files.iter().map(|file| file.size).sum();
        let revision = manifest.revision.chars().take(SHOWN_REVISION);
        let revision: String = revision.collect();
        let verb = if self.origin.is_copy {
            "copying"
        } else {
            "fetching"
        };
        let message = format!(
            "{verb} {} at {}: {}, {}",
            manifest.model,
            escape(&revision),
            counted(manifest.files.len(), "file"),
            bytes(total)
        );
        self.context.reporter.info("pull", message);
        let (mut files, mut before, mut fetched) = (Vec::new(), 0, 0);
        let rate = Mutex::new(None);
        for file in &manifest.files {
            let target = self.dir.files().join(&file.path);
            let counts = Counts {
                before,
                total,
                file,
                rate: &rate,
            };
            let sha256 = if let Some(sha256) = self.present(file, &target).await? {
                sha256
            } else if let Some(sha256) = self.adopted(&target, &counts).await? {
                sha256
            } else {
                let (sha256, received) = self.fetch(&target, counts).await?;
                fetched += received;
                sha256
            };
            before += file.size;
            files.push(ModelFile {
                path: file.path.clone(),
                size_bytes: file.size,
                sha256,
            });
        }
        Ok((files, fetched))
    }

    /// The SHA-256 of a file that an earlier pull completed.
    async fn present(
        &self,
        file: &ManifestFile,
        target: &Path,
    ) -> Result<Option<String>, Diagnostic> {
        let metadata = tokio::fs::metadata(target).await;
        if !metadata.is_ok_and(|metadata| metadata.len() == file.size) {
            return Ok(None);
        }
        // It got its name when it was verified.
        if let Some(sha256) = file.sha256 {
            return Ok(Some(hex::encode(sha256)));
        }
        let (target, cancel) = (target.to_owned(), self.context.cancel.clone());
        blocking(move || {
            hash::sha256(&target, &cancel, drop).map_err(|e| errors::storage(&target, &e))
        })
        .await
    }

    /// Takes over a file that the vendor's own tools have fetched. Returns its SHA-256.
    async fn adopted(
        &self,
        target: &Path,
        counts: &Counts<'_>,
    ) -> Result<Option<String>, Diagnostic> {
        let copy = self.origin.vendor.local_copy(self.manifest, counts.file);
        let Some((source, sha256)) = copy.zip(counts.file.sha256) else {
            return Ok(None);
        };
        if let Some(parent) = target.parent() {
            create_directory(parent).await?;
        }
        let copy = LocalCopy {
            source,
            target: target.to_owned(),
            size: counts.file.size,
            sha256: hex::encode(sha256),
        };
        let report = |compared| counts.report(self.context, compared, None);
        copy.take_over(self.context, report).await
    }

    /// Returns the SHA-256 of the file, and the number of bytes received.
    async fn fetch(&self, target: &Path, counts: Counts<'_>) -> Result<(String, u64), Diagnostic> {
        let (origin, manifest, file) = (self.origin, self.manifest, counts.file);
        if let Some(parent) = target.parent() {
            create_directory(parent).await?;
        }
        let what = format!("the pull of {}", manifest.model);
        let locate = origin.vendor.locate(manifest, file);
        let remote = self.context.phase(&what, None, locate).await?;
        let report = |progress: file_transfer::TransferProgress| {
            counts.report(self.context, progress.done, progress.rate);
        };
        let cancel = &self.context.cancel;
        let fetch = origin.fetch.fetch(&remote, target, &report, cancel);
        let fetched = fetch.await?;
        counts.report(self.context, fetched.size, None);
        if file
            .sha256
            .is_some_and(|expected| expected != fetched.sha256)
        {
            tokio::fs::remove_file(target)
                .await
                .map_err(|e| errors::storage(target, &e))?;
            return Err(errors::wrong_hash(&manifest.model, &file.path));
        }
        Ok((hex::encode(fetched.sha256), fetched.received))
    }
}

/// Where a file is among the files of a model.
struct Counts<'a> {
    /// Bytes of the files before it.
    before: u64,
    /// Bytes of all files.
    total: u64,
    file: &'a ManifestFile,
    /// Bytes per second, as last known, also of an earlier file.
    rate: &'a Mutex<Option<f64>>,
}

impl Counts<'_> {
    /// Reports the progress of the file and of the whole.
    fn report(&self, context: &JobContext, done: u64, rate: Option<f64>) {
        let known = {
            let mut known = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            *known = rate.or(*known);
            *known
        };
        for (item, done, total, rate) in [
            (Some(&self.file.path), done, self.file.size, rate),
            (None, self.before + done, self.total, known),
        ] {
            let rate = rate.filter(|rate| *rate > 0.0);
            context.reporter.progress(Progress {
                phase: "download".to_owned(),
                sha256: item.and(self.file.sha256).map(hex::encode),
                item: item.cloned(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
                rate,
                eta_seconds: rate.map(|rate| total.saturating_sub(done) as f64 / rate),
            });
        }
    }
}

/// Creates a directory, and those above it.
pub(crate) async fn create_directory(path: &Path) -> Result<(), Diagnostic> {
    tokio::fs::create_dir_all(path)
        .await
        .map_err(|e| errors::storage(path, &e))
}
