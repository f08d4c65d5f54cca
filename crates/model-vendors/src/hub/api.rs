use diagnostics::Diagnostic;
use file_transfer::{RemoteFile, Secret};
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    errors,
    http::{Get, Http, MAX_BODY_BYTES, Reply},
    paths,
    select::{Listing, RepoFile},
};

/// Maximum number of files and folders of a repository.
const MAX_ENTRIES: usize = 100_000;

/// A repository of the hub.
#[derive(Clone, Copy)]
pub(super) struct Repository<'a> {
    pub(super) http: &'a Http,
    pub(super) endpoint: &'a Url,
    pub(super) token: Option<&'a Secret>,
    /// Owner and name.
    pub(super) name: &'a str,
}

/// A revision of a repository.
pub(super) struct Info {
    /// Owner and name in the hub's case.
    pub(super) name: String,
    pub(super) commit: String,
}

#[derive(Deserialize)]
struct RawInfo {
    id: Option<String>,
    sha: Option<String>,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
    lfs: Option<RawPointer>,
}

/// What Git stores in place of a large file.
#[derive(Deserialize)]
struct RawPointer {
    oid: String,
    size: u64,
}

impl Repository<'_> {
    /// Returns the commit of a revision.
    pub(super) async fn info(&self, revision: &str) -> Result<Info, Diagnostic> {
        let url = self.api_url(&["revision", revision]);
        let reply = self.get(url.clone()).await?;
        self.check_revision(&reply, revision)?;
        let raw: RawInfo = parse(&url, &reply)?;
        let commit = raw.sha.filter(|sha| is_commit(sha));
        let commit = commit.ok_or_else(|| errors::invalid_response(url.as_str(), "no commit"))?;
        if is_commit(revision) && revision != commit {
            return Err(errors::invalid_response(url.as_str(), "another commit"));
        }
        Ok(Info {
            name: raw.id.unwrap_or_else(|| self.name.to_owned()),
            commit,
        })
    }

    /// Returns all files at a commit.
    pub(super) async fn tree(&self, commit: &str) -> Result<Listing, Diagnostic> {
        let mut url = self.api_url(&["tree", commit]);
        url.set_query(Some("recursive=true"));
        let (mut listing, mut entries) = (Listing::default(), 0);
        loop {
            let reply = self.get(url.clone()).await?;
            self.check_revision(&reply, commit)?;
            let page: Vec<RawEntry> = parse(&url, &reply)?;
            let next = next_page(&url, &reply)?;
            entries += page.len();
            if entries > MAX_ENTRIES {
                return Err(errors::too_many_files(MAX_ENTRIES));
            }
            if page.is_empty() && next.is_some() {
                return Err(errors::invalid_response(url.as_str(), "an empty page"));
            }
            for entry in page {
                add(&url, &mut listing, entry)?;
            }
            match next {
                Some(next) => url = next,
                None => return Ok(listing),
            }
        }
    }

    /// Reads a small file.
    pub(super) async fn small_file(
        &self,
        commit: &str,
        file: &RepoFile,
    ) -> Result<Vec<u8>, Diagnostic> {
        if file.size > MAX_BODY_BYTES {
            return Err(errors::companion_too_large(
                &file.path,
                file.size,
                MAX_BODY_BYTES,
            ));
        }
        let reply = self.get(self.file_url(commit, &file.path)).await?;
        self.check(&reply)?;
        Ok(reply.body.into())
    }

    pub(super) fn remote(
        &self,
        commit: &str,
        path: &str,
        size: u64,
        sha256: Option<[u8; 32]>,
    ) -> RemoteFile {
        RemoteFile {
            url: self.file_url(commit, path).into(),
            bearer: self.token.cloned(),
            size: Some(size),
            sha256,
        }
    }

    async fn get(&self, url: Url) -> Result<Reply, Diagnostic> {
        self.http.get(&Get::new(url).bearer(self.token)).await
    }

    /// Returns the URL of a page of the repository for users.
    pub(super) fn page_url(&self) -> Url {
        self.url(&[], &[])
    }

    fn api_url(&self, rest: &[&str]) -> Url {
        self.url(&["api", "models"], rest)
    }

    fn file_url(&self, commit: &str, path: &str) -> Url {
        let rest: Vec<&str> = ["resolve", commit]
            .into_iter()
            .chain(path.split('/'))
            .collect();
        self.url(&[], &rest)
    }

    fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        // An HTTP URL has path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments
                .extend(before)
                .extend(self.name.split('/'))
                .extend(after);
        }
        url
    }
}

fn parse<T: DeserializeOwned>(url: &Url, reply: &Reply) -> Result<T, Diagnostic> {
    // The message of the parser may contain text of the response.
    let parsed = serde_json::from_slice(&reply.body);
    parsed.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = format!("unexpected JSON at line {line}, column {column}");
        errors::invalid_response(url.as_str(), what)
    })
}

fn is_commit(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 40 && text.bytes().all(is_digit)
}

fn add(url: &Url, listing: &mut Listing, entry: RawEntry) -> Result<(), Diagnostic> {
    let RawEntry {
        kind,
        path,
        size,
        lfs,
    } = entry;
    paths::check(&path).map_err(|problem| errors::unsafe_path(&path, problem))?;
    if kind == "directory" {
        return Ok(());
    }
    if kind != "file" {
        listing.irregular.push(path);
        return Ok(());
    }
    let sha256 = match &lfs {
        Some(pointer) => {
            let mut hash = [0; 32];
            let decoded = hex::decode_to_slice(&pointer.oid, &mut hash);
            decoded.map_err(|_| errors::invalid_response(url.as_str(), "a hash that is none"))?;
            Some(hash)
        }
        None => None,
    };
    let size = lfs.map(|pointer| pointer.size).or(size);
    let size = size.ok_or_else(|| errors::invalid_response(url.as_str(), "no size of a file"))?;
    let file = RepoFile {
        path: path.clone(),
        size,
        sha256,
    };
    match listing.files.insert(path, file) {
        Some(twice) => Err(errors::unsafe_path(&twice.path, "occurs twice")),
        None => Ok(()),
    }
}

/// Returns the URL of the next page, which must be on the same server.
fn next_page(url: &Url, reply: &Reply) -> Result<Option<Url>, Diagnostic> {
    let Some(link) = reply.header("link") else {
        return Ok(None);
    };
    let next = link.split(',').find(|part| part.contains("rel=\"next\""));
    let Some(next) = next else {
        return Ok(None);
    };
    let target = next
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    let target = target.and_then(|(target, _)| url.join(target).ok());
    match target.filter(|target| target.origin() == url.origin()) {
        Some(target) => Ok(Some(target)),
        None => Err(errors::invalid_response(
            url.as_str(),
            "a page on another server",
        )),
    }
}
