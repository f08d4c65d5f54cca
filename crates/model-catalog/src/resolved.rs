use std::path::Path;

use diagnostics::Diagnostic;
use hive_contract::ModelFormat;

use crate::errors;

/// A model as a worker opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedModel {
    /// Value of the worker's `--model`: a path, or the settings of the mock engine.
    pub argument: String,
    /// Storage format.
    pub format: ModelFormat,
    /// Size of the files; 0 for the mock engine.
    pub size_bytes: u64,
}

impl ResolvedModel {
    /// A GGUF file or a directory with safetensors files.
    pub(crate) fn at(path: &Path, size_bytes: u64) -> Result<Self, Diagnostic> {
        let argument = path.to_str().ok_or_else(|| errors::path_not_utf8(path))?;
        Ok(Self {
            argument: argument.to_owned(),
            format: if path.is_dir() {
                ModelFormat::Safetensors
            } else {
                ModelFormat::Gguf
            },
            size_bytes,
        })
    }
}
