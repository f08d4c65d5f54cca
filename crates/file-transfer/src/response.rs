//! What a response says about a file. Pure.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use reqwest::{
    StatusCode,
    header::{self, HeaderMap},
};

use crate::{retry, rules};

/// Longest ETag that is kept.
const MAX_ETAG: usize = 256;

/// What the origin of a file said of it when it redirected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Linked {
    /// Reads the headers of a redirect.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            etag: etag(headers, "x-linked-etag"),
            size: text(headers, "x-linked-size").and_then(|size| size.parse().ok()),
        }
    }

    /// Prefers what `earlier` says.
    pub(crate) fn or(self, earlier: Self) -> Self {
        Self {
            etag: earlier.etag.or(self.etag),
            size: earlier.size.or(self.size),
        }
    }
}

/// A response with content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Bytes of the file that the body has; to the end of the file if that is unknown.
    pub(crate) range: Range<u64>,
    /// Size of the file, if stated.
    pub(crate) size: Option<u64>,
    /// ETag of the file, as the origin states it if it does.
    pub(crate) etag: Option<String>,
    /// Whether the server serves ranges.
    pub(crate) ranged: bool,
}

/// What a response means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Content(Content),
    Redirect(Option<String>),
    /// 401 or 403.
    Denied(u16),
    /// 404 or 410.
    Missing(u16),
    /// 416: the file ends before the range. Has the size of the file, if stated.
    Beyond(Option<u64>),
    /// A later attempt can succeed.
    Later {
        reason: String,
        after: Option<Duration>,
    },
    /// No attempt will succeed.
    Never(String),
}

/// Interprets a response to a request for `asked`, or for the whole file.
pub(crate) fn interpret(
    status: StatusCode,
    headers: &HeaderMap,
    asked: Option<&Range<u64>>,
    linked: &Linked,
    now: SystemTime,
) -> Meaning {
    match status.as_u16() {
        200 | 206 => content(status.as_u16() == 206, headers, asked, linked),
        301 | 302 | 303 | 307 | 308 => {
            Meaning::Redirect(text(headers, "location").map(str::to_owned))
        }
        status @ (401 | 403) => Meaning::Denied(status),
        status @ (404 | 410) => Meaning::Missing(status),
        416 => Meaning::Beyond(
            text(headers, "content-range")
                .and_then(|value| value.strip_prefix("bytes */")?.parse().ok()),
        ),
        status @ (408 | 425 | 429 | 500..) => Meaning::Later {
            reason: format!("status {status}"),
            after: text(headers, "retry-after").and_then(|value| retry::retry_after(value, now)),
        },
        status => Meaning::Never(format!("status {status}")),
    }
}

fn content(
    partial: bool,
    headers: &HeaderMap,
    asked: Option<&Range<u64>>,
    linked: &Linked,
) -> Meaning {
    if rules::is_compressed(headers) {
        return Meaning::Never("a compressed body, which was not asked for".to_owned());
    }
    let length = text(headers, "content-length").and_then(|length| length.parse::<u64>().ok());
    let etag = linked.etag.clone().or_else(|| self::etag(headers, "etag"));
    if !partial {
        return Meaning::Content(Content {
            range: 0..length.unwrap_or(u64::MAX),
            size: length,
            etag,
            ranged: false,
        });
    }
    let wrong = |reason: &str| Meaning::Later {
        reason: reason.to_owned(),
        after: None,
    };
    let Some(asked) = asked else {
        return wrong("a part of the file, which was not asked for");
    };
    let Some((range, size)) = text(headers, "content-range").and_then(parse_content_range) else {
        return wrong("no valid `Content-Range`");
    };
    let ends_early = range.end < asked.end && size.is_none_or(|size| range.end < size);
    if range.start != asked.start || range.end > asked.end || ends_early {
        return wrong("another range than was asked for");
    }
    if length.is_some_and(|length| length != range.end - range.start) {
        return wrong("a `Content-Length` that contradicts `Content-Range`");
    }
    Meaning::Content(Content {
        range,
        size,
        etag,
        ranged: true,
    })
}

/// Parses `bytes FIRST-LAST/SIZE`.
fn parse_content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
    let size = match size {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    let is_valid = range.start < range.end && size.is_none_or(|size| range.end <= size);
    is_valid.then_some((range, size))
}

/// Returns an entity tag without quotes and without the mark of weak ones.
fn etag(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = text(headers, name)?;
    let value = value.strip_prefix("W/").unwrap_or(value).trim_matches('"');
    (!value.is_empty() && value.len() <= MAX_ETAG).then(|| value.to_owned())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Parses an ETag that is a SHA-256.
pub(crate) fn sha256(etag: &str) -> Option<[u8; 32]> {
    hex::decode(etag).ok()?.try_into().ok()
}

/// Headers of every request: proxies and servers must not change the content.
pub(crate) fn request_headers(range: Option<&Range<u64>>) -> Vec<(header::HeaderName, String)> {
    let mut headers = vec![(header::ACCEPT_ENCODING, "identity".to_owned())];
    if let Some(range) = range {
        let value = match range.end {
            u64::MAX => format!("bytes={}-", range.start),
            end => format!("bytes={}-{}", range.start, end.saturating_sub(1)),
        };
        headers.push((header::RANGE, value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(
        status: u16,
        headers: &[(&'static str, &str)],
        asked: Option<&Range<u64>>,
    ) -> Meaning {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            })
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let linked = Linked::default();
        interpret(status, &headers, asked, &linked, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn a_part_is_exactly_what_was_asked_for() {
        let part = |range: &str, length: &str| {
            let headers = [("content-range", range), ("content-length", length)];
            meaning(206, &headers, Some(&(10..20)))
        };
        let good = Content {
            range: 10..20,
            size: Some(100),
            etag: None,
            ranged: true,
        };
        assert_eq!(
            part("bytes 10-19/100", "10"),
            Meaning::Content(good.clone())
        );
        let unknown = Content {
            size: None,
            ..good.clone()
        };
        assert_eq!(part("bytes 10-19/*", "10"), Meaning::Content(unknown));
        let last = Content {
            range: 10..15,
            size: Some(15),
            ..good
        };
        assert_eq!(part("bytes 10-14/15", "5"), Meaning::Content(last));
        for (range, length) in [
            ("bytes 11-19/100", "9"),
            ("bytes 10-20/100", "11"),
            ("bytes 10-14/100", "5"),
            ("bytes 10-19/100", "11"),
            ("bytes 10-19/15", "10"),
            ("bytes 10-9/100", "0"),
            ("bytes 10-18446744073709551615/*", "10"),
            ("bytes 10-19", "10"),
            ("10-19/100", "10"),
            ("", "10"),
        ] {
            assert!(
                matches!(part(range, length), Meaning::Later { .. }),
                "{range} {length}"
            );
        }
    }

    #[test]
    fn statuses_have_a_meaning() {
        assert_eq!(meaning(401, &[], None), Meaning::Denied(401));
        assert_eq!(meaning(410, &[], None), Meaning::Missing(410));
        assert_eq!(
            meaning(416, &[("content-range", "bytes */7")], Some(&(9..10))),
            Meaning::Beyond(Some(7))
        );
        assert_eq!(
            meaning(503, &[("retry-after", "3")], None),
            Meaning::Later {
                reason: "status 503".to_owned(),
                after: Some(Duration::from_secs(3)),
            }
        );
        assert!(matches!(meaning(400, &[], None), Meaning::Never(_)));
        assert!(matches!(meaning(204, &[], None), Meaning::Never(_)));
        for encoding in ["gzip", "br, identity"] {
            let compressed = meaning(200, &[("content-encoding", encoding)], None);
            assert!(matches!(compressed, Meaning::Never(_)));
        }
        assert!(matches!(
            meaning(200, &[("content-encoding", "Identity")], None),
            Meaning::Content(_)
        ));
    }

    #[test]
    fn etags_lose_their_quotes() {
        let etag_of = |value: &'static str| {
            let headers: HeaderMap = [(header::ETAG, value.parse().unwrap())]
                .into_iter()
                .collect();
            etag(&headers, "etag")
        };
        assert_eq!(etag_of("\"v1\"").as_deref(), Some("v1"));
        assert_eq!(etag_of("W/\"v1\"").as_deref(), Some("v1"));
        assert_eq!(etag_of("\"\""), None);
        assert_eq!(sha256(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(sha256("v1"), None);
    }
}
