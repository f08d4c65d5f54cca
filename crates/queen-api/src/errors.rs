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

pub(crate) fn invalid_key() -> Diagnostic {
    Diagnostic::new(Code::InvalidApiKey, "the API key is not valid")
        .hint("the key is in the queen's `--api-key-file`")
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

/// A page of this origin asked whether it may use the queen.
pub(crate) fn origin_not_admitted(origin: &str) -> Diagnostic {
    let origin = excerpt(origin, 120);
    Diagnostic::new(
        Code::OriginForbidden,
        format!("pages of the origin \"{origin}\" may not use the queen"),
    )
    .hint(format!(
        "start the queen with `--cors-origin {origin}` to let them use it"
    ))
}

pub(crate) fn invalid_origin(origin: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("\"{}\" is not an origin", excerpt(origin, 80)),
    )
    .hint("examples of origins: `https://app.example`, `http://app.example:3000`, `app://name`")
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
