//! Where models come from. A [`ModelVendor`] turns a reference into a [`Manifest`]: the pinned
//! revision and the files that a model needs, with their sizes and hashes. What vendors send is
//! hostile input: responses, listings and names are limited and checked.
//!
//! # Adding a vendor
//!
//! Implement [`ModelVendor`] in a module of this crate, and add it in [`vendors`].

#![warn(missing_docs)]

mod errors;
mod header;
mod http;
mod hub;
mod label;
mod manifest;
mod nodes;
mod ollama;
mod paths;
mod select;
mod settings;

pub use manifest::{EngineCheck, Manifest, ManifestFile, Role, Selection};
pub use settings::VendorSettings;

use std::{path::PathBuf, sync::Arc};

use diagnostics::Diagnostic;
use file_transfer::{RemoteFile, Secret};
use futures_util::future::BoxFuture;
use input_validation::ModelRef;

use crate::{http::Http, hub::HubVendor, nodes::OtherNodes, ollama::OllamaVendor};

/// A source of models.
pub trait ModelVendor: Send + Sync {
    /// Whether references of this kind belong to the vendor.
    fn supports(&self, model: &ModelRef) -> bool;

    /// Finds the files of a model, without fetching its weights. `revision` is the pinned
    /// revision; without it the reference's own, or the newest, is resolved and returned.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `MODEL_ACCESS_DENIED`, `INVALID_MODEL_REF` if the reference is
    /// ambiguous, `UNSUPPORTED_MODEL`, `UNSUPPORTED_QUANTIZATION`, `INVALID_MODEL_FILE`,
    /// `DOWNLOAD_FAILED`.
    fn resolve<'a>(
        &'a self,
        model: &'a ModelRef,
        revision: Option<&'a str>,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Manifest, Diagnostic>>;

    /// Returns where to fetch a file of a manifest from. The credentials are fresh.
    fn locate<'a>(
        &'a self,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> BoxFuture<'a, Result<RemoteFile, Diagnostic>>;

    /// Returns where the vendor's own tools keep a file of a manifest on this machine. The file
    /// need not exist, and its content is not checked.
    fn local_copy(&self, _manifest: &Manifest, _file: &ManifestFile) -> Option<PathBuf> {
        None
    }
}

/// Creates all vendors.
///
/// Errors: `CONFIG_INVALID` if an endpoint is not the URL of a server.
pub fn vendors(settings: &VendorSettings) -> Result<Vec<Arc<dyn ModelVendor>>, Diagnostic> {
    let http = Http::default();
    Ok(vec![
        Arc::new(HubVendor::new(settings, http.clone())?),
        Arc::new(OllamaVendor::new(settings, http)?),
    ])
}

/// Creates the source of the models that the other nodes of a queen have. `token` is the one of
/// this node.
///
/// Errors: `INVALID_REQUEST` if the text is not the URL of a server.
pub fn other_nodes(queen_url: &str, token: Secret) -> Result<Arc<dyn ModelVendor>, Diagnostic> {
    Ok(Arc::new(OtherNodes::new(queen_url, token)?))
}
