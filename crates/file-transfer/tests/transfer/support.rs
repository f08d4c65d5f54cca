use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use file_transfer::{Downloader, Fetched, RemoteFile, Secret, TransferProgress, TransferSettings};
use sim::files::{Content, FileServer, Host, Recorded, Served};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const MIB: u64 = 1 << 20;
/// Content of most tests, of several pieces.
pub const CONTENT: Content = Content::new(1, 8 * MIB + 12_345);

/// A server with one file, and a directory for it.
pub struct Case {
    pub server: FileServer,
    pub dir: TempDir,
    pub file: RemoteFile,
    pub settings: TransferSettings,
}

impl Case {
    pub async fn new(served: Served) -> Self {
        let server = FileServer::start().await.unwrap();
        let content = served.content;
        let url = server.put("/model.gguf", served);
        Self {
            server,
            dir: tempfile::tempdir().unwrap(),
            file: RemoteFile {
                url,
                bearer: None,
                size: Some(content.size()),
                sha256: Some(content.sha256()),
            },
            settings: TransferSettings {
                stall: Duration::from_secs(3),
                first_delay: Duration::from_millis(1),
                reserve_bytes: 0,
                ..TransferSettings::default()
            },
        }
    }

    /// A file of a hub, of which nothing is known before.
    pub async fn unknown(served: Served) -> Self {
        let mut case = Self::new(served).await;
        (case.file.size, case.file.sha256) = (None, None);
        case
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.file.bearer = Some(Secret::new(token));
        self
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("model.gguf")
    }

    pub fn downloader(&self) -> Downloader {
        Downloader::new(self.settings.clone()).unwrap()
    }

    pub async fn fetch(&self) -> Result<Fetched, Diagnostic> {
        self.fetch_until(|_| false).await
    }

    /// Fetches, and cancels as soon as `cancel` returns true. Checks the reports of progress.
    pub async fn fetch_until(
        &self,
        cancel: impl Fn(TransferProgress) -> bool + Send + Sync,
    ) -> Result<Fetched, Diagnostic> {
        let token = CancellationToken::new();
        let most = Arc::new(Mutex::new(0));
        let progress = |progress: TransferProgress| {
            let mut most = most.lock().unwrap();
            assert!(progress.done >= *most, "progress went backwards");
            *most = progress.done;
            if cancel(progress) {
                token.cancel();
            }
        };
        let downloader = self.downloader();
        downloader
            .fetch(&self.file, &self.target(), &progress, &token)
            .await
    }

    /// Fetches, and expects the whole file and nothing beside it.
    pub async fn fetch_all(&self, content: Content) {
        let fetched = self.fetch().await.unwrap();
        self.expect(content, fetched);
    }

    pub fn expect(&self, content: Content, fetched: Fetched) {
        assert_eq!(
            (fetched.size, fetched.sha256),
            (content.size(), content.sha256())
        );
        let bytes = std::fs::read(self.target()).unwrap();
        assert!(bytes == content.read(0..content.size()), "wrong content");
        assert_eq!(self.files(), ["model.gguf"]);
    }

    /// Fetches, and expects a failure that leaves no target.
    pub async fn fetch_error(&self, code: Code) -> Diagnostic {
        let error = self.fetch().await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(!self.target().exists());
        error
    }

    /// Names in the directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Bytes that were served to all requests but the first ones.
    pub fn served_since(&self, requests: usize) -> u64 {
        let all = self.server.requests();
        all[requests..].iter().map(|r| r.served).sum()
    }

    /// Requests to one of the hosts.
    pub fn requests_to(&self, host: Host) -> Vec<Recorded> {
        let requests = self.server.requests();
        requests
            .into_iter()
            .filter(|r| r.asked.host == host)
            .collect()
    }
}
