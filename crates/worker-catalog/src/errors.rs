//! The errors of this crate.

use std::fmt::Display;

use diagnostics::{Code, Diagnostic, bytes, escape, excerpt};

use input_validation::PackageId;

pub(crate) fn key_invalid(cause: impl Display) -> Diagnostic {
    let message = format!("the key of the catalog is not a public key of minisign: {cause}");
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("set `--catalog-key` to the line in Base64 of the file `minisign.pub`")
}

pub(crate) fn no_key(place: &str) -> Diagnostic {
    let message = format!(
        "the catalog {} has no key to be verified with: this build of rbee has none of its own",
        escape(place)
    );
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("get the public key from the publisher of the catalog and set `--catalog-key KEY`")
}

pub(crate) fn location_invalid(url: &str) -> Diagnostic {
    let message = format!("\"{}\" is not the URL of a catalog", escape(url));
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("use `https://HOST/PATH` or `file:///PATH`: the directory that contains `workers/`")
}

pub(crate) fn not_signed(place: &str, cause: impl Display, key: &str) -> Diagnostic {
    let cause = cause.to_string();
    let message = format!(
        "the index of the catalog {} is not signed with the key {}: {}",
        escape(place),
        escape(key),
        excerpt(&cause, 200)
    );
    Diagnostic::new(Code::CatalogUntrusted, message)
        .hint("if the catalog has a new key, get it from its publisher and set `--catalog-key`")
}

pub(crate) fn rollback(place: &str, received: u64, known: u64) -> Diagnostic {
    let message = format!(
        "the catalog {} has the sequence {received}, older than {known}, which was received before",
        escape(place)
    );
    Diagnostic::new(Code::CatalogUntrusted, message)
        .hint("somebody may replay an old catalog; ask its publisher")
        .detail("received", received)
        .detail("known", known)
}

pub(crate) fn replaced(place: &str, sequence: u64) -> Diagnostic {
    let message = format!(
        "the catalog {} has another index with the same sequence {sequence}",
        escape(place)
    );
    Diagnostic::new(Code::CatalogUntrusted, message)
        .hint("ask its publisher; every index needs a sequence of its own")
}

pub(crate) fn digest(place: &str, expected: &str, received: &str) -> Diagnostic {
    let message = format!(
        "{} has the SHA-256 {received} instead of {expected} as in the index",
        escape(place)
    );
    Diagnostic::new(Code::ChecksumMismatch, message)
        .hint("try again; if it remains, the catalog is damaged or was changed")
}

pub(crate) fn too_large(place: &str, limit: u64) -> Diagnostic {
    let message = format!("{} is larger than {}", escape(place), bytes(limit));
    Diagnostic::new(Code::CatalogUntrusted, message)
        .hint("check the URL of the catalog; its files are small")
        .detail("limit_bytes", limit)
}

pub(crate) fn index_invalid(place: &str, cause: impl Display) -> Diagnostic {
    let cause = cause.to_string();
    let message = format!(
        "the index of the catalog {} is invalid: {}",
        escape(place),
        excerpt(&cause, 200)
    );
    Diagnostic::new(Code::CatalogUntrusted, message).hint("tell the publisher of the catalog")
}

pub(crate) fn index_format(place: &str, format: u32, known: u32) -> Diagnostic {
    let message = format!(
        "the catalog {} has the format {format}; this version reads {known}",
        escape(place)
    );
    Diagnostic::new(Code::VersionIncompatible, message).hint("upgrade rbee on this node")
}

pub(crate) fn no_package(id: &PackageId, known: &[&str]) -> Diagnostic {
    Diagnostic::new(Code::NotFound, format!("the catalog has no package {id}"))
        .hint(format!("it has {}", known.join(", ")))
}

pub(crate) fn not_read(place: &str, cause: impl Display) -> Diagnostic {
    let message = format!("cannot read {}: {cause}", escape(place));
    Diagnostic::new(Code::DownloadFailed, message)
        .hint("check `--catalog`: the directory that contains `workers/index.json`")
}

pub(crate) fn status(place: &str, status: u16) -> Diagnostic {
    let message = format!("{} answers {status}", escape(place));
    Diagnostic::new(Code::DownloadFailed, message)
        .hint("check `--catalog`: the URL of what contains `workers/index.json`")
        .detail("status", status)
}

pub(crate) fn redirect(place: &str, target: &str) -> Diagnostic {
    let message = format!("{} redirects to {}", escape(place), excerpt(target, 200));
    Diagnostic::new(Code::DownloadFailed, message)
        .hint("a catalog does not redirect; if you trust that place, set `--catalog` to its URL")
}
