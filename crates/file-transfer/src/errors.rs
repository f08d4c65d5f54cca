use std::{
    io,
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic, bytes, escape, excerpt};
use reqwest::Url;

use crate::rules::BadRedirect;

/// Most characters of a foreign text in a message.
const EXCERPT: usize = 200;

/// Shows a path in a message.
pub(crate) fn show(path: &Path) -> String {
    escape(&path.display().to_string())
}

/// Appends a suffix to the name of a file.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Shows a URL without what could be secret: user, password, query.
pub(crate) fn show_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    excerpt(url.as_str(), EXCERPT)
}

/// Shows the host of a URL.
pub(crate) fn show_host(url: &Url) -> String {
    excerpt(url.host_str().unwrap_or("?"), EXCERPT)
}

/// `verb` is `cannot read` or alike.
pub(crate) fn storage(verb: &str, path: &Path, cause: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("{verb} {}: {cause}", show(path)), cause)
}

pub(crate) fn failed(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::DownloadFailed, message)
}

pub(crate) fn bad_redirect(from: &Url, bad: &BadRedirect) -> Diagnostic {
    let to = match bad {
        BadRedirect::Invalid => "nowhere".to_owned(),
        BadRedirect::Unsafe(to) => format!("{}, which is not encrypted", show_url(to)),
    };
    failed(format!("{} redirects to {to}", show_url(from)))
}

pub(crate) fn invalid_url(text: &str) -> Diagnostic {
    failed(format!(
        "`{}` is not an http or https URL",
        excerpt(text, EXCERPT)
    ))
}

pub(crate) fn no_client(cause: &reqwest::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot create an HTTP client: {}", chain(cause)))
}

/// Writes an error of reqwest with its causes, and without the URL, which may be signed.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() {
        text.push_str("no reason is known");
    }
    excerpt(&text, EXCERPT)
}

pub(crate) fn not_found(url: &Url) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("{} does not exist", show_url(url)),
    )
    .hint("check the name and the revision of the model")
}

pub(crate) fn access_denied(url: &Url, status: u16, had_token: bool) -> Diagnostic {
    let hint = if had_token {
        "accept the licence of the model on its page, or use a token of an account that has access (`HF_TOKEN`)"
    } else {
        "set `HF_TOKEN`, and accept the licence of the model on its page"
    };
    Diagnostic::new(
        Code::ModelAccessDenied,
        format!("{} denies access (status {status})", show_url(url)),
    )
    .hint(hint)
    .detail("status", status)
}

pub(crate) fn stalled(url: &Url, seconds: f64) -> Diagnostic {
    Diagnostic::new(
        Code::DownloadStalled,
        format!("{} sent nothing for {seconds} s", show_host(url)),
    )
    .hint("check the network, and repeat the command; the download continues where it stopped")
}

pub(crate) fn insufficient_disk(path: &Path, need: u64, free: u64) -> Diagnostic {
    Diagnostic::new(
        Code::InsufficientDisk,
        format!(
            "the disk of {} has {} free, and the download needs {}, the reserve included",
            show(path),
            bytes(free),
            bytes(need)
        ),
    )
    .hint("free space, for example by `rbee-keeper model remove`")
    .detail("need_bytes", need)
    .detail("free_bytes", free)
}

pub(crate) fn disk_filled(path: &Path, free: u64, reserve: u64) -> Diagnostic {
    Diagnostic::new(
        Code::DiskFull,
        format!(
            "the disk of {} has only {} free, less than the reserve of {}",
            show(path),
            bytes(free),
            bytes(reserve)
        ),
    )
    .hint("free space on its disk, and repeat the command; the download continues where it stopped")
    .detail("free_bytes", free)
    .detail("reserve_bytes", reserve)
}

pub(crate) fn cancelled(target: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::Cancelled,
        format!("the download of {} was cancelled", show(target)),
    )
}

pub(crate) fn mismatch(what: &str, url: &Url, expected: &str, found: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ChecksumMismatch,
        format!(
            "the {what} of {} is {found}, and {expected} was expected",
            show_url(url)
        ),
    )
    .hint("the source or the connection is damaged; try again later, or use another source")
}

pub(crate) fn occupied(target: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("{} exists and is another file", show(target)),
    )
    .hint("remove or rename it; files are never overwritten")
}

pub(crate) fn keeps_changing(url: &Url) -> Diagnostic {
    failed(format!(
        "{} changed several times during the download",
        show_url(url)
    ))
    .hint("try again later")
}
