//! The errors of this crate, each with its message and hint.

use std::{fmt::Display, io::Error, path::Path};

use diagnostics::{Code, Diagnostic, bytes, escape, excerpt};
use hive_contract::ContentQuery;
use input_validation::{ModelAlias, ModelRef, WorkerId};
use state_files::ModelDirs;

/// `name` is the name of a built-in model, and `known` are references of those that exist.
pub(crate) fn unknown_builtin(name: &str, known: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("`{name}` is neither a built-in model nor an alias"),
    )
    .hint(format!(
        "use one of: `{}`, a name that `rbee-keeper model alias` lists, or a reference such as \
         `hf:org/repo` or `ollama:name`",
        known.join("`, `")
    ))
}

/// The problem of a model whose file a worker has loaded and that has changed since.
pub(crate) const REPLACED: &str = "its file was replaced after a worker loaded it; \
     the next worker that starts uses the new file";

pub(crate) fn not_fetched(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("the model {model} is not on this node"),
    )
    .hint(format!("fetch it with `rbee-keeper model pull {model}`"))
}

pub(crate) fn files_gone(model: &ModelRef, path: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!(
            "the files of {model} are missing: {}",
            escape(&path.to_string_lossy())
        ),
    )
    .hint(format!(
        "fetch them again with `rbee-keeper model pull {model}`"
    ))
}

pub(crate) fn directory_gone(model: &ModelRef, dirs: &ModelDirs, directory: &str) -> String {
    let path = dirs.named(directory);
    format!(
        "{model} is no longer listed: its directory {} was removed",
        escape(&path.path().to_string_lossy())
    )
}

pub(crate) fn rebuilt(database: &Path, aside: &Path, models: usize) -> String {
    format!(
        "{} was damaged and is now {}; the catalog was rebuilt with {models} models from disk, \
         without aliases and times of use",
        escape(&database.to_string_lossy()),
        escape(&aside.to_string_lossy()),
    )
}

/// `workers` are the ids of the workers that have loaded the model.
pub(crate) fn in_use(model: &ModelRef, workers: &[WorkerId]) -> Diagnostic {
    let names: Vec<String> = workers.iter().map(ToString::to_string).collect();
    let stop: Vec<String> = names
        .iter()
        .map(|id| format!("`rbee-keeper worker stop {id}`"))
        .collect();
    Diagnostic::new(
        Code::ModelInUse,
        format!("{model} is in use by {}", names.join(", ")),
    )
    .hint(format!("stop the workers first: {}", stop.join(", ")))
    .detail("workers", names)
}

pub(crate) fn not_removable(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{model} is part of rbee and cannot be removed"),
    )
    .param("model")
}

pub(crate) fn not_updatable(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{model} was not fetched, so there is no newer revision"),
    )
    .hint("models of `hf:` and `ollama:` can be updated")
    .param("model")
}

pub(crate) fn nothing_to_copy(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("this node has no fetched files of {model}"),
    )
    .param("model")
}

pub(crate) fn other_revision(model: &ModelRef, asked: &str, own: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!(
            "this node has {model} at revision `{own}`, not `{}`",
            excerpt(asked, 80)
        ),
    )
    .param("revision")
}

/// The catalog has no file with this path and this SHA-256, or its file is missing.
pub(crate) fn no_such_content(query: &ContentQuery) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!(
            "this node has no file `{}` of {} with the SHA-256 {}",
            excerpt(&query.path, 120),
            query.model,
            excerpt(&query.sha256, 64)
        ),
    )
    .param("path")
}

/// Neither another node nor the vendor could provide the model.
pub(crate) fn after_copy(error: Diagnostic, copy: &Diagnostic) -> Diagnostic {
    let message = format!(
        "{}; before, the copy from another node failed: {}",
        error.message, copy.message
    );
    Diagnostic { message, ..error }
}

pub(crate) fn no_copies() -> Diagnostic {
    Diagnostic::internal("this hive cannot copy models from other nodes")
}

pub(crate) fn no_vendor(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::DownloadFailed,
        format!("this hive cannot fetch {model}: it knows no source for it"),
    )
}

pub(crate) fn unsafe_path(model: &ModelRef, path: &str) -> Diagnostic {
    Diagnostic::new(
        Code::DownloadFailed,
        format!(
            "{model} has a file that would be stored outside its directory: \"{}\"",
            excerpt(path, 120)
        ),
    )
}

pub(crate) fn insufficient_disk(
    model: &ModelRef,
    path: &Path,
    missing: u64,
    reserve: u64,
    free: u64,
) -> Diagnostic {
    let reserved = match reserve {
        0 => String::new(),
        reserve => format!(" and a reserve of {}", bytes(reserve)),
    };
    Diagnostic::new(
        Code::InsufficientDisk,
        format!(
            "{model} needs {} more{reserved}, and the disk of {} has {} free",
            bytes(missing),
            escape(&path.to_string_lossy()),
            bytes(free)
        ),
    )
    .hint("remove models with `rbee-keeper model remove` or `rbee-keeper model prune`")
    .detail("need_bytes", missing.saturating_add(reserve))
    .detail("free_bytes", free)
}

pub(crate) fn wrong_hash(model: &ModelRef, path: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ChecksumMismatch,
        format!("{} of {model} has the wrong SHA-256", escape(path)),
    )
    .hint("pull the model again")
}

pub(crate) fn alias_of_builtin(alias: &ModelAlias) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelRef,
        format!("{alias} is the reference or the name of a built-in model"),
    )
    .hint("choose another name")
    .param("name")
}

pub(crate) fn no_alias(alias: &ModelAlias) -> Diagnostic {
    Diagnostic::new(Code::NotFound, format!("there is no alias {alias}"))
        .hint("`rbee-keeper model alias` lists the aliases")
        .param("name")
}

pub(crate) fn shipped_alias(alias: &ModelAlias) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{alias} is part of rbee and cannot be removed"),
    )
    .hint("set it to another model instead")
    .param("name")
}

/// A file for a copy of the database.
pub(crate) fn unusable_copy(path: &Path, reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "cannot use {} for a copy of the catalog: {reason}",
            escape(&path.to_string_lossy())
        ),
    )
    .param("path")
    .hint("name a file on the machine of the hive")
}

pub(crate) fn cancelled(what: &str) -> Diagnostic {
    Diagnostic::new(Code::Cancelled, format!("{what} was cancelled"))
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

pub(crate) fn invalid_revision(text: &str, max: usize) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("not a revision: \"{}\"", excerpt(text, 40)),
    )
    .hint(format!(
        "use a branch, a tag or a commit of 1 to {max} characters, or leave `revision` out"
    ))
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
