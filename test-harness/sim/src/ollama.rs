//! A registry with the protocol of Ollama's: manifests by tag, and blobs by digest, which it
//! redirects to a signed URL of a storage server.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use crate::{
    blob::Blob,
    http::{Received, ServerRole, Servers, Service, Shared, lock, redirect},
};

const TOKEN: &str = "sim-registry-token";
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[derive(Default)]
struct Stored {
    /// Manifests by `namespace/name` and tag.
    manifests: BTreeMap<(String, String), String>,
    /// Blobs by digest.
    blobs: BTreeMap<String, Blob>,
    requires_token: bool,
}

#[derive(Default)]
struct Content(Mutex<Stored>);

/// A running registry. It stops when dropped.
pub struct Registry {
    content: Arc<Content>,
    servers: Servers,
}

impl Registry {
    /// Starts an empty registry on free ports.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(0).await
    }

    /// Starts an empty registry on a port.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        let content = Arc::new(Content::default());
        let servers = Servers::start(content.clone(), port).await?;
        Ok(Self { content, servers })
    }

    /// URL of the registry, without a trailing `/`.
    pub fn url(&self) -> String {
        self.servers.shared.front_url()
    }

    /// Stores a model: `name` has its namespace (`library/smollm2`), and each layer the last word
    /// of its media type (`model`, `template`, `params`, `license`). Returns the digest of the
    /// manifest.
    pub fn put<B: Into<Blob>>(
        &self,
        name: &str,
        tag: &str,
        layers: impl IntoIterator<Item = (&'static str, B)>,
    ) -> io::Result<String> {
        let mut described = Vec::new();
        for (kind, blob) in layers {
            let media_type = format!("application/vnd.ollama.image.{kind}");
            described.push(self.store(&media_type, blob.into())?);
        }
        let config = json!({
            "model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
            "architecture": "amd64", "os": "linux",
        });
        let config = self.store(
            "application/vnd.docker.container.image.v1+json",
            config.to_string().into_bytes().into(),
        )?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config,
            "layers": described,
        });
        self.put_manifest(name, tag, &manifest.to_string())
    }

    /// Stores the text of a manifest, whatever it says. Returns its digest.
    pub fn put_manifest(&self, name: &str, tag: &str, text: &str) -> io::Result<String> {
        let digest = format!("sha256:{}", Blob::from(text).sha256()?);
        let mut stored = lock(&self.content.0);
        let key = (name.to_owned(), tag.to_owned());
        stored.manifests.insert(key, text.to_owned());
        Ok(digest)
    }

    /// Stores a blob, and describes it as a layer of a manifest.
    pub fn store(&self, media_type: &str, blob: Blob) -> io::Result<Value> {
        let digest = format!("sha256:{}", blob.sha256()?);
        let layer = json!({"mediaType": media_type, "digest": digest, "size": blob.size()?});
        lock(&self.content.0).blobs.insert(digest, blob);
        Ok(layer)
    }

    /// Requires a token, which anyone gets from the address in the refusal.
    pub fn require_token(&self) {
        lock(&self.content.0).requires_token = true;
    }

    /// Lets `fault` respond in place of the registry whenever it returns a response.
    pub fn set_fault(&self, fault: impl FnMut(&Received) -> Option<Response> + Send + 'static) {
        self.servers.shared.set_fault(Some(Box::new(fault)));
    }

    /// Removes the fault.
    pub fn heal(&self) {
        self.servers.shared.set_fault(None);
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.servers.shared.received()
    }
}

impl Service for Content {
    fn respond(&self, request: &Received, shared: &Shared) -> Response {
        lock(&self.0).respond(request, shared)
    }
}

fn error(status: StatusCode, code: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
    (status, Json(body)).into_response()
}

impl Stored {
    fn respond(&self, request: &Received, shared: &Shared) -> Response {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        if request.server == ServerRole::Storage {
            let digest = parts.last().copied().unwrap_or_default();
            return match self.blobs.get(digest) {
                Some(blob) if shared.use_signature(request) => {
                    blob.respond(request.range.as_deref())
                }
                _ => StatusCode::FORBIDDEN.into_response(),
            };
        }
        match parts[..] {
            ["token"] => Json(json!({"token": TOKEN, "expires_in": 300})).into_response(),
            ["v2", namespace, name, ..]
                if self.requires_token && request.token() != Some(TOKEN) =>
            {
                let challenge = format!(
                    "Bearer realm=\"{}/token\",service=\"registry\",\
                     scope=\"repository:{namespace}/{name}:pull\"",
                    shared.front_url()
                );
                let mut refused = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
                if let Ok(value) = challenge.parse() {
                    refused
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, value);
                }
                refused
            }
            ["v2", namespace, name, "manifests", reference] => {
                match self.manifest(&format!("{namespace}/{name}"), reference) {
                    Some(text) => {
                        ([(header::CONTENT_TYPE, MANIFEST_TYPE)], text.to_owned()).into_response()
                    }
                    None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
                }
            }
            ["v2", _, _, "blobs", digest] => match self.blobs.get(digest) {
                Some(_) => {
                    let signed = shared.sign(&format!("/blobs/{digest}"));
                    redirect(StatusCode::TEMPORARY_REDIRECT, &signed)
                }
                None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn manifest(&self, name: &str, reference: &str) -> Option<&str> {
        let mut named = self.manifests.iter().filter(|((n, _), _)| n == name);
        let found = named.find(|((_, tag), text)| {
            let digest = || Blob::from(text.as_str()).sha256().unwrap_or_default();
            tag == reference
                || reference
                    .strip_prefix("sha256:")
                    .is_some_and(|d| d == digest())
        });
        found.map(|(_, text)| text.as_str())
    }
}
