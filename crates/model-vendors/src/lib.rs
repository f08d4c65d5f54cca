//! Where models come from. A [`ModelVendor`] turns a reference into a [`Manifest`]: the pinned
//! revision and the files that a model needs, with their sizes and hashes.
//!
//! # Adding a vendor
//!
//! Implement [`ModelVendor`] in a module of this crate, and add it in [`vendors`].

mod manifest;

pub use manifest::{Manifest, ManifestFile, Role, Selection};

use std::sync::Arc;

use diagnostics::Diagnostic;
use file_transfer::{Downloader, RemoteFile};
use futures_util::future::BoxFuture;
use input_validation::ModelRef;

/// A source of models.
pub trait ModelVendor: Send + Sync {
    /// Whether references of this kind belong to the vendor.
    fn supports(&self, model: &ModelRef) -> bool;

    /// Finds the files of a model, without fetching its weights. `revision` is the pinned
    /// revision; without it the reference's own, or the newest, is resolved and returned.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `MODEL_ACCESS_DENIED`, `UNSUPPORTED_MODEL`,
    /// `UNSUPPORTED_QUANTIZATION`, `INVALID_MODEL_FILE`, `DOWNLOAD_FAILED`.
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
}

/// Endpoints and credentials of the vendors, read from the environment by the binaries.
#[derive(Debug, Clone, Default)]
pub struct VendorSettings {
    /// URL of the hub; default `https://huggingface.co` (`HF_ENDPOINT`).
    pub hub_endpoint: Option<String>,
    /// Token of the hub (`HF_TOKEN`, or the file `token` in `HF_HOME`).
    pub hub_token: Option<file_transfer::Secret>,
    /// URL of Ollama's registry; default `https://registry.ollama.ai`.
    pub ollama_registry: Option<String>,
}

/// Creates all vendors.
pub fn vendors(
    settings: &VendorSettings,
    downloader: &Downloader,
) -> Result<Vec<Arc<dyn ModelVendor>>, Diagnostic> {
    let _ = (settings, downloader);
    Ok(Vec::new())
}
