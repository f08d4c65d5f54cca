//! A model hub with the protocol of Hugging Face: information about a repository, its tree of
//! files in pages, and files by revision, the large ones by a redirect to a signed URL of a
//! storage server.

mod respond;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    sync::{Arc, Mutex},
};

use axum::response::Response;
use sha2::{Digest as _, Sha256};

use crate::{
    FaultsFile,
    blob::Blob,
    http::{Received, Servers, lock},
};

/// Who can use a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Public,
    /// Everyone sees it; its files need a token that was granted access.
    Gated,
    /// It does not exist for those without access.
    Private,
}

/// A file at a revision.
#[derive(Debug, Clone)]
struct HubFile {
    blob: Blob,
    size: u64,
    sha256: String,
    /// Whether the repository has a pointer to the file (Git LFS).
    is_large: bool,
}

#[derive(Debug, Default)]
struct Repository {
    access: Option<Access>,
    commits: BTreeMap<String, BTreeMap<String, HubFile>>,
    /// Branches and tags.
    branches: BTreeMap<String, String>,
}

#[derive(Default)]
struct Hosted {
    repositories: BTreeMap<String, Repository>,
    /// Repositories by token.
    grants: BTreeMap<String, BTreeSet<String>>,
    page_entries: Option<usize>,
}

#[derive(Default)]
struct Content(Mutex<Hosted>);

/// A running hub. It stops when dropped.
pub struct Hub {
    content: Arc<Content>,
    servers: Servers,
}

impl Hub {
    /// Starts an empty hub on free ports.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(0).await
    }

    /// Starts an empty hub on a port.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        let content = Arc::new(Content::default());
        let servers = Servers::start(content.clone(), port).await?;
        Ok(Self { content, servers })
    }

    /// URL of the hub, without a trailing `/`.
    pub fn url(&self) -> String {
        self.servers.shared.front_url()
    }

    /// URL of the storage server.
    pub fn storage_url(&self) -> String {
        self.servers.shared.storage_url()
    }

    /// Commits files to the branch `main` of a repository, which then has these files only.
    /// Creates the repository if it does not exist. Returns the commit.
    pub fn commit<P: Into<String>, B: Into<Blob>>(
        &self,
        repository: &str,
        files: impl IntoIterator<Item = (P, B)>,
    ) -> io::Result<String> {
        let mut tree = BTreeMap::new();
        let mut hash = Sha256::new();
        for (path, blob) in files {
            let (path, blob) = (path.into(), blob.into());
            let file = HubFile::new(&path, blob)?;
            hash.update(format!("{path}\0{}\0", file.sha256));
            tree.insert(path, file);
        }
        let mut hosted = lock(&self.content.0);
        let entry = hosted
            .repositories
            .entry(repository.to_owned())
            .or_default();
        hash.update(entry.commits.len().to_string());
        let commit = hex::encode(hash.finalize())[..40].to_owned();
        entry.commits.insert(commit.clone(), tree);
        entry.branches.insert("main".to_owned(), commit.clone());
        Ok(commit)
    }

    /// Sets a branch or a tag of a repository to a commit.
    pub fn set_branch(&self, repository: &str, branch: &str, commit: &str) {
        let mut hosted = lock(&self.content.0);
        let entry = hosted
            .repositories
            .entry(repository.to_owned())
            .or_default();
        entry.branches.insert(branch.to_owned(), commit.to_owned());
    }

    /// Sets who can use a repository.
    pub fn set_access(&self, repository: &str, access: Access) {
        let mut hosted = lock(&self.content.0);
        let entry = hosted
            .repositories
            .entry(repository.to_owned())
            .or_default();
        entry.access = Some(access);
    }

    /// Grants a token access to a repository. Tokens without a grant are not valid.
    pub fn grant(&self, token: &str, repository: &str) {
        let mut hosted = lock(&self.content.0);
        let grants = hosted.grants.entry(token.to_owned()).or_default();
        grants.insert(repository.to_owned());
    }

    /// Sets the number of entries in a page of a tree; 1000 by default.
    pub fn set_page_entries(&self, entries: usize) {
        lock(&self.content.0).page_entries = Some(entries);
    }

    /// Lets `fault` respond in place of the hub whenever it returns a response.
    pub fn set_fault(&self, fault: impl FnMut(&Received) -> Option<Response> + Send + 'static) {
        self.servers.shared.set_fault(Some(Box::new(fault)));
    }

    /// Removes the fault.
    pub fn heal(&self) {
        self.servers.shared.set_fault(None);
    }

    /// Applies the faults of a file from now on.
    pub fn set_faults(&self, faults: FaultsFile) {
        self.servers.shared.set_faults(faults);
    }

    /// Writes a line for every response from now on: server, status, bytes of the body, path.
    pub fn set_log(&self, log: File) {
        self.servers.shared.set_log(log);
    }

    /// Lets every signed URL that is issued from now on work `uses` times.
    pub fn limit_signatures(&self, uses: u64) {
        self.servers.shared.limit_signatures(uses);
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.servers.shared.received()
    }
}

impl HubFile {
    fn new(path: &str, blob: Blob) -> io::Result<Self> {
        let size = blob.size()?;
        let is_weights = [".gguf", ".safetensors", ".bin"]
            .iter()
            .any(|e| path.ends_with(e));
        Ok(Self {
            size,
            sha256: blob.sha256()?,
            is_large: is_weights || size > 10 << 20,
            blob,
        })
    }
}
