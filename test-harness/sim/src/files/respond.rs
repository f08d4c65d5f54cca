//! How a request is responded to.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;

use super::{
    Content, Served, Shared,
    fault::{Fault, Host},
};

/// Bytes of a piece if the rate is limited.
const SLOW_PIECE: usize = 16 << 10;

pub(super) fn respond(
    shared: &Arc<Shared>,
    number: usize,
    uri: &Uri,
    fault: Option<Fault>,
) -> Response {
    match &fault {
        Some(Fault::Status {
            status,
            retry_after,
        }) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = status.into_response();
            if let Some(value) = retry_after {
                set(response.headers_mut(), "retry-after", value);
            }
            return response;
        }
        Some(Fault::Redirect(location)) => return redirect(location),
        _ => {}
    }
    let asked = shared.inner().recorded[number].asked.clone();
    let path = asked.path.strip_prefix("/signed").unwrap_or(&asked.path);
    let Some(mut file) = shared.inner().files.get(path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(Fault::Version(etag, content)) = &fault {
        (file.etag, file.content) = (Some(etag.clone()), *content);
    }
    match asked.host {
        Host::Origin => {
            if let Some(bearer) = &file.bearer {
                let sent = asked.headers.get(header::AUTHORIZATION);
                if sent.is_none_or(|sent| sent.as_bytes() != format!("Bearer {bearer}").as_bytes())
                {
                    return StatusCode::UNAUTHORIZED.into_response();
                }
            }
            if file.redirects {
                return redirect_to_signed(shared, path, &file);
            }
        }
        Host::Other => {
            if !use_signature(shared, uri) {
                return StatusCode::FORBIDDEN.into_response();
            }
        }
    }
    file_response(shared, number, &file, asked.range, fault)
}

fn redirect(location: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    set(response.headers_mut(), "location", location);
    response
}

fn redirect_to_signed(shared: &Shared, path: &str, file: &Served) -> Response {
    let signature = {
        let mut inner = shared.inner();
        inner.next_signature += 1;
        let (signature, uses) = (inner.next_signature, inner.signature_uses);
        inner.signatures.insert(signature, uses.unwrap_or(u64::MAX));
        signature
    };
    let mut response = redirect(&format!(
        "http://{}/signed{path}?signature={signature}",
        shared.other
    ));
    if let Some(hash) = file.linked {
        let headers = response.headers_mut();
        set(
            headers,
            "x-linked-etag",
            &format!("\"{}\"", hex::encode(hash)),
        );
        set(headers, "x-linked-size", &file.content.size().to_string());
    }
    response
}

fn use_signature(shared: &Shared, uri: &Uri) -> bool {
    let signature = uri
        .query()
        .and_then(|query| query.strip_prefix("signature="))
        .and_then(|signature| signature.parse::<u64>().ok());
    let mut inner = shared.inner();
    let uses = signature.and_then(|signature| inner.signatures.get_mut(&signature));
    match uses {
        Some(uses) if *uses > 0 => {
            *uses -= 1;
            true
        }
        _ => false,
    }
}

fn file_response(
    shared: &Arc<Shared>,
    number: usize,
    file: &Served,
    range: Option<(u64, Option<u64>)>,
    fault: Option<Fault>,
) -> Response {
    let size = file.content.size();
    let range = match fault {
        Some(Fault::IgnoreRange | Fault::Endless) => None,
        _ if !file.ranges => None,
        _ => range,
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    if let Some(etag) = &file.etag {
        set(headers, "etag", &format!("\"{etag}\""));
    }
    let (status, start, end) = match range {
        Some((start, _)) if start >= size => {
            set(headers, "content-range", &format!("bytes */{size}"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return response;
        }
        Some((start, end)) => {
            let end = end.unwrap_or(size).min(size);
            let value = match &fault {
                Some(Fault::ContentRange(value)) => value.clone(),
                _ => format!("bytes {start}-{}/{size}", end - 1),
            };
            set(headers, "content-range", &value);
            (StatusCode::PARTIAL_CONTENT, start, end)
        }
        None => (StatusCode::OK, 0, size),
    };
    let states_length = status == StatusCode::PARTIAL_CONTENT || file.states_length;
    let mut length = end.saturating_sub(start);
    match &fault {
        Some(Fault::ShortLength(by)) => length = length.saturating_sub(*by),
        Some(Fault::ContentEncoding(encoding)) => set(headers, "content-encoding", encoding),
        Some(Fault::Headers(bytes)) => set(headers, "x-long", &"x".repeat(*bytes)),
        _ => {}
    }
    if states_length && !matches!(fault, Some(Fault::Endless)) {
        set(headers, "content-length", &length.to_string());
    }
    *response.status_mut() = status;
    *response.body_mut() = Sending {
        shared: shared.clone(),
        number,
        content: file.content,
        at: start,
        end: start + length,
        sent: 0,
        fault,
    }
    .into_body();
    response
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A body that is being sent.
struct Sending {
    shared: Arc<Shared>,
    number: usize,
    content: Content,
    at: u64,
    end: u64,
    sent: u64,
    fault: Option<Fault>,
}

impl Sending {
    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, Self::next))
    }

    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        let mut piece = self.content.pieces(self.at..self.end).next();
        let limited = self.shared.inner().bytes_per_second.is_some();
        match self.fault {
            Some(Fault::Cut(after)) if self.sent >= after => {
                // Lets the connection send what it has.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                return Some((Err(error), self));
            }
            Some(Fault::Stall(after)) if self.sent >= after => std::future::pending().await,
            Some(Fault::Cut(after) | Fault::Stall(after)) => {
                piece = piece.map(|piece| head(&piece, (after - self.sent) as usize));
            }
            Some(Fault::Delay(time)) if self.sent == 0 => tokio::time::sleep(time).await,
            Some(Fault::Rate(rate)) => {
                let bytes = (rate / 20).clamp(1, SLOW_PIECE as u64);
                piece = piece.map(|piece| head(&piece, bytes as usize));
                tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
            }
            Some(Fault::Endless) => piece = piece.or_else(|| Some(Bytes::from_static(&[0; 4096]))),
            Some(Fault::Flip(wrong)) => {
                piece = piece.map(|piece| {
                    let mut piece = piece.to_vec();
                    if let Some(byte) = wrong
                        .checked_sub(self.at)
                        .and_then(|at| piece.get_mut(at as usize))
                    {
                        *byte ^= 1;
                    }
                    piece.into()
                });
            }
            _ => {}
        }
        let mut piece = piece?;
        if limited {
            piece = head(&piece, SLOW_PIECE);
            if let Some(at) = self.shared.reserve(piece.len() as u64) {
                tokio::time::sleep_until(at).await;
            }
        }
        let bytes = piece.len() as u64;
        self.at = (self.at + bytes).min(self.end);
        self.sent += bytes;
        self.shared.inner().recorded[self.number].served += bytes;
        Some((Ok(piece), self))
    }
}

fn head(piece: &Bytes, bytes: usize) -> Bytes {
    piece.slice(..bytes.min(piece.len()))
}
