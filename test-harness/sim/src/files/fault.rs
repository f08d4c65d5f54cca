use std::time::Duration;

use axum::http::HeaderMap;

use super::Content;

/// Which of the two hosts was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The one of the file's URL.
    Origin,
    /// The one to which the origin redirects.
    Other,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Position among all requests, from 0.
    pub number: usize,
    /// Host that was asked.
    pub host: Host,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// First byte, and the one after the last, if stated.
    pub range: Option<(u64, Option<u64>)>,
    /// Headers.
    pub headers: HeaderMap,
}

/// A way to respond wrongly.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status without a file.
    Status {
        /// The status.
        status: u16,
        /// Value of `Retry-After`.
        retry_after: Option<String>,
    },
    /// The connection closes after this many bytes of the body.
    Cut(u64),
    /// Nothing is sent after this many bytes of the body, and the connection stays open.
    Stall(u64),
    /// Nothing is sent for this time, before the body.
    Delay(Duration),
    /// At most this many bytes per second.
    Rate(u64),
    /// A `Content-Length` that is shorter than the content of the range by this many bytes.
    ShortLength(u64),
    /// This `Content-Range`.
    ContentRange(String),
    /// The whole file, whatever was asked for.
    IgnoreRange,
    /// This `Content-Encoding`.
    ContentEncoding(String),
    /// A body without a length that never ends.
    Endless,
    /// A redirect.
    Redirect(String),
    /// Headers of this many bytes.
    Headers(usize),
    /// Another version of the file, with this `ETag`.
    Version(String, Content),
    /// This byte of the file, if it is sent, is wrong.
    Flip(u64),
}

/// Parses `bytes=FIRST-LAST`.
pub(super) fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let end = match last {
        "" => None,
        last => Some(last.parse::<u64>().ok()?.checked_add(1)?),
    };
    Some((first.parse().ok()?, end))
}
