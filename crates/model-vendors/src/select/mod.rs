//! Which files of a repository belong to a model. Pure: decides by the listing only.

mod choose;
#[cfg(test)]
mod tests;

pub(crate) use choose::{NotSelected, choose};

use std::collections::BTreeMap;

use model_format::PartName;

use crate::label;

/// Word of a reference that selects the safetensors files of a repository.
pub(crate) const SAFETENSORS: &str = "safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Files of a repository that a model with safetensors files needs.
pub(crate) const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files of a repository that a model with safetensors files uses, if they exist.
const OPTIONAL: [&str; 9] = [
    "1_Pooling/config.json",
    "LICENSE",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "modules.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: Option<[u8; 32]>,
}

/// The files of a repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    /// Files by path.
    pub(crate) files: BTreeMap<String, RepoFile>,
    /// Paths of what is neither a file nor a folder.
    pub(crate) irregular: Vec<String>,
}

impl Listing {
    /// Returns the files that accompany safetensors files.
    pub(crate) fn companions(&self) -> Vec<RepoFile> {
        let names = REQUIRED.iter().chain(&OPTIONAL);
        names
            .filter_map(|name| self.files.get(*name))
            .cloned()
            .collect()
    }
}

/// A model in GGUF files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufModel {
    /// The file, or the parts of the model in order.
    pub(crate) files: Vec<RepoFile>,
    /// Type of the weights as the names state it.
    pub(crate) label: Option<String>,
    /// Name of a part that is missing.
    pub(crate) missing: Option<String>,
}

impl GgufModel {
    /// Path of the first file.
    pub(crate) fn path(&self) -> &str {
        self.files.first().map_or("", |file| &file.path)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }

    pub(crate) fn is_runnable(&self) -> bool {
        self.label.as_deref().is_none_or(label::is_runnable)
    }
}

/// The safetensors files of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SafetensorsModel {
    /// The index, which names the shards.
    Sharded(RepoFile),
    /// The only file.
    Single(RepoFile),
}

/// A model that a repository has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidate {
    Gguf(GgufModel),
    Safetensors(SafetensorsModel),
}

/// All models of a repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    pub(crate) gguf: Vec<GgufModel>,
    pub(crate) safetensors: Option<SafetensorsModel>,
    /// Paths of files that provide vision.
    pub(crate) projectors: Vec<String>,
    /// Paths of weights in other formats.
    pub(crate) others: Vec<String>,
}

impl Candidates {
    pub(crate) fn of(listing: &Listing) -> Self {
        let mut found = Self::default();
        let mut split: BTreeMap<(&str, &str, usize), BTreeMap<usize, &RepoFile>> = BTreeMap::new();
        for file in listing.files.values() {
            let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            let lower = name.to_ascii_lowercase();
            let is = |extensions: &[&str]| extensions.iter().any(|e| lower.ends_with(e));
            if !is(&[".gguf"]) {
                if is(&[
                    ".bin",
                    ".pt",
                    ".pth",
                    ".onnx",
                    ".safetensors",
                    ".h5",
                    ".msgpack",
                ]) {
                    found.others.push(file.path.clone());
                }
            } else if lower.contains("mmproj") {
                found.projectors.push(file.path.clone());
            } else if lower.contains("imatrix") {
                // Statistics that quantization used.
            } else if let Some(part) = PartName::parse(name) {
                let parts = split.entry((folder, part.stem, part.count)).or_default();
                parts.insert(part.part, file);
            } else {
                found.gguf.push(GgufModel {
                    files: vec![file.clone()],
                    label: label::of_path(&file.path),
                    missing: None,
                });
            }
        }
        found
            .gguf
            .extend(split.into_iter().map(|((folder, stem, count), parts)| {
                let missing = (1..=count).find(|part| !parts.contains_key(part));
                let name = |part| format!("{stem}-{part:05}-of-{count:05}.gguf");
                GgufModel {
                    files: parts.into_values().cloned().collect(),
                    label: label::of_path(&format!("{folder}/{stem}")),
                    missing: missing.map(name),
                }
            }));
        found.gguf.sort_by(|a, b| a.path().cmp(b.path()));
        let file = |name| listing.files.get(name).cloned();
        found.safetensors = file(INDEX)
            .map(SafetensorsModel::Sharded)
            .or_else(|| file(SINGLE).map(SafetensorsModel::Single));
        found
    }

    /// Returns what selects a model in a reference: the type of its weights if it is the only
    /// model with this type, otherwise its path.
    pub(crate) fn selection_of(&self, model: &GgufModel) -> String {
        let same = |other: &&GgufModel| other.label == model.label;
        match &model.label {
            Some(label) if self.gguf.iter().filter(same).count() == 1 => label.clone(),
            _ => model.path().to_owned(),
        }
    }

    /// Returns what a user can select that the engine can probably run, with the sizes.
    pub(crate) fn runnable(&self) -> Vec<(String, Option<u64>)> {
        let complete = self
            .gguf
            .iter()
            .filter(|m| m.is_runnable() && m.missing.is_none());
        let gguf = complete.map(|model| (self.selection_of(model), Some(model.bytes())));
        let safetensors = self.safetensors.iter().map(|model| {
            let size = match model {
                SafetensorsModel::Single(file) => Some(file.size),
                SafetensorsModel::Sharded(_) => None,
            };
            (SAFETENSORS.to_owned(), size)
        });
        gguf.chain(safetensors).collect()
    }
}
