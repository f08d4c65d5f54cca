//! The files of fetched models, for other nodes that copy them through the queen.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use daemon_shell::{ErrorResponse, JsonBody, QueryArgs, blocking};
use diagnostics::Diagnostic;
use futures_util::stream;
use hive_contract::{ContentQuery, ManifestQuery, ModelManifest};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::mpsc;

use super::{
    Hive,
    range::{self, Part},
    responses::{ContentErrors, ModelErrors},
};

/// Bytes that are read at once.
const PIECE: u64 = 512 * 1024;
/// Pieces that wait for the connection.
const QUEUE: usize = 4;

/// The files of a fetched model
///
/// Another node copies them by `GET /v1/models/content`.
#[utoipa::path(post, path = "/v1/models/manifest", tag = "models", request_body = ManifestQuery,
    responses((status = 200, body = ModelManifest, description = "The files"), ModelErrors))]
pub async fn manifest(
    State(hive): State<Arc<Hive>>,
    JsonBody(query): JsonBody<ManifestQuery>,
) -> Result<Json<ModelManifest>, ErrorResponse> {
    let manifest = blocking(move || hive.catalog.manifest(&query));
    Ok(Json(manifest.await?))
}

/// The content of a file of a fetched model
///
/// Serves one range of bytes, or the whole file if the header `Range` has another form.
#[utoipa::path(get, path = "/v1/models/content", tag = "models",
    params(ContentQuery, ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST` or `bytes=FIRST-`")),
    responses(
        (status = 200, description = "The file", body = [u8], content_type = "application/octet-stream",
            headers(("etag" = String, description = "SHA-256 of the file, in quotes"),
                ("accept-ranges" = String, description = "`bytes`"))),
        (status = 206, description = "The range", body = [u8], content_type = "application/octet-stream",
            headers(("etag" = String, description = "SHA-256 of the file, in quotes"),
                ("accept-ranges" = String, description = "`bytes`"),
                ("content-range" = String, description = "`bytes FIRST-LAST/SIZE`"))),
        ContentErrors))]
pub async fn content(
    State(hive): State<Arc<Hive>>,
    QueryArgs(query): QueryArgs<ContentQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let etag = format!("\"{}\"", query.sha256);
    let (file, size) = blocking(move || hive.catalog.open_file(&query)).await?;
    let asked = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let part = range::of(asked, size)?;
    let (status, bytes) = match &part {
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Range(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
    };
    let mut response = Response::new(body(file, bytes.clone()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, (bytes.end - bytes.start).into());
    let etag = HeaderValue::from_str(&etag).map_err(Diagnostic::internal)?;
    headers.insert(header::ETAG, etag);
    if part != Part::Whole {
        let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
        let range = HeaderValue::from_str(&range).map_err(Diagnostic::internal)?;
        headers.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// Reads a part of a file on a thread of its own, as fast as the connection takes it.
fn body(file: File, bytes: std::ops::Range<u64>) -> Body {
    let (pieces, queue) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut at = bytes.start;
        while at < bytes.end {
            let piece = read(&file, at, PIECE.min(bytes.end - at));
            let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            // Fails if the connection is closed.
            if pieces.blocking_send(piece).is_err() || length == 0 {
                return;
            }
            at += length;
        }
    });
    Body::from_stream(stream::unfold(queue, async |mut queue| {
        Some((queue.recv().await?, queue))
    }))
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; length as usize];
    match file.read_at(&mut piece, at)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        read => {
            piece.truncate(read);
            Ok(piece.into())
        }
    }
}
