use std::{path::PathBuf, sync::Arc};

use diagnostics::Diagnostic;
use file_transfer::Secret;
use input_validation::ModelRef;
use model_vendors::{Manifest, ModelVendor, Selection, VendorSettings, vendors};
use sim::{hub::Hub, ollama::Registry};

pub fn haiku(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/haiku")
        .join(name)
}

pub fn q8() -> PathBuf {
    haiku("rbee-haiku-tiny-q8_0.gguf")
}

pub fn f16() -> PathBuf {
    haiku("rbee-haiku-tiny-f16.gguf")
}

pub fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

/// All vendors with one set of settings.
pub struct Vendors(Vec<Arc<dyn ModelVendor>>);

impl Vendors {
    pub fn new(settings: &VendorSettings) -> Self {
        Self(vendors(settings).unwrap())
    }

    pub fn of_hub(hub: &Hub, token: Option<&str>) -> Self {
        Self::new(&VendorSettings {
            hub_endpoint: Some(hub.url()),
            hub_token: token.map(Secret::new),
            ..VendorSettings::default()
        })
    }

    pub fn of_registry(registry: &Registry) -> Self {
        Self::new(&VendorSettings {
            ollama_registry: Some(registry.url()),
            ..VendorSettings::default()
        })
    }

    pub fn of(&self, model: &ModelRef) -> &dyn ModelVendor {
        let mut supporting = self.0.iter().filter(|vendor| vendor.supports(model));
        let vendor = supporting.next().unwrap();
        assert!(supporting.next().is_none(), "{model} has one vendor");
        &**vendor
    }

    pub async fn resolve(&self, text: &str) -> Result<Manifest, Diagnostic> {
        self.resolve_at(text, None).await
    }

    pub async fn resolve_at(
        &self,
        text: &str,
        revision: Option<&str>,
    ) -> Result<Manifest, Diagnostic> {
        let model = model(text);
        let vendor = self.of(&model);
        vendor
            .resolve(&model, revision, &Selection::default())
            .await
    }

    /// Fetches a file as anyone would with the location.
    pub async fn fetch(&self, manifest: &Manifest, index: usize) -> Vec<u8> {
        let file = &manifest.files[index];
        let remote = self
            .of(&manifest.model)
            .locate(manifest, file)
            .await
            .unwrap();
        assert_eq!(remote.size, Some(file.size));
        assert_eq!(remote.sha256, file.sha256);
        let mut request = reqwest::Client::new().get(&remote.url);
        if let Some(token) = &remote.bearer {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.unwrap().error_for_status().unwrap();
        response.bytes().await.unwrap().to_vec()
    }
}

pub fn paths(manifest: &Manifest) -> Vec<&str> {
    manifest
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}
