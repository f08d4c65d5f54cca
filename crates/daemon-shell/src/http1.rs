//! Serves HTTP/1 without TLS. A connection that waits for a request keeps its socket and nothing
//! else: a queen has one for each worker.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use futures_util::FutureExt as _;
use http::Request;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    upgrade::OnUpgrade,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// When a connection is closed that has not sent a complete request head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// From its start; from its first byte for HTTP/1 without TLS.
    pub(crate) first: Duration,
    /// From the end of a response. Clients close idle connections earlier: reqwest after 90 s.
    pub(crate) next: Duration,
}

pub(crate) const HEAD_LIMITS: HeadLimits = HeadLimits {
    first: Duration::from_secs(30),
    next: Duration::from_secs(120),
};

/// How often the state of HTTP is given up if no request is under way.
const QUIET: Duration = Duration::from_millis(200);

/// How connections of HTTP/1 are served.
#[derive(Debug)]
pub(crate) struct Http1 {
    limits: HeadLimits,
    router: Router,
    /// For a connection that has just been opened.
    first: http1::Builder,
    /// For one that had a request before.
    next: http1::Builder,
}

impl Http1 {
    pub(crate) fn new(limits: HeadLimits, router: Router) -> Self {
        let within = |limit| {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limit);
            builder
        };
        Self {
            limits,
            router,
            first: within(limits.first),
            next: within(limits.next),
        }
    }

    /// Serves a connection that has bytes to read, until it is closed; after `stop`, without a
    /// further request.
    pub(crate) async fn serve(&self, stream: TcpStream, stop: &CancellationToken) {
        let mut socket = Socket::new(stream);
        let mut builder = &self.first;
        while let Some(quiet) = Box::pin(self.requests(builder, socket, stop)).await {
            if quiet.unread.is_empty() {
                tokio::select! {
                    readable = quiet.stream.readable() => if readable.is_err() { return },
                    () = stop.cancelled() => return,
                    () = sleep(self.limits.next) => return,
                }
            }
            socket = quiet;
            builder = &self.next;
        }
    }

    /// Serves requests until none is under way at the end of a [`QUIET`] period, and returns the
    /// socket; `None` if the connection has ended.
    async fn requests(
        &self,
        builder: &http1::Builder,
        socket: Socket,
        stop: &CancellationToken,
    ) -> Option<Socket> {
        let exchange = Arc::clone(&socket.exchange);
        let (begun, ended) = (Arc::clone(&exchange), Arc::clone(&exchange));
        let service = self
            .router
            .clone()
            .map_request(move |request: Request<Incoming>| {
                begun.begin(&request);
                request
            })
            .map_response(move |response: Response| {
                let exchange = Arc::clone(&ended);
                response.map(|body| WatchedBody { body, exchange })
            });
        let mut connection = builder
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
            .with_upgrades();
        let mut may_return = true;
        loop {
            tokio::select! {
                _ = &mut connection => return None,
                () = stop.cancelled() => {
                    Pin::new(&mut connection).graceful_shutdown();
                    // An error here is the client's.
                    let _ = connection.await;
                    return None;
                }
                () = sleep(QUIET), if may_return => {}
            }
            if !exchange.is_quiet() {
                continue;
            }
            exchange.is_kept.store(true, Relaxed);
            Pin::new(&mut connection).graceful_shutdown();
            if let Some(ended) = (&mut connection).now_or_never() {
                ended.ok()?;
                let parts = connection.into_parts()?;
                let mut socket = Socket::new(parts.io.into_inner().stream);
                // An empty buffer would keep its memory.
                if !parts.read_buf.is_empty() {
                    socket.unread = parts.read_buf;
                }
                return Some(socket);
            }
            // A request is under way after all: hyper closes the connection after it.
            exchange.is_kept.store(false, Relaxed);
            may_return = false;
        }
    }
}

/// What a connection does at present, as far as its socket and its responses show.
#[derive(Debug, Default)]
struct Exchange {
    /// Whether there was a request.
    has_begun: AtomicBool,
    /// Whether a response is not complete.
    is_responding: AtomicBool,
    /// Whether bytes wait until the socket takes them.
    has_unsent: AtomicBool,
    /// Whether a request offered another protocol: hyper then ends HTTP as if it had switched.
    offers_upgrade: AtomicBool,
    /// Whether the socket stays open when HTTP ends on it.
    is_kept: AtomicBool,
}

impl Exchange {
    fn begin(&self, request: &Request<Incoming>) {
        if request.extensions().get::<OnUpgrade>().is_some() {
            self.offers_upgrade.store(true, Relaxed);
        }
        self.is_responding.store(true, Relaxed);
        self.has_begun.store(true, Relaxed);
    }

    /// Whether all requests have their responses, and HTTP can end without the socket.
    fn is_quiet(&self) -> bool {
        let is_busy = self.is_responding.load(Relaxed)
            || self.has_unsent.load(Relaxed)
            || self.offers_upgrade.load(Relaxed);
        self.has_begun.load(Relaxed) && !is_busy
    }
}

/// The body of a response, which ends the exchange when it is dropped.
struct WatchedBody {
    body: Body,
    exchange: Arc<Exchange>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.exchange.is_responding.store(false, Relaxed);
    }
}

/// A socket that can outlast HTTP on it.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// Bytes that were read before and not used.
    unread: Bytes,
    exchange: Arc<Exchange>,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Bytes::new(),
            exchange: Arc::default(),
        }
    }

    fn watch(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.exchange
            .has_unsent
            .store(written.is_pending(), Relaxed);
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.exchange.is_kept.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "http1_tests.rs"]
mod tests;
