//! The errors of this crate, each with its message and hint.

use std::{fmt::Display, time::Duration};

use diagnostics::{Code, Diagnostic, escape, excerpt};
use input_validation::ModelRef;
use reqwest::Url;

use crate::select::NotSelected;

/// Maximum number of alternatives that an error lists.
const MAX_LISTED: usize = 12;
/// Maximum number of characters of a foreign text that an error shows.
const MAX_SHOWN: usize = 120;

/// Names a server without the query of a URL, which may contain a signature.
fn server(url: &Url) -> String {
    excerpt(&url.origin().ascii_serialization(), MAX_SHOWN)
}

fn download_failed(message: String) -> Diagnostic {
    Diagnostic::new(Code::DownloadFailed, message)
}

/// The variables that select the servers.
const ENDPOINTS: &str = "`HF_ENDPOINT` (hub) or `RBEE_OLLAMA_REGISTRY` (Ollama)";

// Configuration.

pub(crate) fn invalid_endpoint(text: &str, problem: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!(
            "not the URL of a server: \"{}\": {problem}",
            excerpt(text, MAX_SHOWN)
        ),
    )
    .hint("set `HF_ENDPOINT` or `RBEE_OLLAMA_REGISTRY` to a URL such as `https://huggingface.co`")
}

pub(crate) fn no_client(error: &reqwest::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot create an HTTP client: {error}"))
}

pub(crate) fn offline(model: &ModelRef) -> Diagnostic {
    download_failed(format!("{model} is not looked up: `HF_HUB_OFFLINE` is set"))
        .hint("unset `HF_HUB_OFFLINE`, or use a model that is on this node")
}

// Connections.

pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> Diagnostic {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    let reason = excerpt(&source.to_string(), MAX_SHOWN);
    download_failed(format!(
        "the connection to {} failed: {reason}",
        server(url)
    ))
    .hint(format!(
        "check the network connection, the proxy and {ENDPOINTS}"
    ))
}

pub(crate) fn server_failed(url: &Url, status: u16) -> Diagnostic {
    let reason = match status {
        429 => "limits the rate of requests".to_owned(),
        _ => format!("responded with status {status}"),
    };
    download_failed(format!("{} {reason}", server(url)))
        .hint("try again later")
        .detail("status", status)
}

pub(crate) fn after_attempts(
    mut error: Diagnostic,
    attempts: u32,
    retry_after: Option<Duration>,
) -> Diagnostic {
    if attempts > 1 {
        error.message = format!("{} ({attempts} attempts)", error.message);
    }
    match retry_after {
        Some(delay) => error.hint(format!("try again in {} s", delay.as_secs())),
        None => error,
    }
}

pub(crate) fn redirect_loop(url: &Url, limit: usize) -> Diagnostic {
    download_failed(format!("{} redirects more than {limit} times", server(url)))
        .hint(format!("check {ENDPOINTS}"))
}

pub(crate) fn unsafe_redirect(from: &Url, to: &Url) -> Diagnostic {
    download_failed(format!(
        "{} redirects to {}, which is not encrypted",
        server(from),
        server(to)
    ))
    .hint(format!("check {ENDPOINTS}"))
}

pub(crate) fn body_too_large(url: &Url, limit: u64) -> Diagnostic {
    download_failed(format!("{} sends more than {limit} bytes", server(url)))
        .hint(format!("check the reference and {ENDPOINTS}"))
}

/// `url` may be no URL.
pub(crate) fn invalid_response(url: &str, what: impl Display) -> Diagnostic {
    let server = Url::parse(url).map_or_else(|_| excerpt(url, MAX_SHOWN), |url| server(&url));
    download_failed(format!("{server} sent an invalid response: {what}")).hint(format!(
        "check {ENDPOINTS}: the server may not be a source of models"
    ))
}

pub(crate) fn too_many_files(limit: usize) -> Diagnostic {
    download_failed(format!("the repository lists more than {limit} files"))
        .hint("use another repository")
}

// Models.

pub(crate) fn unsafe_path(path: &str, problem: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "the vendor lists the file `{}`, which {problem}",
            excerpt(path, MAX_SHOWN)
        ),
    )
    .hint("use another repository: this one is damaged or malicious")
}

pub(crate) fn companion_too_large(path: &str, size: u64, limit: u64) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "`{}` has {size} bytes, and the limit is {limit}",
            excerpt(path, MAX_SHOWN)
        ),
    )
    .hint("use another repository")
}

pub(crate) fn header_too_large(path: &str, bytes: u64, limit: u64) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "the header of `{}` has at least {bytes} bytes, and the limit is {limit}",
            excerpt(path, MAX_SHOWN)
        ),
    )
    .hint("use another file or repository: this one is damaged or malicious")
}

pub(crate) fn shorter_than_listed(path: &str, size: u64) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "`{}` is shorter than the {size} bytes that are listed",
            excerpt(path, MAX_SHOWN)
        ),
    )
    .hint("try again, or use another repository")
}

pub(crate) fn digest_mismatch(what: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ChecksumMismatch,
        format!("the registry sent a {what} that does not have its digest"),
    )
    .hint("try again; a proxy may change the response")
}

pub(crate) fn not_found(what: &str, hint: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::ModelNotFound, what).hint(hint)
}

pub(crate) fn access_denied(what: String, hint: String) -> Diagnostic {
    Diagnostic::new(Code::ModelAccessDenied, what).hint(hint)
}

pub(crate) fn unexpected_status(url: &Url, status: u16) -> Diagnostic {
    download_failed(format!("{} responded with status {status}", server(url)))
        .hint(format!("check the reference and {ENDPOINTS}"))
        .detail("status", status)
}

pub(crate) fn unsupported(what: String, hint: &str) -> Diagnostic {
    Diagnostic::new(Code::UnsupportedModel, what).hint(hint)
}

pub(crate) fn incomplete(repository: &str, missing: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "the repository {repository} has no file `{}`",
            excerpt(missing, MAX_SHOWN)
        ),
    )
    .hint("use another repository: this one lacks a file that the model needs")
}

pub(crate) fn unnameable(repository: &str, path: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelRef,
        format!(
            "the file `{}` of {repository} has a name that no reference can contain",
            excerpt(path, MAX_SHOWN)
        ),
    )
    .hint("download the file, and use it by `file:` and its path")
}

/// No model of the repository was selected. `runnable` are the selections and their sizes.
pub(crate) fn not_selected(
    repository: &str,
    reason: NotSelected,
    runnable: &[(String, Option<u64>)],
    others: &[String],
) -> Diagnostic {
    let shown = |text: &str| excerpt(text, MAX_SHOWN);
    let error = match reason {
        NotSelected::NoSuch(named) => not_found(
            &format!(
                "the repository {repository} has no model `{}`",
                shown(&named)
            ),
            "check the name of the file or of the type of the weights",
        ),
        NotSelected::Ambiguous(selections) => {
            let several: Vec<_> = selections.into_iter().map(|s| (s, None)).collect();
            return Diagnostic::new(
                Code::InvalidModelRef,
                format!("several models of {repository} match the reference"),
            )
            .hint(format!("use one of: {}", list(repository, &several)));
        }
        NotSelected::Irregular(path) => Diagnostic::new(
            Code::InvalidModelFile,
            format!("`{}` of {repository} is not a regular file", shown(&path)),
        ),
        NotSelected::Projector(path) => unsupported(
            format!(
                "`{}` of {repository} is not a model, but a part for vision",
                shown(&path)
            ),
            "use the language model of the repository",
        ),
        NotSelected::Incomplete { path, missing } => Diagnostic::new(
            Code::InvalidModelFile,
            format!(
                "`{}` of {repository} is a part of a model whose part `{}` is missing",
                shown(&path),
                shown(&missing)
            ),
        ),
        NotSelected::NoWeights => {
            let found: Vec<_> = others
                .iter()
                .take(MAX_LISTED)
                .map(|path| shown(path))
                .collect();
            let formats = match found.as_slice() {
                [] => String::new(),
                found => format!(", only {}", found.join(", ")),
            };
            return unsupported(
                format!("the repository {repository} has no GGUF or safetensors weights{formats}"),
                "use a repository with GGUF files; names of such often end with `-GGUF`",
            );
        }
    };
    with_alternatives(error, repository, runnable)
}

/// Adds the models of the repository that the engine can run to the hint.
pub(crate) fn with_alternatives(
    mut error: Diagnostic,
    repository: &str,
    runnable: &[(String, Option<u64>)],
) -> Diagnostic {
    if runnable.is_empty() {
        return error;
    }
    let alternatives = format!("the repository has {}", list(repository, runnable));
    error.hint = Some(match error.hint {
        Some(hint) => format!("{hint}; {alternatives}"),
        None => alternatives,
    });
    let shown = runnable.iter().take(MAX_LISTED);
    let names: Vec<_> = shown.map(|(name, _)| reference(repository, name)).collect();
    error.detail("alternatives", names)
}

fn reference(repository: &str, selection: &str) -> String {
    format!("hf:{repository}:{}", escape(selection))
}

fn list(repository: &str, selections: &[(String, Option<u64>)]) -> String {
    let shown = selections.iter().take(MAX_LISTED).map(|(name, size)| {
        let size = size.map_or(String::new(), |bytes| format!(" ({})", gigabytes(bytes)));
        format!(
            "`{}`{size}",
            excerpt(&reference(repository, name), 2 * MAX_SHOWN)
        )
    });
    let text = shown.collect::<Vec<_>>().join(", ");
    match selections.len().saturating_sub(MAX_LISTED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes {
        100_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

// Ollama's registry.

pub(crate) fn other_registry(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelRef,
        format!("{model} is not a model of Ollama's registry"),
    )
    .hint("use `ollama:name:tag` or `ollama:user/name:tag`; models of the hub are `hf:org/repo`")
}

pub(crate) fn invalid_manifest(line: usize, column: usize) -> Diagnostic {
    download_failed(format!(
        "the registry sent a manifest with unexpected JSON at line {line}, column {column}"
    ))
    .hint("check `RBEE_OLLAMA_REGISTRY`: the server may not be a registry of Ollama")
}

pub(crate) fn invalid_digest(text: &str) -> Diagnostic {
    download_failed(format!("not a digest: \"{}\"", excerpt(text, MAX_SHOWN)))
        .hint("check `RBEE_OLLAMA_REGISTRY`: the server may not be a registry of Ollama")
}

pub(crate) fn tag_moved(error: Diagnostic, tag: &str) -> Diagnostic {
    match error.code {
        Code::ModelNotFound => not_found(
            &format!(
                "the tag `{}` has moved to another version",
                excerpt(tag, 80)
            ),
            "update the model: the registry does not have the pinned version any more",
        ),
        _ => error,
    }
}

pub(crate) fn unsupported_format(format: &str) -> Diagnostic {
    unsupported(
        format!(
            "the model has the format `{}`, expected `gguf`",
            excerpt(format, 40)
        ),
        "use a model of the registry in the GGUF format, or a repository of the hub",
    )
}

pub(crate) fn adapter() -> Diagnostic {
    unsupported(
        "the model has an adapter (LoRA), which the engine does not support".to_owned(),
        "use a model into which the adapter is merged",
    )
}

pub(crate) fn no_model_layer() -> Diagnostic {
    unsupported(
        "the model has no weights in the GGUF format".to_owned(),
        "use another tag: this one may run in Ollama's cloud only",
    )
}

pub(crate) fn several_model_layers(count: usize) -> Diagnostic {
    unsupported(
        format!("the model has {count} files of weights, expected one"),
        "use another tag, or a repository of the hub",
    )
}

// Other nodes.

pub(crate) fn invalid_queen_url(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("not the URL of a queen: \"{}\"", excerpt(text, MAX_SHOWN)),
    )
    .param("copy_from")
}

pub(crate) fn no_copy(status: u16) -> Diagnostic {
    download_failed(format!(
        "no other node has a file of the model now (status {status})"
    ))
    .detail("status", status)
}

/// The hints of other errors are about servers on the internet.
pub(crate) fn of_other_nodes(error: Diagnostic) -> Diagnostic {
    error.hint("`rbee-keeper status` shows which nodes are up")
}
