//! Model source: files of the user.

use std::{fs, io, path::Path};

use diagnostics::Diagnostic;
use hive_contract::ModelFormat;
use input_validation::ModelRef;
use jiff::Timestamp;
use model_format::{ModelHeader, gguf_parts};
use worker_contract::SamplingValues;

use crate::{database::ModelRow, errors, fingerprint::Fingerprint, resolved::ResolvedModel};

/// Resolves a path to a GGUF file, or a directory with config, tokenizer and safetensors.
///
/// Errors: `MODEL_NOT_FOUND` if a file is missing or not readable.
pub(crate) fn resolve(path: &Path) -> Result<ResolvedModel, Diagnostic> {
    let io_error = |error: io::Error| errors::no_model_at(path, error);
    let is_gguf = || {
        let extension = path.extension();
        extension.is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    };
    let size_bytes = if fs::metadata(path).map_err(io_error)?.is_dir() {
        for name in ["config.json", "tokenizer.json"] {
            readable_size(&path.join(name))
                .map_err(|e| errors::no_model_at(path, format!("{name}: {e}")))?;
        }
        let mut total = 0;
        for entry in fs::read_dir(path).map_err(io_error)? {
            let file = entry.map_err(io_error)?.path();
            if file.extension().is_some_and(|e| e == "safetensors") {
                total += readable_size(&file).map_err(io_error)?;
            }
        }
        if total == 0 {
            let reason = "the directory contains no *.safetensors";
            return Err(errors::no_model_at(path, reason));
        }
        total
    } else if is_gguf() {
        fs::metadata(path).map_err(io_error)?;
        let mut total = 0;
        for part in gguf_parts(path)? {
            total += readable_size(&part).map_err(|e| errors::no_model_at(&part, e))?;
        }
        total
    } else {
        return Err(errors::no_model_at(path, "not a .gguf file"));
    };
    ResolvedModel::at(path, size_bytes)
}

/// Returns the size of a file after opening it. Rejects anything but regular files, because
/// opening a pipe may block forever.
fn readable_size(path: &Path) -> io::Result<u64> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(fs::File::open(path)?.metadata()?.len())
}

/// The row by which files of the user are remembered.
pub(crate) fn row(
    model: &ModelRef,
    resolved: &ResolvedModel,
    header: ModelHeader,
    loaded: Option<Fingerprint>,
    now: Timestamp,
) -> ModelRow {
    ModelRow {
        model: model.clone(),
        directory: None,
        entry: resolved.argument.clone(),
        revision: String::new(),
        sha256: String::new(),
        size_bytes: resolved.size_bytes,
        safetensors: resolved.format == ModelFormat::Safetensors,
        architecture: header.architecture,
        quantization: header.quantization,
        context_length: header.context_length,
        parameters: header.parameters,
        sampling: SamplingValues::recommended(&header.sampling.values).0,
        added_at: now,
        last_used_at: Some(now),
        problem: None,
        loaded,
    }
}
