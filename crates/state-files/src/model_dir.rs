use std::{
    fs, io,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use worker_contract::SamplingValues;

use crate::{
    Stored,
    errors::unusable,
    record::{self, Record},
};

/// Directories of the models of one source, by the word before the `:` of their references.
const SOURCES: [&str; 2] = ["hf", "ollama"];
/// Maximum length of the readable part of a directory's name.
const SLUG_LENGTH: usize = 60;

/// `models`: one directory for each fetched model and revision, below the one of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDirs(PathBuf);

impl ModelDirs {
    /// The model directories below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The directory that contains them.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of a revision of a model, which need not exist. Its name has no separators,
    /// whatever the reference is.
    pub fn of(&self, model: &ModelRef, revision: &str) -> ModelDir {
        let reference = model.to_string();
        let (source, name) = reference.split_once(':').unwrap_or(("other", &reference));
        let slug: String = name.chars().take(SLUG_LENGTH).map(safe).collect();
        let digest = Sha256::digest(format!("{reference}\n{revision}"));
        let name = format!("{}-{}", slug, hex::encode(&digest[..8]));
        ModelDir(self.0.join(source).join(name))
    }

    /// The directory with this name, as [`ModelDir::name`] returns it.
    pub fn named(&self, name: &str) -> ModelDir {
        ModelDir(self.0.join(name))
    }

    /// All directories that exist, complete or not.
    pub fn existing(&self) -> Result<Vec<ModelDir>, Diagnostic> {
        let mut found = Vec::new();
        for source in SOURCES {
            let source = self.0.join(source);
            let entries = match fs::read_dir(&source) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(unusable(&source, &e)),
            };
            for entry in entries {
                found.push(ModelDir(entry.map_err(|e| unusable(&source, &e))?.path()));
            }
        }
        Ok(found)
    }
}

fn safe(c: char) -> char {
    if c.is_ascii_alphanumeric() || "._".contains(c) {
        c
    } else {
        '-'
    }
}

/// Directory of one revision of a model: its files, and its record once they are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir(PathBuf);

impl ModelDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path below [`ModelDirs::path`].
    pub fn name(&self) -> String {
        let mut parts = self.0.iter().rev().map(|part| part.to_string_lossy());
        let own = parts.next().unwrap_or_default();
        format!("{}/{own}", parts.next().unwrap_or_default())
    }

    /// Directory of the model's own files.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// File of the [`ModelRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("model.json")
    }

    /// Lock that a hive holds while it changes the directory.
    pub fn lock(&self) -> PathBuf {
        self.0.join("pull.lock")
    }
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path below [`ModelDir::files`].
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A model whose files are complete. Hives that share the directory of models read it, and the
/// catalog is rebuilt from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Canonical reference.
    pub model: ModelRef,
    /// Reference by which it was first requested.
    pub requested: ModelRef,
    /// Pinned revision.
    pub revision: String,
    /// What a worker opens, below [`ModelDir::files`]; empty for the directory itself.
    pub entry: String,
    /// The files.
    pub files: Vec<ModelFile>,
    /// Architecture: `llama`.
    pub architecture: String,
    /// Type of the weights: `Q4_K_M`.
    pub quantization: String,
    /// Maximum length of prompt and output together, in tokens.
    pub context_length: u32,
    /// Number of weights.
    pub parameters: u64,
    /// Parameters of the sampler that the model recommends.
    pub sampling: SamplingValues,
    /// SHA-256 of the file of weights, or of the list of several, in hexadecimal.
    pub sha256: String,
    /// Time at which the files were complete.
    pub added_at: Timestamp,
}

impl Record for ModelRecord {
    const FORMAT: u64 = 2;
}

impl ModelRecord {
    /// Reads the record of a directory.
    pub fn read(dir: &ModelDir) -> Result<Stored<Self>, Diagnostic> {
        record::read(&dir.record())
    }

    /// Writes the record of a directory, which must exist.
    pub fn write(&self, dir: &ModelDir) -> Result<(), Diagnostic> {
        record::write(&dir.record(), self)
    }

    /// Size of all files, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_name_without_separators_and_one_for_each_revision() {
        let dirs = ModelDirs::new("/m".into());
        let dir = |model: &str, revision: &str| dirs.of(&model.parse().unwrap(), revision);
        let one = dir("hf:org/repo:sub/model.gguf", "c1");
        let name = one.name();
        assert!(name.starts_with("hf/org-repo-sub-model.gguf-"), "{name}");
        assert_eq!(name.matches('/').count(), 1);
        assert_eq!(one.path(), Path::new("/m").join(&name));
        assert_eq!(dirs.named(&name), one);
        assert_ne!(one, dir("hf:org/repo:sub/model.gguf", "c2"));
        assert_ne!(one, dir("hf:org/repo-sub:model.gguf", "c1"));
        assert!(dir("ollama:a:b", "d").name().starts_with("ollama/a-b-"));
    }

    #[test]
    fn a_record_is_found_in_its_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let dirs = ModelDirs::new(temporary.path().to_owned());
        assert_eq!(dirs.existing(), Ok(Vec::new()));
        let record = ModelRecord {
            model: "hf:org/repo:Q4_0".parse().unwrap(),
            requested: "hf:org/repo".parse().unwrap(),
            revision: "c1".into(),
            entry: "model.gguf".into(),
            files: vec![ModelFile {
                path: "model.gguf".into(),
                size_bytes: 7,
                sha256: "00".into(),
            }],
            architecture: "llama".into(),
            quantization: "Q4_0".into(),
            context_length: 512,
            parameters: 10,
            sampling: SamplingValues {
                temperature: Some(0.6),
                ..SamplingValues::default()
            },
            sha256: "00".into(),
            added_at: Timestamp::UNIX_EPOCH,
        };
        let dir = dirs.of(&record.model, "c1");
        fs::create_dir_all(dir.path()).unwrap();
        assert_eq!(ModelRecord::read(&dir), Ok(Stored::Missing));
        record.write(&dir).unwrap();
        assert_eq!(dirs.existing(), Ok(vec![dir.clone()]));
        assert_eq!(ModelRecord::read(&dir), Ok(Stored::Intact(record)));
    }
}
