use std::{str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use diagnostics::Diagnostic;
use futures_util::StreamExt as _;
use http::{header, request::Parts};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{ErrorResponse, errors};

/// A JSON request body. Rejects another content type or a compressed body (415), a body over the
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

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = timeout(CHUNK_LIMIT, chunks.next())
        .await
        .map_err(|_| errors::body_stalled(CHUNK_LIMIT, length))?
    {
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
