//! Small parts of a file, in memory.

use std::{ops::Range, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use diagnostics::Diagnostic;

use crate::{
    errors,
    lane::random,
    limit::Limiter,
    retry::{self, Attempts},
    source::{Failure, Source},
};

pub(crate) async fn read(
    source: &Source,
    limiter: &Limiter,
    range: Range<u64>,
    first_delay: Duration,
) -> Result<Bytes, Diagnostic> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let mut attempts = Attempts::default();
    loop {
        let (error, after) = match read_once(source, limiter, &range).await {
            Ok(bytes) => return Ok(bytes),
            Err(Failure::Beyond(_)) => return Ok(Bytes::new()),
            Err(Failure::Retry { error, after }) => (error, after),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Changed) => return Err(errors::keeps_changing(source.url())),
        };
        let Some(failures) = attempts.failed(false, 0) else {
            return Err(error);
        };
        tokio::time::sleep(retry::delay(failures, first_delay, random(), after)).await;
    }
}

async fn read_once(
    source: &Source,
    limiter: &Limiter,
    range: &Range<u64>,
) -> Result<Bytes, Failure> {
    let opened = source.open(Some(range.clone())).await?;
    let mut response = opened.response;
    let url = response.url().clone();
    let there = opened.content.range;
    let end = range.end.min(there.end);
    let mut skip = range.start - there.start;
    let mut bytes = BytesMut::new();
    let length = end.saturating_sub(range.start) as usize;
    let failed = |reason: &str| {
        let host = errors::show_host(&url);
        Failure::retry(errors::failed(format!(
            "the body from {host} failed: {reason}"
        )))
    };
    while bytes.len() < length {
        let chunk = tokio::time::timeout(source.stall(), response.chunk())
            .await
            .map_err(|_| source.stalled(&url))?
            .map_err(|e| failed(&errors::chain(&e)))?;
        let Some(mut chunk) = chunk else {
            // The length of the file is not known.
            if there.end == u64::MAX {
                break;
            }
            return Err(failed("it ended early"));
        };
        limiter.take(chunk.len()).await;
        let skipped = skip.min(chunk.len() as u64);
        chunk.advance(skipped as usize);
        skip -= skipped;
        chunk.truncate(length - bytes.len());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
