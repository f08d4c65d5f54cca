use std::{str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use diagnostics::Diagnostic;
use futures_util::StreamExt as _;
use http::{header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{ErrorResponse, errors};

/// A JSON request body; a byte order mark before it is ignored. Rejects another content type or a compressed body (415), a body over the
/// limit (413), and bytes that are not UTF-8 or not the expected JSON (400, with line and column).
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ErrorResponse> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") && !essence.ends_with("+json") {
            return Err(ErrorResponse(errors::unsupported_content_type(
                content_type,
            )));
        }
        if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) {
            let encoding = encoding.to_str().unwrap_or("?").trim();
            if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
                return Err(ErrorResponse(errors::unsupported_content_encoding(
                    encoding,
                )));
            }
        }
        let limit = request
            .extensions()
            .get::<BodyLimit>()
            .map_or(DEFAULT_BODY_LIMIT, |limit| limit.0);
        let body = read(request.into_body(), limit).await?;
        parse(&body).map(Self).map_err(ErrorResponse)
    }
}

/// Maximum size of a body in bytes, set by [`crate::finish`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit(pub usize);

const DEFAULT_BODY_LIMIT: usize = 1 << 20;

/// Bytes of a body over the limit that are read and discarded. A client that is cut off while
/// it sends would see a broken connection instead of the error response.
const DISCARD_LIMIT: usize = 64 << 20;

/// Maximum time between two chunks of a body.
const CHUNK_LIMIT: Duration = Duration::from_secs(30);
/// Speed below which a body counts as stalled as well, after its first [`CHUNK_LIMIT`].
const MIN_BYTES_PER_SECOND: usize = 1024;

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    let begin = Instant::now();
    loop {
        let slowest = Duration::from_secs((length / MIN_BYTES_PER_SECOND) as u64);
        let late = begin + CHUNK_LIMIT + slowest;
        let chunk = timeout_at(late.min(Instant::now() + CHUNK_LIMIT), chunks.next()).await;
        let stalled = |_| errors::body_stalled(begin.elapsed(), length);
        let Some(chunk) = chunk.map_err(stalled)? else {
            break;
        };
        let chunk = chunk.map_err(|_| errors::body_incomplete())?;
        length += chunk.len();
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else if length > DISCARD_LIMIT {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length <= limit {
        return Ok(bytes);
    }
    Err(errors::body_too_large(limit))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Diagnostic> {
    let text = std::str::from_utf8(body).map_err(|e| errors::body_not_utf8(e.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // serde accepts an array of the fields' values as well.
    if text.trim_start().starts_with('[') {
        let object = serde_json::from_str::<serde_json::Map<String, Value>>(text);
        return Err(match object {
            Err(error) => errors::body_invalid(&error),
            Ok(_) => Diagnostic::internal("an array is no object"),
        });
    }
    serde_json::from_str(text).map_err(|e| errors::body_invalid(&e))
}

/// The query parameters of a request.
#[derive(Debug, Clone)]
pub struct QueryArgs<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryArgs<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(invalid("query", &rejection.body_text())),
        }
    }
}

/// The only parameter of a path.
#[derive(Debug, Clone)]
pub struct PathArg<T>(pub T);

impl<T: FromStr<Err = Diagnostic>, S: Send + Sync> FromRequestParts<S> for PathArg<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| invalid("path", &e.body_text()))?;
        text.parse().map(Self).map_err(ErrorResponse)
    }
}

fn invalid(part: &str, reason: &str) -> ErrorResponse {
    ErrorResponse(errors::invalid_part(part, reason))
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use diagnostics::Code;
    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    /// Reads a body of `chunks` chunks of this size, one after each `pause`.
    async fn read_slowly(chunks: usize, size: usize, pause: Duration) -> Result<usize, Diagnostic> {
        let sent = stream::iter(0..chunks).then(move |_| async move {
            sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; size]))
        });
        let body = read(Body::from_stream(sent), 1 << 20).await?;
        Ok(body.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_or_trickles_is_refused_and_a_slow_one_is_not() {
        let seconds = Duration::from_secs;
        for (chunks, size, pause, stalled_after) in [
            (100, 16 << 10, seconds(10), None),
            (2, 1, seconds(29), Some((30, 1))),
            (2, 1 << 10, seconds(31), Some((30, 0))),
            (600, 1, seconds(1), Some((30, 30))),
            (100, 512, seconds(1), Some((59, 59 * 512))),
        ] {
            let read = read_slowly(chunks, size, pause).await;
            let Some((seconds, bytes)) = stalled_after else {
                assert_eq!(read.map_err(|e| e.code), Err(Code::BodyTooLarge));
                continue;
            };
            let error = read.unwrap_err();
            assert_eq!(error.code, Code::DeadlineExceeded);
            assert_eq!(
                error.message,
                format!("the body stalled: {bytes} bytes arrived in {seconds} s")
            );
        }
    }
}
