use axum::{
    Json,
    response::{IntoResponse, Response},
};
use diagnostics::{Code, Diagnostic, ErrorBody};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::errors;

/// An error as an HTTP response: the status of its code and an [`ErrorBody`].
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorResponse(pub Diagnostic);

impl<E: Into<Diagnostic>> From<E> for ErrorResponse {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = %self.0.code, message = %self.0.message, "sent an error response");
        }
        let code = self.0.code;
        let detail = |name| self.0.details.as_ref().and_then(|d| d.get(name));
        let retry_after = detail("retry_after_seconds").and_then(serde_json::Value::as_u64);
        let accepted = detail(errors::ACCEPT_ENCODING)
            .and_then(serde_json::Value::as_str)
            .and_then(|encodings| HeaderValue::from_str(encodings).ok());
        let mut response = (status, Json(ErrorBody::from(self.0.clone()))).into_response();
        if let Some(encodings) = accepted {
            let headers = response.headers_mut();
            headers.insert(header::ACCEPT_ENCODING, encodings);
        }
        // For layers that send the error in another shape.
        response.extensions_mut().insert(self.0);
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else if is_permanent(code) {
            response
                .headers_mut()
                .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// Header that the clients of OpenAI and Anthropic check before they retry by status alone.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether a retry of the same request fails until the request or the machine changes.
fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::DeadlineExceeded
            | Code::InsufficientRam
            | Code::OutOfMemory
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_clients_whether_and_when_to_retry() {
        let headers = |error: Diagnostic| {
            let headers = ErrorResponse(error).into_response().headers().clone();
            let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            (text("x-should-retry"), text("retry-after"))
        };
        let never = (Some("false".to_owned()), None);
        for code in [
            Code::DeadlineExceeded,
            Code::InsufficientVram,
            Code::OutOfMemory,
            Code::BackendUnavailable,
            Code::UnsupportedQuantization,
        ] {
            assert_eq!(headers(Diagnostic::new(code, "no")), never, "{code}");
        }
        for code in [Code::AllSlotsBusy, Code::WorkerLinkLost, Code::Draining] {
            assert_eq!(headers(Diagnostic::new(code, "later")), (None, None));
        }
        for code in [Code::QueueFull, Code::InsufficientRam] {
            let later = Diagnostic::new(code, "later").detail("retry_after_seconds", 7);
            assert_eq!(headers(later), (None, Some("7".to_owned())), "{code}");
        }
    }
}
