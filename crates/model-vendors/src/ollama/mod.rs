//! Vendor: the registry of Ollama, which has the protocol of container registries: a manifest by
//! name and tag, and blobs by digest
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

mod auth;
mod document;

use diagnostics::{Diagnostic, excerpt};
use file_transfer::{RemoteFile, Secret};
use futures_util::future::BoxFuture;
use input_validation::ModelRef;
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha256};

use crate::{
    EngineCheck, Manifest, ManifestFile, ModelVendor, Role, Selection, VendorSettings, errors,
    header::{self, Weights},
    http::{Get, Http, Reply},
    manifest,
    ollama::document::{Digest, Document},
    settings::endpoint,
};

const DEFAULT_REGISTRY: &str = "https://registry.ollama.ai";
const DEFAULT_TAG: &str = "latest";
/// Namespace of models without one.
const LIBRARY: &str = "library";
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Maximum size of a manifest and of the configuration of an image.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// The registry.
pub(crate) struct OllamaVendor {
    http: Http,
    registry: Url,
}

/// A model of the registry.
struct Image<'a> {
    http: &'a Http,
    registry: &'a Url,
    namespace: String,
    name: String,
    tag: String,
    /// Token for the model, if the registry requires one.
    bearer: Option<Secret>,
}

impl OllamaVendor {
    pub(crate) fn new(settings: &VendorSettings, http: Http) -> Result<Self, Diagnostic> {
        Ok(Self {
            http,
            registry: endpoint(settings.ollama_registry.as_deref(), DEFAULT_REGISTRY)?,
        })
    }

    async fn image<'a>(&'a self, model: &ModelRef) -> Result<Image<'a>, Diagnostic> {
        let ModelRef::Ollama { name, tag } = model else {
            return Err(Diagnostic::internal(format!(
                "{model} is not a model of Ollama"
            )));
        };
        let (namespace, name) = name.split_once('/').unwrap_or((LIBRARY, name));
        if name.contains('/') {
            return Err(errors::other_registry(model));
        }
        let mut image = Image {
            http: &self.http,
            registry: &self.registry,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            tag: tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
            bearer: None,
        };
        image.bearer = image.token().await?;
        Ok(image)
    }

    async fn find(
        &self,
        model: &ModelRef,
        pinned: Option<&str>,
        engines: &EngineCheck,
    ) -> Result<Manifest, Diagnostic> {
        let image = self.image(model).await?;
        let (document, digest) = image.document(pinned).await?;
        let config = image.small_blob(&document.config).await?;
        document::check_format(&config)?;
        let (files, projectors) = document.files()?;
        let files = manifest::checked(files)?;
        let Some(weights) = files.first().filter(|file| file.role == Role::Weights) else {
            return Err(errors::no_model_layer());
        };
        let entry = weights.path.clone();
        let parts = vec![Weights {
            path: weights.path.clone(),
            size: weights.size,
            remote: image.remote(weights),
        }];
        let check = |reply: &_| image.check(reply);
        let header = header::gguf(&self.http, &check, parts, engines).await?;
        Ok(Manifest {
            model: image.reference(),
            revision: digest.to_string(),
            files,
            entry,
            header,
            projectors,
        })
    }
}

impl Image<'_> {
    /// Returns the one reference of a model.
    fn reference(&self) -> ModelRef {
        let name = match self.namespace.as_str() {
            LIBRARY => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        };
        ModelRef::Ollama {
            name,
            tag: (self.tag != DEFAULT_TAG).then(|| self.tag.clone()),
        }
    }

    /// Reads the manifest of a tag, or the pinned one if the tag has moved.
    async fn document(&self, pinned: Option<&str>) -> Result<(Document, Digest), Diagnostic> {
        let pinned = pinned.map(Digest::parse).transpose()?;
        let by_tag = self.manifest(&self.tag).await?;
        let (body, digest) = match pinned {
            Some(pinned) if pinned != by_tag.1 => {
                let found = self.manifest(&pinned.to_string()).await;
                let found = found.map_err(|error| errors::tag_moved(error, &self.tag))?;
                if found.1 != pinned {
                    return Err(errors::digest_mismatch("manifest"));
                }
                found
            }
            _ => by_tag,
        };
        Ok((Document::parse(&body)?, digest))
    }

    async fn manifest(&self, reference: &str) -> Result<(Vec<u8>, Digest), Diagnostic> {
        let request = Get {
            accept: Some(MANIFEST_TYPE),
            limit: MAX_DOCUMENT_BYTES,
            ..Get::new(self.manifest_url(reference)).bearer(self.bearer.as_ref())
        };
        let reply = self.http.get(&request).await?;
        self.check(&reply)?;
        let digest = Digest::of(&reply.body);
        Ok((reply.body.into(), digest))
    }

    /// Reads and verifies a small blob.
    async fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, Diagnostic> {
        let request = Get {
            limit: MAX_DOCUMENT_BYTES,
            ..Get::new(self.blob_url(&digest.to_string())).bearer(self.bearer.as_ref())
        };
        let reply = self.http.get(&request).await?;
        self.check(&reply)?;
        if Digest::of(&reply.body) != *digest {
            return Err(errors::digest_mismatch("configuration"));
        }
        Ok(reply.body.into())
    }

    fn remote(&self, file: &ManifestFile) -> RemoteFile {
        RemoteFile {
            url: self.blob_url(&file.remote).into(),
            bearer: self.bearer.clone(),
            size: Some(file.size),
            sha256: file.sha256,
        }
    }

    fn check(&self, reply: &Reply) -> Result<(), Diagnostic> {
        let name = format!("{}/{}", self.namespace, self.name);
        match reply.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(errors::not_found(
                &format!(
                    "the registry has no model {name}:{}",
                    excerpt(&self.tag, 80)
                ),
                "check the name and the tag of the model",
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(errors::access_denied(
                format!("the registry denies access to {name}"),
                "use a public model".to_owned(),
            )),
            status => Err(errors::unexpected_status(self.registry, status.as_u16())),
        }
    }

    fn manifest_url(&self, reference: &str) -> Url {
        self.url(&["manifests", reference])
    }

    fn blob_url(&self, digest: &str) -> Url {
        self.url(&["blobs", digest])
    }

    fn url(&self, rest: &[&str]) -> Url {
        let mut url = self.registry.clone();
        // An HTTP URL has path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments
                .extend(["v2", &self.namespace, &self.name])
                .extend(rest);
        }
        url
    }
}

impl ModelVendor for OllamaVendor {
    fn supports(&self, model: &ModelRef) -> bool {
        matches!(model, ModelRef::Ollama { .. })
    }

    fn resolve<'a>(
        &'a self,
        model: &'a ModelRef,
        revision: Option<&'a str>,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Manifest, Diagnostic>> {
        Box::pin(self.find(model, revision, &selection.engines))
    }

    fn locate<'a>(
        &'a self,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> BoxFuture<'a, Result<RemoteFile, Diagnostic>> {
        Box::pin(async {
            let image = self.image(&manifest.model).await?;
            Ok(image.remote(file))
        })
    }
}

/// Returns the SHA-256 of some bytes.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
