use std::{
    future::pending,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, util::MapRequest};

use crate::http1::{HeadLimits, Http1};

/// How a port serves connections with and without TLS.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The certificate.
    pub tls: Arc<ServerConfig>,
    /// Whether connections of other machines that do not begin with TLS are closed.
    pub required_of_others: bool,
}

impl Encryption {
    /// Whether a connection with this first byte is served, and with TLS. `client` and `own` are
    /// the addresses of its ends.
    fn admits(&self, first: u8, client: IpAddr, own: IpAddr) -> (bool, bool) {
        let encrypted = first == TLS_HANDSHAKE;
        let is_other = client != own && !client.to_canonical().is_loopback();
        (
            encrypted || !(self.required_of_others && is_other),
            encrypted,
        )
    }
}

/// First byte of a TLS connection: a handshake record (RFC 8446, section 5.1). No method of HTTP
/// begins with it.
const TLS_HANDSHAKE: u8 = 22;
/// First bytes of HTTP/2 without TLS (RFC 9113, section 3.4), and of no usual method of HTTP/1.
const HTTP2_PREFACE: &[u8] = b"PR";

/// What a connection begins with.
#[derive(Debug, Clone)]
enum Start {
    Tls(Arc<ServerConfig>),
    Http1,
    /// Perhaps HTTP/2.
    Other,
}

/// How the connections of a listener are served.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: HeadLimits,
    encryption: Option<Encryption>,
    router: Router,
    http1: Http1,
    http: auto::Builder<TokioExecutor>,
}

impl Connections {
    pub(crate) fn new(limits: HeadLimits, encryption: Option<Encryption>, router: Router) -> Self {
        let http1 = Http1::new(limits, router.clone());
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.next);
        Self {
            limits,
            encryption,
            router,
            http1,
            http,
        }
    }

    /// Serves one connection until it is closed; after `stop`, without a further request.
    pub(crate) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        client: IpAddr,
        stop: CancellationToken,
    ) {
        let start = timeout(self.limits.first, self.start(&stream, client));
        match stop.run_until_cancelled(start).await {
            // An error here is the client's.
            None | Some(Err(_) | Ok(Err(_))) => {}
            Some(Ok(Ok(Start::Http1))) => self.http1.serve(stream, &stop).await,
            Some(Ok(Ok(Start::Other))) => Box::pin(self.exchange(stream, &stop)).await,
            Some(Ok(Ok(Start::Tls(config)))) => {
                Box::pin(self.exchange_with_tls(config, stream, &stop)).await;
            }
        }
    }

    async fn exchange_with_tls(
        &self,
        config: Arc<ServerConfig>,
        stream: TcpStream,
        stop: &CancellationToken,
    ) {
        let accepted = timeout(self.limits.first, TlsAcceptor::from(config).accept(stream));
        if let Some(Ok(Ok(stream))) = stop.run_until_cancelled(accepted).await {
            self.exchange(Box::new(stream), stop).await;
        }
    }

    /// Serves HTTP/1 or HTTP/2.
    async fn exchange<S>(&self, stream: S, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let first_request = CancellationToken::new();
        let service = self.service(first_request.clone());
        let io = TokioIo::new(stream);
        let connection = self.http.serve_connection_with_upgrades(io, service);
        let shut_down = auto::UpgradeableConnection::graceful_shutdown;
        // The limit of hyper starts only when the connection is known to be HTTP/1.
        let idle = async {
            let requested = first_request.cancelled();
            if timeout(self.limits.first, requested).await.is_ok() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = run(connection, shut_down, stop) => {}
            () = idle => {}
        }
    }

    fn service(
        &self,
        first_request: CancellationToken,
    ) -> TowerToHyperService<
        MapRequest<Router, impl FnMut(Request<Incoming>) -> Request<Incoming> + Clone + use<>>,
    > {
        let service = self.router.clone().map_request(move |request| {
            first_request.cancel();
            request
        });
        TowerToHyperService::new(service)
    }

    /// Returns what the connection begins with, if it is admitted.
    async fn start(&self, stream: &TcpStream, client: IpAddr) -> io::Result<Start> {
        let mut first = [0; HTTP2_PREFACE.len()];
        let length = stream.peek(&mut first).await?;
        if let Some(encryption) = &self.encryption {
            match encryption.admits(first[0], client, stream.local_addr()?.ip()) {
                (true, false) => {}
                (true, true) => return Ok(Start::Tls(Arc::clone(&encryption.tls))),
                (false, _) => {
                    tracing::warn!(%client, "closed a connection without TLS");
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
            }
        }
        let may_be_http2 = HTTP2_PREFACE.starts_with(&first[..length]);
        Ok(if may_be_http2 {
            Start::Other
        } else {
            Start::Http1
        })
    }
}

/// Runs a connection to its end, which `shut_down` brings about after `stop`.
async fn run<C: Future>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    stop: &CancellationToken,
) {
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = stop.cancelled() => shut_down(connection.as_mut()),
    }
    connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HEAD_LIMITS;

    #[tokio::test]
    async fn a_connection_that_waits_for_a_request_takes_little_memory() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (stream, client) = accepted.unwrap();
        let connections = Connections::new(HEAD_LIMITS, None, Router::new());
        let serving = Arc::new(connections).serve(stream, client.ip(), CancellationToken::new());
        let size = size_of_val(&serving);
        assert!(size <= 1536, "{size} bytes");
    }

    #[test]
    fn other_machines_must_use_tls_if_it_is_required() {
        let identity = pinned_tls::Identity::parse(&pinned_tls::Identity::generate().unwrap());
        let tls = identity.unwrap().server_config().unwrap();
        let [loopback, mapped, own, other] =
            ["127.0.0.1", "::ffff:127.0.0.1", "192.0.2.1", "192.0.2.7"]
                .map(|address| address.parse().unwrap());
        for (required_of_others, first, client, expected) in [
            (true, b'G', loopback, (true, false)),
            (true, b'G', own, (true, false)),
            (true, b'G', mapped, (true, false)),
            (true, b'G', other, (false, false)),
            (true, TLS_HANDSHAKE, other, (true, true)),
            (false, b'G', other, (true, false)),
            (false, TLS_HANDSHAKE, loopback, (true, true)),
        ] {
            let encryption = Encryption {
                tls: Arc::clone(&tls),
                required_of_others,
            };
            assert_eq!(
                encryption.admits(first, client, own),
                expected,
                "{first} {client}"
            );
        }
    }
}
