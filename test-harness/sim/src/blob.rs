use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::PathBuf,
};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};

const PIECE: u64 = 256 << 10;

/// Content of a file: bytes in memory, or a file on disk.
#[derive(Debug, Clone)]
pub enum Blob {
    /// Bytes in memory.
    Memory(Bytes),
    /// A file on disk, which must not change.
    Disk(PathBuf),
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self::Memory(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl From<PathBuf> for Blob {
    fn from(path: PathBuf) -> Self {
        Self::Disk(path)
    }
}

impl Blob {
    /// Returns the size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::Disk(path) => Ok(path.metadata()?.len()),
        }
    }

    /// Returns the SHA-256 as hexadecimal digits.
    pub fn sha256(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        for piece in self.pieces(0..self.size()?)? {
            hash.update(piece?);
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn pieces(
        &self,
        range: Range<u64>,
    ) -> io::Result<Box<dyn Iterator<Item = io::Result<Bytes>> + Send>> {
        Ok(match self {
            Self::Memory(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                Box::new(std::iter::once(Ok(bytes)))
            }
            Self::Disk(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut left = range.end - range.start;
                Box::new(std::iter::from_fn(move || {
                    if left == 0 {
                        return None;
                    }
                    let mut piece = vec![0; left.min(PIECE) as usize];
                    left -= piece.len() as u64;
                    Some(file.read_exact(&mut piece).map(|()| piece.into()))
                }))
            }
        })
    }

    /// Responds with the content, or with the part that a `Range` header asks for.
    pub(crate) fn respond(&self, range: Option<&str>) -> Response {
        self.try_respond(range)
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    fn try_respond(&self, range: Option<&str>) -> io::Result<Response> {
        let size = self.size()?;
        let (status, part) = match range.and_then(|text| parse_range(text, size)) {
            None => (StatusCode::OK, 0..size),
            Some(part) if part.is_empty() => {
                let unsatisfied = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
                return Ok((StatusCode::RANGE_NOT_SATISFIABLE, unsatisfied).into_response());
            }
            Some(part) => (StatusCode::PARTIAL_CONTENT, part),
        };
        let body = Body::from_stream(stream::iter(self.pieces(part.clone())?));
        let length = [
            (header::CONTENT_LENGTH, (part.end - part.start).to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
        ];
        let mut response = (status, length, body).into_response();
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            if let Ok(value) = range.parse() {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
        }
        Ok(response)
    }
}

/// Reads `bytes=FIRST-[LAST]`; the part is empty if it begins after the end.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    Some(first.min(end)..end)
}
