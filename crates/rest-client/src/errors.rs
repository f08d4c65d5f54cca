use std::{error::Error, fmt};

use diagnostics::{Diagnostic, ErrorBody, excerpt};
use http::StatusCode;
use pinned_tls::AnotherCertificate;

use crate::Peer;

/// Maximum number of characters of a response that an error quotes.
const MAX_QUOTE_CHARS: usize = 120;

/// Failure of a call. The variants differ in whether the peer has responded: only after a
/// [`Link`](Self::Link) error may the caller assume that another peer can serve the request.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// The connection was refused, failed, or timed out before the response was complete.
    Link(Diagnostic),
    /// The peer sent an error or a response that cannot be parsed, with this HTTP status.
    Response(u16, Diagnostic),
}

impl CallError {
    /// Returns the error without the distinction.
    pub fn into_diagnostic(self) -> Diagnostic {
        match self {
            Self::Link(diagnostic) | Self::Response(_, diagnostic) => diagnostic,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(diagnostic) | Self::Response(_, diagnostic) => diagnostic.fmt(f),
        }
    }
}

impl Error for CallError {}

impl From<CallError> for Diagnostic {
    fn from(error: CallError) -> Self {
        error.into_diagnostic()
    }
}

pub(crate) fn unreachable(peer: Peer, base: &str, error: &reqwest::Error) -> CallError {
    if AnotherCertificate::caused(error) {
        return CallError::Link(another_certificate(peer, base));
    }
    CallError::Link(Diagnostic::new(
        peer.unreachable,
        format!(
            "the {} at {base} does not respond: {}",
            peer.name,
            root_cause(error)
        ),
    ))
}

fn another_certificate(peer: Peer, base: &str) -> Diagnostic {
    Diagnostic::new(
        peer.unreachable,
        format!(
            "the {} at {base} is not trusted: {AnotherCertificate}",
            peer.name
        ),
    )
    .hint("check the address: another server responds there, or the certificate was replaced")
}

/// An event stream failed, or one of its events cannot be parsed.
pub(crate) fn stream_failed(peer: Peer, base: &str, error: &dyn Error) -> CallError {
    CallError::Link(Diagnostic::new(
        peer.unreachable,
        format!(
            "the event stream of the {} at {base} failed: {}",
            peer.name,
            root_cause(error)
        ),
    ))
}

/// The status is an error; `text` is the body.
pub(crate) fn error_response(peer: Peer, base: &str, status: StatusCode, text: &str) -> CallError {
    let diagnostic = match serde_json::from_str::<ErrorBody>(text) {
        Ok(body) => body.error.diagnostic,
        Err(_) => Diagnostic::new(
            peer.bad_response,
            format!(
                "the {} at {base} responded with {status}: {}",
                peer.name,
                excerpt(text, MAX_QUOTE_CHARS)
            ),
        ),
    };
    CallError::Response(status.as_u16(), diagnostic)
}

pub(crate) fn unexpected_body(
    peer: Peer,
    base: &str,
    status: StatusCode,
    text: &str,
    error: &serde_json::Error,
) -> CallError {
    let Peer { name, .. } = peer;
    let diagnostic = Diagnostic::new(
        peer.bad_response,
        format!(
            "the {name} at {base} sent an unexpected response: {error}: {}",
            excerpt(text, MAX_QUOTE_CHARS)
        ),
    )
    .hint(format!(
        "check that a {name} of the same version runs at this address"
    ));
    CallError::Response(status.as_u16(), diagnostic)
}

pub(crate) fn no_http_client(error: &reqwest::Error) -> Diagnostic {
    Diagnostic::internal(format!(
        "cannot create an HTTP client: {}",
        root_cause(error)
    ))
}

/// Returns the message of the first cause. The errors of reqwest and hyper around it name the
/// layers that it passed, and the URL that the messages here contain.
fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
