//! The errors of this crate.

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::ModelRef;
use queen_contract::HEADER_DEADLINE;

pub(crate) fn missing_key() -> Diagnostic {
    Diagnostic::new(
        Code::MissingApiKey,
        "this endpoint requires an API key, and the request has none",
    )
    .hint("send `Authorization: Bearer KEY`; the key is in the queen's `--api-key-file`")
}

pub(crate) fn invalid_expiry(longest_seconds: u32) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, "`expires_seconds` is out of range")
        .hint(format!("use a whole number from 1 to {longest_seconds}"))
        .param("expires_seconds")
}

pub(crate) fn invalid_key() -> Diagnostic {
    Diagnostic::new(Code::InvalidApiKey, "the API key is not valid")
        .hint("the key is in the queen's `--api-key-file`")
}

/// No model has this name.
pub(crate) fn unknown_model(name: &str) -> Diagnostic {
    let error = queen_nodes::model_not_found(name);
    let lower = name.to_ascii_lowercase();
    if name.contains("://") {
        return error
            .hint("a URL is no model; download the file, and name it `file:/path/model.gguf`");
    }
    let is_path = name.starts_with(['/', '.', '~', '\\'])
        || [".gguf", ".safetensors"]
            .iter()
            .any(|end| lower.ends_with(end));
    if is_path {
        return error.hint("name a file by `file:` and its absolute path: `file:/path/model.gguf`");
    }
    error
}

/// The body of a call in rbee's own format cannot be read; `example` is one that can.
pub(crate) fn unreadable_call(error: &serde_json::Error, example: &str) -> Diagnostic {
    let cause = excerpt(&error.to_string(), 300);
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the body is not the expected JSON: {cause}"),
    )
    .hint(format!("send for example `{example}`"))
}

/// The request has images.
pub(crate) fn no_vision(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        format!("{model} cannot see images: no worker announces the capability `vision`"),
    )
    .hint("remove the images, or use a model whose workers announce `vision` once they are ready")
    .param("input")
}

pub(crate) fn response_not_stored(id: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!(
            "there is no response \"{}\": responses are not stored",
            excerpt(id, 80)
        ),
    )
    .hint("keep the response that `POST /v1/responses` returned")
}

pub(crate) fn no_compaction() -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        "conversations are not compacted: there is no `POST /v1/responses/compact`",
    )
    .hint(
        "shorten the conversation in the client, for example by a summary, and send it to \
         `POST /v1/responses`; `POST /v1/responses/input_tokens` counts its tokens",
    )
}

pub(crate) fn invalid_origin(origin: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("\"{}\" is not an origin", excerpt(origin, 80)),
    )
    .hint("examples of origins: `https://app.example`, `http://app.example:3000`, `app://name`, `file://`")
}

/// The error for the header of the deadline, by its value.
pub(crate) fn invalid_deadline(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "{HEADER_DEADLINE} is not a valid timestamp: \"{}\"",
            excerpt(text, 60)
        ),
    )
    .param(HEADER_DEADLINE)
    .hint("use RFC 3339, for example `2026-11-21T10:00:00Z`")
}

/// The stream of a request ended without a terminal event, which is a defect.
pub(crate) fn ended_early() -> Diagnostic {
    Diagnostic::internal("the response ended without a terminal event")
}

/// The hive's events of a job ended without a terminal one.
pub(crate) fn hive_stream_ended() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "the hive's event stream ended before the result of the job",
    )
    .hint("the job continues if the hive is running; repeat the call to follow it")
}
