use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, Bytes},
    response::Response,
};
use futures_util::Stream;
use http::{HeaderValue, header};
use tokio::time::{Instant, Sleep, sleep};

/// Time without an event after which a comment is sent, so that proxies and clients do not
/// close the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Comment that a silent stream sends.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// A `text/event-stream` response of encoded events, which sends comments while it is silent.
pub fn event_stream<S>(events: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    event_stream_kept_alive(events, COMMENT)
}

/// A `text/event-stream` response of encoded events, which sends `keep_alive`, a comment or an
/// event, while it is silent.
pub fn event_stream_kept_alive<S>(events: S, keep_alive: &'static [u8]) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let body = Body::from_stream(KeptAlive {
        events: Box::pin(events),
        silence: Box::pin(sleep(KEEP_ALIVE)),
        keep_alive: Bytes::from_static(keep_alive),
    });
    streaming("text/event-stream", body)
}

/// An `application/x-ndjson` response of encoded lines.
pub fn line_stream<S, E>(lines: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    streaming("application/x-ndjson", Body::from_stream(lines))
}

fn streaming(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Keeps nginx from buffering the tokens.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct KeptAlive<S> {
    events: Pin<Box<S>>,
    silence: Pin<Box<Sleep>>,
    keep_alive: Bytes,
}

impl<S: Stream<Item = Bytes>> Stream for KeptAlive<S> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = match self.events.as_mut().poll_next(cx) {
            Poll::Ready(event) => Poll::Ready(event.map(Ok)),
            Poll::Pending => match self.silence.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Ok(self.keep_alive.clone()))),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_sends_comments() {
        let events = stream::once(async { Bytes::from_static(b"data: 1\n\n") })
            .chain(stream::pending::<Bytes>());
        let mut body = event_stream(events).into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "data: 1\n\n");
        for _ in 0..2 {
            let before = Instant::now();
            assert_eq!(body.next().await.unwrap().unwrap(), ": keep-alive\n\n");
            assert_eq!(before.elapsed().as_secs(), 15);
        }
    }
}
