use std::{path::Path, sync::Arc};

use diagnostics::Diagnostic;
use file_transfer::{Downloader, Fetched, RemoteFile, TransferProgress};
use futures_util::future::BoxFuture;
use input_validation::ModelRef;
use model_vendors::{Manifest, ModelVendor, Selection};
use tokio_util::sync::CancellationToken;

use crate::{ModelCatalog, errors};

/// Fetches a file. [`Downloader`] does it over HTTP.
pub trait Fetch: Send + Sync {
    /// Like [`Downloader::fetch`].
    fn fetch<'a>(
        &'a self,
        file: &'a RemoteFile,
        target: &'a Path,
        progress: &'a (dyn Fn(TransferProgress) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Fetched, Diagnostic>>;
}

impl Fetch for Downloader {
    fn fetch<'a>(
        &'a self,
        file: &'a RemoteFile,
        target: &'a Path,
        progress: &'a (dyn Fn(TransferProgress) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Fetched, Diagnostic>> {
        Box::pin(Self::fetch(self, file, target, progress, cancel))
    }
}

/// Where models come from, and where they go.
pub(crate) struct Sources {
    pub(crate) catalog: Arc<ModelCatalog>,
    pub(crate) vendors: Vec<Arc<dyn ModelVendor>>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) selection: Selection,
}

impl Sources {
    pub(crate) fn vendor(&self, model: &ModelRef) -> Result<&Arc<dyn ModelVendor>, Diagnostic> {
        let mut vendors = self.vendors.iter();
        vendors
            .find(|vendor| vendor.supports(model))
            .ok_or_else(|| errors::no_vendor(model))
    }

    pub(crate) async fn resolve(
        &self,
        model: &ModelRef,
        revision: Option<&str>,
    ) -> Result<Manifest, Diagnostic> {
        let vendor = self.vendor(model)?;
        vendor.resolve(model, revision, &self.selection).await
    }
}

/// Whether the files of a model are fetched from elsewhere.
pub(crate) fn is_remote(model: &ModelRef) -> bool {
    matches!(model, ModelRef::Hub { .. } | ModelRef::Ollama { .. })
}
