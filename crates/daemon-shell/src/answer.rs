use std::{str::FromStr, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
};
use diagnostics::{Code, Diagnostic, ErrorBody, excerpt};
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// An error as the HTTP answer it becomes: the code's status and the one error body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer(pub Diagnostic);

impl<E: Into<Diagnostic>> From<E> for Answer {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = %self.0.code, message = %self.0.message, "answered an error");
        }
        let code = self.0.code;
        let retry_after = self
            .0
            .details
            .as_ref()
            .and_then(|d| d.get("retry_after_seconds"))
            .and_then(serde_json::Value::as_u64);
        let mut response = (status, Json(ErrorBody::from(self.0.clone()))).into_response();
        // For layers that tell it in another shape.
        response.extensions_mut().insert(self.0);
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else if is_final(code) {
            response
                .headers_mut()
                .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// What OpenAI's and Anthropic's clients ask before they repeat a request by its status alone.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether the same request gets the same answer until someone changes it or the machine.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::DeadlineExceeded
            | Code::InsufficientRam
            | Code::InsufficientVram
            | Code::InsufficientDisk
            | Code::BackendUnavailable
            | Code::CudaUnavailable
            | Code::UnsupportedModel
            | Code::UnsupportedQuantization
            | Code::UnsupportedParameter
            | Code::UnsupportedMediaType
    )
}

/// A JSON body. Refused: another content type (415), a body over the limit (413), bytes
/// that are not UTF-8 or not the JSON asked for (400, with line and column).
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Answer;

    async fn from_request(request: Request, _: &S) -> Result<Self, Answer> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") && !essence.ends_with("+json") {
            return Err(Answer(
                Diagnostic::new(
                    Code::UnsupportedMediaType,
                    format!("the body's type is \"{}\"", excerpt(content_type, 80)),
                )
                .hint("send JSON with `Content-Type: application/json`"),
            ));
        }
        let limit = request
            .extensions()
            .get::<BodyLimit>()
            .map_or(DEFAULT_BODY_LIMIT, |limit| limit.0);
        let body = read(request.into_body(), limit).await?;
        parse(&body).map(Self).map_err(Answer)
    }
}

/// The limit that [`crate::finish`] sets on bodies, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit(pub usize);

const DEFAULT_BODY_LIMIT: usize = 1 << 20;

/// How much of a body over the limit is still read, only to be thrown away. A client that is
/// cut off while it sends would see a broken connection instead of the answer.
const DISCARD_LIMIT: usize = 64 << 20;

/// Longest that the next piece of a body is waited for.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    let silent = |_| {
        let seconds = PIECE_WITHIN.as_secs();
        Diagnostic::new(
            Code::DeadlineExceeded,
            format!("the body's next byte did not come within {seconds} s"),
        )
        .hint("send the whole body at once")
    };
    while let Some(piece) = timeout(PIECE_WITHIN, pieces.next()).await.map_err(silent)? {
        let piece =
            piece.map_err(|_| Diagnostic::new(Code::InvalidRequest, "the body broke off"))?;
        length += piece.len();
        if length <= limit {
            bytes.extend_from_slice(&piece);
        } else if length > DISCARD_LIMIT {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length <= limit {
        return Ok(bytes);
    }
    Err(Diagnostic::new(
        Code::BodyTooLarge,
        format!("the body is larger than {limit} bytes"),
    )
    .hint("send less, for instance fewer messages")
    .detail("limit_bytes", limit))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Diagnostic> {
    let text = std::str::from_utf8(body).map_err(|e| {
        Diagnostic::new(
            Code::InvalidRequest,
            format!("the body is not UTF-8 at byte {}", e.valid_up_to()),
        )
    })?;
    serde_json::from_str(text).map_err(|e| {
        Diagnostic::new(
            Code::InvalidRequest,
            format!(
                "the body is not the JSON expected: {}",
                excerpt(&e.to_string(), 300)
            ),
        )
        .detail("line", e.line())
        .detail("column", e.column())
    })
}

/// The query string.
#[derive(Debug, Clone)]
pub struct QueryArgs<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryArgs<T> {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Answer(Diagnostic::new(
                Code::InvalidRequest,
                format!(
                    "the query is wrong: {}",
                    excerpt(&rejection.body_text(), 300)
                ),
            ))),
        }
    }
}

/// The one parameter of a path.
#[derive(Debug, Clone)]
pub struct PathArg<T>(pub T);

impl<T: FromStr<Err = Diagnostic>, S: Send + Sync> FromRequestParts<S> for PathArg<T> {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| {
                Diagnostic::new(
                    Code::InvalidRequest,
                    format!("the path is wrong: {}", excerpt(&e.body_text(), 300)),
                )
            })?;
        text.parse().map(Self).map_err(Answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_when_to_come_back_and_when_not_to() {
        let answered = |error: Diagnostic| {
            let headers = Answer(error).into_response().headers().clone();
            let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            (text("x-should-retry"), text("retry-after"))
        };
        let never = (Some("false".to_owned()), None);
        for code in [
            Code::DeadlineExceeded,
            Code::InsufficientVram,
            Code::BackendUnavailable,
            Code::UnsupportedQuantization,
        ] {
            assert_eq!(answered(Diagnostic::new(code, "no")), never, "{code}");
        }
        for code in [Code::AllSlotsBusy, Code::WorkerLinkLost, Code::Draining] {
            assert_eq!(answered(Diagnostic::new(code, "later")), (None, None));
        }
        for code in [Code::QueueFull, Code::InsufficientRam] {
            let later = Diagnostic::new(code, "later").detail("retry_after_seconds", 7);
            assert_eq!(answered(later), (None, Some("7".to_owned())), "{code}");
        }
    }
}
