//! Transfers files over HTTP: parallel ranges, resume, retries, verification. Knows nothing of
//! models.

#![warn(missing_docs)]

mod disk;
mod errors;
mod fetch;
mod journal;
mod lane;
mod limit;
mod part;
mod plan;
mod ranges;
mod rate;
mod response;
mod retry;
pub mod rules;
mod source;
mod trust;
mod types;

pub use retry::retry_after;
pub use trust::tls_client;
pub use types::{Fetched, RemoteFile, Secret, TransferProgress, TransferSettings};

use std::{path::Path, sync::Arc};

use diagnostics::Diagnostic;
use tokio_util::sync::CancellationToken;

use fetch::Fetch;
use limit::Limiter;
use part::Paths;
use source::{Http, Source};

/// Fetches files with common limits on connections and bandwidth. Clones share them.
#[derive(Debug, Clone)]
pub struct Downloader {
    settings: TransferSettings,
    http: Arc<Http>,
    limiter: Arc<Limiter>,
}

impl Downloader {
    /// Creates a downloader.
    pub fn new(settings: TransferSettings) -> Result<Self, Diagnostic> {
        Ok(Self {
            limiter: Arc::new(Limiter::new(settings.bytes_per_second)),
            http: Arc::new(Http::new(settings.proxies)),
            settings,
        })
    }

    /// Fetches `file` to `target`, which appears complete and verified or not at all. Continues
    /// a partial transfer that an earlier process left beside `target`, in `*.part` with its
    /// journal `*.part.state`. Creates the directory if it is missing.
    ///
    /// If another transfer to `target` runs, in this process or in another one, waits for it and
    /// reports its progress. If `target` exists, it is verified as far as size and hash are known,
    /// and never overwritten.
    ///
    /// The content is verified by the hash of `file`, or by the one that the server states
    /// (`X-Linked-ETag` or `ETag`, if it is a SHA-256). A partial file is kept unless its content
    /// is wrong or the server has another version.
    ///
    /// `progress` is called at most every 100 ms, and never with fewer bytes than before.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `MODEL_ACCESS_DENIED`, `DOWNLOAD_STALLED`, `DOWNLOAD_FAILED`,
    /// `CHECKSUM_MISMATCH`, `INSUFFICIENT_DISK`, `DISK_FULL`, `STATE_UNUSABLE`, `STATE_TOO_NEW`,
    /// `CANCELLED`.
    pub async fn fetch(
        &self,
        file: &RemoteFile,
        target: &Path,
        progress: &(dyn Fn(TransferProgress) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Fetched, Diagnostic> {
        let source = self.source(file)?;
        let (settings, limiter) = (&self.settings, self.limiter.clone());
        let paths = Paths::of(target);
        let fetch = Fetch::new(file, settings, limiter, source, paths, progress);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(errors::cancelled(target)),
            result = fetch.run() => result,
        }
    }

    /// Space that a transfer leaves on the disk, in bytes.
    pub fn reserve_bytes(&self) -> u64 {
        self.settings.reserve_bytes
    }

    fn source(&self, file: &RemoteFile) -> Result<Source, Diagnostic> {
        Source::new(self.http.clone(), file, self.settings.stall)
    }
}
