//! Manifests of Ollama's registry.

use std::{collections::BTreeMap, fmt};

use diagnostics::Diagnostic;
use serde::Deserialize;

use super::sha256;
use crate::{ManifestFile, Role, errors};

/// Maximum number of layers; models have less than ten.
const MAX_LAYERS: usize = 100;
const LAYER_TYPE: &str = "application/vnd.ollama.image.";

/// Hash of a blob or a manifest: `sha256:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn parse(text: &str) -> Result<Self, Diagnostic> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix("sha256:");
        let decoded = digits.is_some_and(|digits| hex::decode_to_slice(digits, &mut hash).is_ok());
        if decoded {
            Ok(Self(hash))
        } else {
            Err(errors::invalid_digest(text))
        }
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// The manifest of a model.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) config: Digest,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Last part of the media type: `model`, `template`.
    kind: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct RawDocument {
    config: RawLayer,
    layers: Vec<RawLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
struct RawConfig {
    model_format: Option<String>,
}

impl Document {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Diagnostic> {
        let raw: RawDocument = serde_json::from_slice(json)
            .map_err(|e| errors::invalid_manifest(e.line(), e.column()))?;
        if raw.layers.len() > MAX_LAYERS {
            return Err(errors::too_many_files(MAX_LAYERS));
        }
        let layer = |layer: RawLayer| {
            let kind = layer
                .media_type
                .strip_prefix(LAYER_TYPE)
                .unwrap_or_default();
            Ok(Layer {
                kind: kind.to_owned(),
                digest: Digest::parse(&layer.digest)?,
                size: layer.size,
            })
        };
        Ok(Self {
            config: Digest::parse(&raw.config.digest)?,
            layers: raw
                .layers
                .into_iter()
                .map(layer)
                .collect::<Result<_, Diagnostic>>()?,
        })
    }

    /// Returns the files of the model, the weights first, and the digests of projectors.
    pub(super) fn files(&self) -> Result<(Vec<ManifestFile>, Vec<String>), Diagnostic> {
        let (mut weights, mut companions, mut projectors) = (Vec::new(), Vec::new(), Vec::new());
        let mut used = BTreeMap::<&str, usize>::new();
        for layer in &self.layers {
            let (name, extension) = match layer.kind.as_str() {
                "model" => ("model", ".gguf"),
                "template" => ("template", ""),
                "system" => ("system", ""),
                "license" => ("license", ""),
                "params" => ("params", ".json"),
                "messages" => ("messages", ".json"),
                "projector" => {
                    projectors.push(layer.digest.to_string());
                    continue;
                }
                "adapter" => return Err(errors::adapter()),
                _ => continue,
            };
            let count = used.entry(name).or_default();
            *count += 1;
            let number = if *count > 1 {
                format!("-{count}")
            } else {
                String::new()
            };
            let role = if name == "model" {
                Role::Weights
            } else {
                Role::Companion
            };
            let files = if name == "model" {
                &mut weights
            } else {
                &mut companions
            };
            files.push(ManifestFile {
                path: format!("{name}{number}{extension}"),
                remote: layer.digest.to_string(),
                size: layer.size,
                sha256: Some(layer.digest.0),
                role,
            });
        }
        match weights.len() {
            0 => Err(errors::no_model_layer()),
            1 => Ok(([weights, companions].concat(), projectors)),
            count => Err(errors::several_model_layers(count)),
        }
    }
}

/// Checks the format of the weights that the configuration of a model states.
pub(super) fn check_format(config: &[u8]) -> Result<(), Diagnostic> {
    let parsed: Option<RawConfig> = serde_json::from_slice(config).ok();
    match parsed.and_then(|config| config.model_format) {
        Some(format) if !format.eq_ignore_ascii_case("gguf") => {
            Err(errors::unsupported_format(&format))
        }
        _ => Ok(()),
    }
}
