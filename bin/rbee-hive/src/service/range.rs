//! Ranges of bytes that a request asks for (RFC 9110, section 14).

use std::ops::Range;

use diagnostics::{Code, Diagnostic};

/// What to send of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Not empty, and in the file.
    Range(Range<u64>),
}

/// Interprets the header `Range` of a request for a file. Several ranges, and other forms, are
/// ignored, as the RFC allows. Fails with [`Code::InvalidRequest`] for a range behind the end.
pub(super) fn of(header: Option<&str>, size: u64) -> Result<Part, Diagnostic> {
    let Some((first, last)) = header.and_then(parse) else {
        return Ok(Part::Whole);
    };
    let end = last.map_or(size, |last| last.saturating_add(1).min(size));
    if first >= end {
        return Err(Diagnostic::new(
            Code::InvalidRequest,
            format!("the file has {size} bytes, and the range begins at {first}"),
        )
        .param("range"));
    }
    Ok(Part::Range(first..end))
}

fn parse(header: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    last.is_none_or(|last| first <= last)
        .then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_in_the_file_is_served() {
        for (header, part) in [
            (None, Part::Whole),
            (Some("bytes=0-0"), Part::Range(0..1)),
            (Some("bytes=3-"), Part::Range(3..10)),
            (Some("bytes=3-6"), Part::Range(3..7)),
            (Some("bytes=9-1000"), Part::Range(9..10)),
            (Some("bytes=9-18446744073709551615"), Part::Range(9..10)),
            // Ignored.
            (Some("bytes=-3"), Part::Whole),
            (Some("bytes=0-1,3-4"), Part::Whole),
            (Some("bytes=6-3"), Part::Whole),
            (Some("lines=0-1"), Part::Whole),
            (Some(""), Part::Whole),
        ] {
            assert_eq!(of(header, 10).unwrap(), part, "{header:?}");
        }
        for header in ["bytes=10-", "bytes=10-11"] {
            let error = of(Some(header), 10).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
        }
        assert!(of(Some("bytes=0-"), 0).is_err());
        assert_eq!(of(None, 0).unwrap(), Part::Whole);
    }
}
