use std::{collections::BTreeSet, fmt, sync::Arc};

use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef};
use model_format::ModelHeader;

use crate::{errors, paths};

/// Maximum size of a file that is not weights.
const MAX_COMPANION_BYTES: u64 = 1 << 30;

/// What a file of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weights: a GGUF file, one of its parts, or a safetensors shard.
    Weights,
    /// Tokenizer, configuration, chat template, license and the like.
    Companion,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative path in the model's directory. It has no `..`, no control characters and no
    /// empty segments.
    pub path: String,
    /// Name of the file at the vendor: a path in a repository, or a digest.
    pub remote: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, if the vendor publishes one.
    pub sha256: Option<[u8; 32]>,
    /// What the file is for.
    pub role: Role,
}

/// The files of a model at one revision.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Canonical reference, with the file or the type of the weights that was selected.
    pub model: ModelRef,
    /// Pinned revision: a commit, or the digest of a manifest.
    pub revision: String,
    /// The files to fetch. Weights come first.
    pub files: Vec<ManifestFile>,
    /// What a worker opens, relative to the model's directory: a file, or `""` for the
    /// directory.
    pub entry: String,
    /// Header of the weights, read by range requests.
    pub header: ModelHeader,
    /// Files that provide vision for the model (`mmproj`), which are not fetched.
    pub projectors: Vec<String>,
}

impl Manifest {
    /// Size of all files in bytes.
    pub fn size(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

/// What is known about the target when a file is selected.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Memory for the weights, in bytes. Without it, fit is not considered.
    pub memory_bytes: Option<u64>,
    /// Which models can run there.
    pub engines: EngineCheck,
}

/// Checks by its header whether a model can run on a machine.
#[derive(Clone)]
pub struct EngineCheck(Arc<HeaderCheck>);

type HeaderCheck = dyn Fn(&ModelHeader) -> Result<(), Diagnostic> + Send + Sync;

impl EngineCheck {
    /// A check by the engines of a machine, which may block.
    pub fn new(
        check: impl Fn(&ModelHeader) -> Result<(), Diagnostic> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(check))
    }

    /// Refuses a model that no engine runs.
    pub(crate) fn check(&self, header: &ModelHeader) -> Result<(), Diagnostic> {
        (self.0)(header)
    }
}

impl Default for EngineCheck {
    /// Only the engine of rbee, on a CPU.
    fn default() -> Self {
        Self::new(|header| {
            let engines = [engine_choice::builtin()?];
            let needs = engine_choice::Needs::of_model(header, Backend::Cpu);
            engine_choice::choose(&needs, &engines, None).map(drop)
        })
    }
}

impl fmt::Debug for EngineCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineCheck")
    }
}

/// Checks that files can be stored together in one directory, wherever their names come from.
pub(crate) fn checked(files: Vec<ManifestFile>) -> Result<Vec<ManifestFile>, Diagnostic> {
    let mut known = BTreeSet::new();
    for file in &files {
        paths::check(&file.path).map_err(|problem| errors::unsafe_path(&file.path, problem))?;
        if !known.insert(file.path.as_str()) {
            return Err(errors::unsafe_path(&file.path, "occurs twice"));
        }
        if file.role == Role::Companion && file.size > MAX_COMPANION_BYTES {
            return Err(errors::companion_too_large(
                &file.path,
                file.size,
                MAX_COMPANION_BYTES,
            ));
        }
    }
    for file in &files {
        let mut folders = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        if folders.any(|folder| known.contains(folder)) {
            return Err(errors::unsafe_path(
                &file.path,
                "is in a folder that is a file",
            ));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, size: u64) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            remote: path.to_owned(),
            size,
            sha256: None,
            role: Role::Companion,
        }
    }

    #[test]
    fn files_that_exclude_each_other_are_refused() {
        for (paths, problem) in [
            (["a", "a"], "occurs twice"),
            (["a/b", "a"], "in a folder that is a file"),
            (["a", "a/b/c"], "in a folder that is a file"),
            (["a", "../b"], "leaves its folder"),
        ] {
            let error = checked(paths.map(|path| file(path, 1)).to_vec()).unwrap_err();
            assert!(error.message.contains(problem), "{error}");
        }
        checked(vec![
            file("a", 1),
            file("ab", 1),
            file("b/a", MAX_COMPANION_BYTES),
        ])
        .unwrap();
        let error = checked(vec![file("a", MAX_COMPANION_BYTES + 1)]).unwrap_err();
        assert!(error.message.contains("the limit is 1073741824"), "{error}");
    }

    proptest! {
        #[test]
        fn no_file_of_a_manifest_leaves_the_directory(
            paths in prop::collection::vec("[ab./\\\\-]{0,8}", 1..5),
        ) {
            let files = paths.iter().map(|path| file(path, 1)).collect();
            for file in checked(files).unwrap_or_default() {
                let joined = Path::new("/dir").join(&file.path);
                prop_assert!(joined.starts_with("/dir") && joined != Path::new("/dir"));
                prop_assert!(!joined.components().any(|part| part.as_os_str() == ".."));
            }
        }
    }
}
