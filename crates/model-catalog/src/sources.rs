use std::{path::Path, sync::Arc};

use diagnostics::Diagnostic;
use file_transfer::{Downloader, Fetched, RemoteFile, TransferProgress};
use futures_util::future::BoxFuture;
use input_validation::ModelRef;
use model_vendors::{Manifest, ModelVendor, Selection};
use tokio_util::sync::CancellationToken;

use crate::{ModelCatalog, errors, turns::Turns};

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

    /// Space that a fetch leaves on the disk, in bytes.
    fn reserve_bytes(&self) -> u64 {
        0
    }
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

    fn reserve_bytes(&self) -> u64 {
        Self::reserve_bytes(self)
    }
}

/// Creates the source of the models that other nodes have, from the URL of the queen.
type OtherNodes = dyn Fn(&str) -> Result<Arc<dyn ModelVendor>, Diagnostic> + Send + Sync;

/// How models are copied from other nodes.
pub struct Copies {
    /// Creates their source.
    pub other_nodes: Box<OtherNodes>,
    /// Fetches their files.
    pub fetch: Arc<dyn Fetch>,
}

/// Where models come from, and where they go.
pub(crate) struct Sources {
    pub(crate) catalog: Arc<ModelCatalog>,
    pub(crate) vendors: Vec<Arc<dyn ModelVendor>>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) copies: Option<Copies>,
    pub(crate) selection: Selection,
    pub(crate) turns: Turns,
}

/// Where one pull gets its files from.
pub(crate) struct Origin {
    pub(crate) vendor: Arc<dyn ModelVendor>,
    pub(crate) fetch: Arc<dyn Fetch>,
    /// Whether the files are those of other nodes.
    pub(crate) is_copy: bool,
}

impl Sources {
    pub(crate) fn vendor(&self, model: &ModelRef) -> Result<&Arc<dyn ModelVendor>, Diagnostic> {
        let mut vendors = self.vendors.iter();
        vendors
            .find(|vendor| vendor.supports(model))
            .ok_or_else(|| errors::no_vendor(model))
    }

    /// The vendor of a model.
    pub(crate) fn origin(&self, model: &ModelRef) -> Result<Origin, Diagnostic> {
        Ok(Origin {
            vendor: Arc::clone(self.vendor(model)?),
            fetch: Arc::clone(&self.fetch),
            is_copy: false,
        })
    }

    /// The other nodes, through the queen.
    pub(crate) fn other_nodes(&self, queen_url: &str) -> Result<Origin, Diagnostic> {
        let copies = self.copies.as_ref().ok_or_else(errors::no_copies)?;
        Ok(Origin {
            vendor: (copies.other_nodes)(queen_url)?,
            fetch: Arc::clone(&copies.fetch),
            is_copy: true,
        })
    }

    /// Finds the files of a model at its vendor.
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
