//! Transfers files over HTTP: parallel ranges, resume, retries, verification. Knows nothing of
//! models.

#![warn(missing_docs)]

mod types;

pub use types::{Fetched, RemoteFile, Secret, TransferProgress, TransferSettings};

use std::{ops::Range, path::Path};

use bytes::Bytes;
use diagnostics::{Code, Diagnostic};
use tokio_util::sync::CancellationToken;

/// Fetches files with common limits on connections and bandwidth. Clones share them.
#[derive(Debug, Clone)]
pub struct Downloader {
    settings: TransferSettings,
}

impl Downloader {
    /// Creates a downloader that honours the proxies of the environment.
    pub fn new(settings: TransferSettings) -> Result<Self, Diagnostic> {
        Ok(Self { settings })
    }

    /// Fetches `file` to `target`, which appears complete and verified or not at all. Continues
    /// a partial transfer that an earlier process left beside `target`.
    ///
    /// `progress` is called at most every 100 ms, and never with fewer bytes than before.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `MODEL_ACCESS_DENIED`, `DOWNLOAD_STALLED`, `DOWNLOAD_FAILED`,
    /// `CHECKSUM_MISMATCH`, `INSUFFICIENT_DISK`, `DISK_FULL`, `CANCELLED`.
    pub async fn fetch(
        &self,
        file: &RemoteFile,
        target: &Path,
        progress: &(dyn Fn(TransferProgress) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Fetched, Diagnostic> {
        let _ = (file, target, progress, cancel, &self.settings);
        Err(unfinished())
    }

    /// Reads a part of a file; the result is shorter if the file is.
    pub async fn read(&self, file: &RemoteFile, range: Range<u64>) -> Result<Bytes, Diagnostic> {
        let _ = (file, range);
        Err(unfinished())
    }
}

fn unfinished() -> Diagnostic {
    Diagnostic::new(Code::DownloadFailed, "downloads are not supported yet")
}
