use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    serve::{Listener as _, ListenerExt as _},
};
use diagnostics::Diagnostic;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{Connections, Encryption},
    errors,
    http1::{HEAD_LIMITS, HeadLimits},
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
    let connections = Arc::new(Connections::new(limits, encryption, router));
    let open = TaskTracker::new();
    loop {
        let (stream, client) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let connections = Arc::clone(&connections);
        open.spawn(connections.serve(stream, client.ip(), stop.clone()));
    }
    drop(listener);
    open.close();
    open.wait().await;
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
    async fn http2_without_tls_is_served() {
        let (addr, _) = start(HEAD_LIMITS).await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // The preface and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5), in two packets.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for packet in [&preface[..1], &preface[1..]] {
            stream.write_all(packet).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "type of the first frame: {frame:?}");
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
