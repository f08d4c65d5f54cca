//! The errors of this crate, each with its message and hint.

use std::{fmt::Display, io::Error, path::Path};

use diagnostics::{Code, Diagnostic, escape};
use input_validation::ModelRef;

/// `name` and `known` are references of built-in models.
pub(crate) fn unknown_builtin(name: &str, known: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("unknown built-in model `{name}`"),
    )
    .hint(format!("use one of: `{}`", known.join("`, `")))
}

pub(crate) fn not_fetched(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("the model {model} is not on this node"),
    )
}

pub(crate) fn no_model_at(path: &Path, reason: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("no model at {}: {reason}", escape(&path.to_string_lossy())),
    )
    .hint(
        "specify a `.gguf` file, or a directory with `config.json`, `tokenizer.json` and \
         `*.safetensors`",
    )
}

pub(crate) fn path_not_utf8(path: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("the path is not UTF-8: {}", escape(&path.to_string_lossy())),
    )
    .hint("set `RBEE_HOME` to a directory with a UTF-8 path")
}

pub(crate) fn storage(path: &Path, error: &Error) -> Diagnostic {
    let path = escape(&path.to_string_lossy());
    Diagnostic::storage(format!("cannot use {path}: {error}"), error)
}
