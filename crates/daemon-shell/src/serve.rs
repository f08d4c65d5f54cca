use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    serve::{Listener as _, ListenerExt as _},
};
use diagnostics::Diagnostic;
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};
use tower::ServiceExt as _;

use crate::errors;

/// When a connection is closed that has not sent a complete request head.
#[derive(Debug, Clone, Copy)]
struct HeadLimits {
    /// From its start.
    first: Duration,
    /// From the end of a response. Clients close idle connections earlier: reqwest after 90 s.
    next: Duration,
}

const HEAD_LIMITS: HeadLimits = HeadLimits {
    first: Duration::from_secs(30),
    next: Duration::from_secs(120),
};

/// Time without traffic after which the kernel probes a connection, and between two probes.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// Probes without an answer after which a connection is closed.
const MAX_PROBES: u32 = 8;

/// Has the kernel probe a silent connection. A response that is one document sends nothing until
/// it is complete: the probes keep routers from forgetting its connection, and find a client
/// that has vanished. Bytes ahead of the document would do so as well, but would fix its status
/// before its outcome is known.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepcnt(stream, MAX_PROBES)
}

/// Binds a listener to `addr`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, Diagnostic> {
    TcpListener::bind(addr)
        .await
        .map_err(|e| errors::not_bound(addr, &e))
}

/// Returns the address that a listener is bound to.
pub fn local_address(listener: &TcpListener) -> Result<SocketAddr, Diagnostic> {
    listener
        .local_addr()
        .map_err(|e| errors::no_local_address(&e))
}

/// Serves until `stop` is cancelled, then accepts no new connections and returns when the open
/// ones are closed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(HEAD_LIMITS, listener, None, router, stop).await;
}

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

/// Like [`serve`]; each client chooses whether its connection is encrypted, as far as
/// `encryption` permits.
pub async fn serve_with_tls(
    listener: TcpListener,
    encryption: Encryption,
    router: Router,
    stop: CancellationToken,
) {
    serve_within(HEAD_LIMITS, listener, Some(encryption), router, stop).await;
}

async fn serve_within(
    limits: HeadLimits,
    listener: TcpListener,
    encryption: Option<Encryption>,
    router: Router,
    stop: CancellationToken,
) {
    let mut listener = listener.tap_io(|stream| {
        // Tokens are small packets that must not be delayed by Nagle's algorithm.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(stream);
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.next);
    let open = GracefulShutdown::new();
    loop {
        let (stream, client) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let first_request = CancellationToken::new();
        let service = router.clone().map_request({
            let first_request = first_request.clone();
            move |request: Request<_>| {
                first_request.cancel();
                request
            }
        });
        let service = TowerToHyperService::new(service);
        let (http, watcher) = (http.clone(), open.watcher());
        let opening = open_connection(stream, client.ip(), encryption.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            // The limit of hyper starts only when the connection is known to be HTTP/1.
            let idle = async {
                let requested = first_request.cancelled();
                if timeout(limits.first, requested).await.is_ok() {
                    pending::<()>().await;
                }
            };
            let connection = async {
                let opened = stop.run_until_cancelled(opening).await;
                let Some(Ok(stream)) = opened else { return };
                let io = TokioIo::new(stream);
                let connection = http.serve_connection_with_upgrades(io, service);
                // An error here is the client's.
                let _ = watcher.watch(connection.into_owned()).await;
            };
            tokio::select! {
                () = connection => {}
                () = idle => {}
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// First byte of a TLS connection: a handshake record (RFC 8446, section 5.1). No method of HTTP
/// begins with it.
const TLS_HANDSHAKE: u8 = 22;

/// Establishes TLS if the client begins with it.
async fn open_connection(
    stream: TcpStream,
    client: IpAddr,
    encryption: Option<Encryption>,
) -> io::Result<Either<TcpStream, TlsStream<TcpStream>>> {
    let Some(encryption) = encryption else {
        return Ok(Either::Left(stream));
    };
    let mut first = [0];
    stream.peek(&mut first).await?;
    match encryption.admits(first[0], client, stream.local_addr()?.ip()) {
        (true, false) => Ok(Either::Left(stream)),
        (true, true) => {
            let tls = TlsAcceptor::from(encryption.tls);
            Ok(Either::Right(tls.accept(stream).await?))
        }
        (false, _) => {
            tracing::warn!(%client, "closed a connection without TLS");
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
}

/// Address at which processes of this machine reach a listener. An unspecified address (0.0.0.0)
/// becomes the loopback address.
pub fn local_socket(listener: SocketAddr) -> SocketAddr {
    let ip = match listener {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, listener.port())
}

/// URL under which processes of this machine reach a listener.
pub fn local_url(listener: SocketAddr) -> String {
    format!("http://{}", local_socket(listener))
}

/// Waits for SIGTERM or SIGINT and returns its name.
pub async fn termination() -> &'static str {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals keep their default action and terminate the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    async fn start(limits: HeadLimits) -> (SocketAddr, CancellationToken) {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let stop = CancellationToken::new();
        tokio::spawn(serve_within(limits, listener, None, router, stop.clone()));
        (addr, stop)
    }

    /// Everything that the server sends after `sent`, until it closes the connection.
    async fn exchange(addr: SocketAddr, sent: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        received
    }

    #[test]
    fn a_local_url_is_reachable_from_this_machine() {
        for (listener, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.7:80", "http://10.0.0.7:80"),
        ] {
            assert_eq!(local_url(listener.parse().unwrap()), url);
        }
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

    #[tokio::test]
    async fn a_connection_without_a_complete_request_is_closed() {
        let first = Duration::from_millis(50);
        let (addr, _) = start(HeadLimits {
            first,
            ..HEAD_LIMITS
        })
        .await;
        for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\nA: "] {
            assert!(!exchange(addr, sent).await.contains("here"), "{sent}");
        }
        let (addr, _) = start(HeadLimits {
            first: HEAD_LIMITS.first,
            next: first,
        })
        .await;
        let complete = exchange(addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(complete.ends_with("here"), "{complete}");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_delay_the_shutdown() {
        let (addr, stop) = start(HEAD_LIMITS).await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        stop.cancel();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("here"), "{rest}");
        TcpStream::connect(addr).await.unwrap_err();
    }
}
