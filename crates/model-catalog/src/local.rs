//! Model source: files of the user.

use std::{fs, io, path::Path};

use diagnostics::Diagnostic;
use model_format::gguf_parts;

use crate::{errors, resolved::ResolvedModel};

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
