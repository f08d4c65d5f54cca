//! Vendor: the other nodes of a queen, through the queen.
//!
//! The queen lists the files of a fetched model (`POST /v1/node-models/manifest`) and passes
//! their content on by range requests (`GET /v1/node-models/content`) from a node that has a
//! file with the SHA-256. What another node says is checked like what any vendor says.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use file_transfer::{RemoteFile, Secret};
use futures_util::future::BoxFuture;
use hive_contract::{ManifestEntry, ManifestQuery, ModelManifest};
use input_validation::ModelRef;
use model_format::ModelHeader;
use reqwest::Url;
use rest_client::{Peer, RestClient};

use crate::{
    EngineCheck, Manifest, ManifestFile, ModelVendor, Role, Selection, errors,
    header::{self, Weights},
    http::{Http, MAX_BODY_BYTES, Reply},
    manifest,
};

/// Time limit for the list of files.
const MANIFEST_LIMIT: Duration = Duration::from_secs(30);
const QUEEN: Peer = Peer {
    name: "queen",
    unreachable: Code::DownloadFailed,
    bad_response: Code::DownloadFailed,
};

/// The models that other nodes have.
pub(crate) struct OtherNodes {
    http: Http,
    queen: RestClient,
    content: Url,
    token: Secret,
}

impl OtherNodes {
    pub(crate) fn new(queen_url: &str, token: Secret) -> Result<Self, Diagnostic> {
        let content = Url::parse(queen_url)
            .and_then(|url| url.join("/v1/node-models/content"))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| errors::invalid_queen_url(queen_url))?;
        Ok(Self {
            http: Http::direct(),
            queen: RestClient::new(QUEEN, queen_url, Some(token.expose().to_owned()))?,
            content,
            token,
        })
    }

    async fn find(
        &self,
        model: &ModelRef,
        revision: Option<&str>,
        engines: &EngineCheck,
    ) -> Result<Manifest, Diagnostic> {
        let query = ManifestQuery {
            model: model.clone(),
            revision: revision.map(str::to_owned),
        };
        let path = "/v1/node-models/manifest";
        let listed: ModelManifest = self.queen.post(path, &query, Some(MANIFEST_LIMIT)).await?;
        let invalid = |what: &str| errors::invalid_response(self.content.as_str(), what);
        if revision.is_some_and(|asked| asked != listed.revision) {
            return Err(invalid("another revision"));
        }
        if !is_same_model(model, &listed.model) {
            return Err(invalid("another model"));
        }
        let files = listed.files.iter().map(file).collect::<Result<_, _>>()?;
        let mut files = manifest::checked(files)?;
        files.sort_by_key(|file| file.role != Role::Weights);
        let entry_exists = files.iter().any(|file| file.path == listed.entry);
        if !listed.entry.is_empty() && !entry_exists {
            return Err(invalid("an entry that is no file"));
        }
        let header = if listed.entry.is_empty() {
            self.safetensors(&listed.model, &files, engines).await
        } else {
            let weights = self.weights(&listed.model, &files);
            header::gguf(&self.http, &check, weights, engines).await
        };
        Ok(Manifest {
            header: header?,
            model: listed.model,
            revision: listed.revision,
            entry: listed.entry,
            files,
            projectors: Vec::new(),
        })
    }

    fn weights(&self, model: &ModelRef, files: &[ManifestFile]) -> Vec<Weights> {
        let weights = files.iter().filter(|file| file.role == Role::Weights);
        weights
            .map(|file| Weights {
                path: file.path.clone(),
                size: file.size,
                remote: self.remote(model, file),
            })
            .collect()
    }

    async fn safetensors(
        &self,
        model: &ModelRef,
        files: &[ManifestFile],
        engines: &EngineCheck,
    ) -> Result<ModelHeader, Diagnostic> {
        let read = async |name: &str| {
            let Some(file) = files.iter().find(|file| file.path == name) else {
                return Ok(None);
            };
            if file.size > MAX_BODY_BYTES {
                return Err(errors::companion_too_large(name, file.size, MAX_BODY_BYTES));
            }
            let remote = self.remote(model, file);
            let reply = self.http.read(&remote, 0..file.size).await?;
            check(&reply)?;
            Ok(Some(reply.body.to_vec()))
        };
        let config = read("config.json").await?.unwrap_or_default();
        let generation = read("generation_config.json").await?;
        let shards = self.weights(model, files);
        header::safetensors(&self.http, &check, shards, config, generation, engines).await
    }

    fn remote(&self, model: &ModelRef, file: &ManifestFile) -> RemoteFile {
        let mut url = self.content.clone();
        url.query_pairs_mut()
            .append_pair("model", &model.to_string())
            .append_pair("path", &file.path)
            .append_pair("sha256", &file.remote);
        RemoteFile {
            url: url.into(),
            bearer: Some(self.token.clone()),
            size: Some(file.size),
            sha256: file.sha256,
        }
    }
}

/// Whether a reference can stand for a model: references need not name a file or a tag.
fn is_same_model(asked: &ModelRef, listed: &ModelRef) -> bool {
    match (asked, listed) {
        (ModelRef::Hub { repository: a, .. }, ModelRef::Hub { repository: b, .. }) => {
            a.eq_ignore_ascii_case(b)
        }
        _ => asked == listed,
    }
}

fn file(entry: &ManifestEntry) -> Result<ManifestFile, Diagnostic> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&entry.sha256, &mut sha256)
        .map_err(|_| errors::invalid_digest(&entry.sha256))?;
    Ok(ManifestFile {
        path: entry.path.clone(),
        remote: entry.sha256.clone(),
        size: entry.size_bytes,
        sha256: Some(sha256),
        role: if entry.weights {
            Role::Weights
        } else {
            Role::Companion
        },
    })
}

fn check(reply: &Reply) -> Result<(), Diagnostic> {
    match reply.status.as_u16() {
        200..=299 => Ok(()),
        status => Err(errors::no_copy(status)),
    }
}

impl ModelVendor for OtherNodes {
    fn supports(&self, model: &ModelRef) -> bool {
        matches!(model, ModelRef::Hub { .. } | ModelRef::Ollama { .. })
    }

    fn resolve<'a>(
        &'a self,
        model: &'a ModelRef,
        revision: Option<&'a str>,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Manifest, Diagnostic>> {
        Box::pin(async move {
            let found = self.find(model, revision, &selection.engines).await;
            found.map_err(errors::of_other_nodes)
        })
    }

    fn locate<'a>(
        &'a self,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> BoxFuture<'a, Result<RemoteFile, Diagnostic>> {
        let remote = self.remote(&manifest.model, file);
        Box::pin(std::future::ready(Ok(remote)))
    }
}
