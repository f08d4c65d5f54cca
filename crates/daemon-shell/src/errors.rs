//! The errors of this crate.

use std::{fmt, io, net::SocketAddr, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};
use http::Method;

pub(crate) fn unsupported_content_type(content_type: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedMediaType,
        format!("the content type is \"{}\"", excerpt(content_type, 80)),
    )
    .hint("send JSON with `Content-Type: application/json`")
}

pub(crate) fn unsupported_content_encoding(encoding: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedMediaType,
        format!(
            "the body is compressed: its content encoding is \"{}\"",
            excerpt(encoding, 80)
        ),
    )
    .hint("send the body uncompressed, without `Content-Encoding`")
    .detail(ACCEPT_ENCODING, "identity")
}

/// Detail of an error about a content encoding that becomes a header of the response.
pub(crate) const ACCEPT_ENCODING: &str = "accept_encoding";

pub(crate) fn body_incomplete() -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, "the body is incomplete")
}

pub(crate) fn body_too_large(limit_bytes: usize) -> Diagnostic {
    Diagnostic::new(
        Code::BodyTooLarge,
        format!("the body is larger than {limit_bytes} bytes"),
    )
    .hint("send less, for instance fewer messages")
    .detail("limit_bytes", limit_bytes)
}

pub(crate) fn body_stalled(elapsed: Duration, bytes: usize) -> Diagnostic {
    let seconds = elapsed.as_secs();
    Diagnostic::new(
        Code::DeadlineExceeded,
        format!("the body stalled: {bytes} bytes arrived in {seconds} s"),
    )
    .hint("send the complete body at once")
}

pub(crate) fn body_not_utf8(valid_bytes: usize) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the body is not UTF-8 at byte {valid_bytes}"),
    )
    .hint("encode the JSON as UTF-8")
}

pub(crate) fn body_invalid(cause: &serde_json::Error) -> Diagnostic {
    let text = cause.to_string();
    // serde_json's words for half of a surrogate pair.
    let half = text.contains("surrogate in hex escape") || text.contains("end of hex escape");
    let error = if half {
        let message = format!(
            "the body is not valid JSON: a string has half of a surrogate pair, which is no \
             character, at line {} column {}",
            cause.line(),
            cause.column()
        );
        Diagnostic::new(Code::InvalidRequest, message).hint(
            "cut strings between characters: one beyond U+FFFF, such as an emoji, is two UTF-16 \
             units",
        )
    } else {
        let message = format!("the body is not the expected JSON: {}", excerpt(&text, 300));
        Diagnostic::new(Code::InvalidRequest, message)
    };
    error
        .detail("line", cause.line())
        .detail("column", cause.column())
}

/// The error for a query or a path that cannot be parsed.
pub(crate) fn invalid_part(part: &str, reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("invalid {part}: {}", excerpt(reason, 300)),
    )
}

/// The error for a path that does not exist.
pub fn no_route(path: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("no such route: {}", excerpt(path, 200)),
    )
}

pub(crate) fn method_not_allowed(method: &Method, path: &str) -> Diagnostic {
    Diagnostic::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not support {}",
            excerpt(path, 200),
            excerpt(method.as_str(), 40)
        ),
    )
    .hint("use a method of the header `allow`")
}

pub(crate) fn upgrade_required(protocol: &str) -> Diagnostic {
    let message = format!("this endpoint speaks the protocol {protocol} only");
    Diagnostic::new(Code::InvalidRequest, message).hint(format!(
        "send `Connection: upgrade` and `Upgrade: {protocol}`"
    ))
}

pub(crate) fn certificate_unreadable(path: &Path, cause: &impl fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("cannot read the certificate in {}: {cause}", path.display()),
    )
    .hint(
        "remove the file to get a new certificate; machines that have joined must then be invited \
         again",
    )
}

pub(crate) fn missing_token() -> Diagnostic {
    Diagnostic::new(
        Code::MissingApiKey,
        "this endpoint requires a token, and the request has none",
    )
    .hint("send `Authorization: Bearer TOKEN`")
}

/// The error for a bearer token that is not accepted.
pub fn invalid_token() -> Diagnostic {
    Diagnostic::new(Code::InvalidApiKey, "the token is not valid")
        .hint("use the token of this rbee installation")
}

/// The error for a request to a name that is not one of this machine's loopback interface.
pub(crate) fn host_not_local(host: &str) -> Diagnostic {
    let message = format!(
        "the host \"{}\" may not use this endpoint",
        excerpt(host, 120)
    );
    Diagnostic::new(Code::OriginForbidden, message).hint(
        "call it as http://127.0.0.1 or http://localhost on this machine, or start it with \
         `--bind ADDRESS --api-key-file FILE` to serve other machines and names",
    )
}

/// The error for a request of a page or an app whose origin is not admitted.
pub fn origin_not_admitted(origin: &str) -> Diagnostic {
    let origin = excerpt(origin, 120);
    let message = format!("pages and apps of the origin \"{origin}\" may not use this endpoint");
    let error = Diagnostic::new(Code::OriginForbidden, message);
    if origin == "null" {
        // Every file and every sandboxed frame has this origin.
        return error.hint(
            "serve the page over HTTP, and start the queen with `--cors-origin` and its origin",
        );
    }
    error.hint(format!(
        "start the queen with `--cors-origin {origin}` to let them use it"
    ))
}

pub(crate) fn not_bound(address: SocketAddr, cause: &io::Error) -> Diagnostic {
    if cause.kind() == io::ErrorKind::AddrInUse {
        Diagnostic::new(Code::PortInUse, format!("{address} is in use"))
            .hint("stop the process that listens there, or choose another port with `--port`")
            .detail("port", address.port())
    } else {
        Diagnostic::new(
            Code::ConfigInvalid,
            format!("cannot listen on {address}: {cause}"),
        )
    }
}

pub(crate) fn invalid_log_filter(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("not a log filter: \"{}\"", excerpt(text, 80)),
    )
    .hint("use off, error, warn, info, debug or trace, or a filter such as `info,queen_rbee=debug`")
}

pub(crate) fn no_local_address(cause: &io::Error) -> Diagnostic {
    internal("cannot determine the address of the listener", cause)
}

pub(crate) fn no_own_binary(cause: &io::Error) -> Diagnostic {
    internal("cannot determine the path of the binary", cause)
}

pub(crate) fn no_runtime(cause: &io::Error) -> Diagnostic {
    internal("cannot start the async runtime", cause)
}

pub(crate) fn task_panicked(cause: &impl fmt::Display) -> Diagnostic {
    internal("a blocking task panicked", cause)
}

pub(crate) fn memory_unknown(cause: &impl fmt::Display) -> Diagnostic {
    internal("cannot determine the memory", cause)
}

pub(crate) fn no_random_bytes(cause: &impl fmt::Display) -> Diagnostic {
    internal("cannot generate random bytes", cause)
}

pub(crate) fn not_signalled(pid: u32, cause: &impl fmt::Display) -> Diagnostic {
    internal(&format!("cannot signal process {pid}"), cause)
}

fn internal(what: &str, cause: &impl fmt::Display) -> Diagnostic {
    Diagnostic::internal(format!("{what}: {cause}"))
}

/// The error for a process that is still alive after SIGKILL.
pub(crate) fn survived_sigkill(name: &str, pid: u32) -> Diagnostic {
    Diagnostic::internal(format!("{name} (process {pid}) did not exit after SIGKILL"))
        .hint("it is blocked in the kernel, most likely by a disk or a device driver")
}

pub(crate) fn not_locked(path: &Path, cause: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot lock {}: {cause}", path.display()), cause)
}

pub(crate) fn not_written(path: &Path, cause: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot write {}: {cause}", path.display()), cause)
}

pub(crate) fn no_token_in(path: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("{} does not contain a token", path.display()),
    )
    .hint("write one line of at least 16 printable ASCII characters")
}

pub(crate) fn token_unreadable(path: &Path, cause: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("cannot read the token in {}: {cause}", path.display()),
    )
    .hint("check the path and its permissions")
}
