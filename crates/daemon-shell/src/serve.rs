use std::{future::pending, io::ErrorKind, net::SocketAddr, time::Duration};

use axum::{
    Router,
    serve::{Listener as _, ListenerExt as _},
};
use diagnostics::{Code, Diagnostic};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A connection on which no request begins, or whose request's head does not become whole, is
/// closed after this time. Clients that keep connections close them earlier: reqwest after
/// 90 s.
const HEAD_WITHIN: Duration = Duration::from_secs(120);

/// Listens on `addr`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, Diagnostic> {
    TcpListener::bind(addr).await.map_err(|e| {
        if e.kind() == ErrorKind::AddrInUse {
            Diagnostic::new(Code::PortInUse, format!("{addr} is in use"))
                .hint("stop what listens there, or choose another port with `--port`")
                .detail("port", addr.port())
        } else {
            Diagnostic::new(Code::ConfigInvalid, format!("cannot listen on {addr}: {e}"))
        }
    })
}

/// Serves until `stop`, then takes no new connections and returns when the open ones are
/// finished.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(HEAD_WITHIN, listener, router, stop).await;
}

async fn serve_within(
    head_within: Duration,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    let mut listener = listener.tap_io(|stream| {
        // Tokens are small packets that must not wait for each other.
        let _ = stream.set_nodelay(true);
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within);
    let open = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let begun = CancellationToken::new();
        let service = router.clone().map_request({
            let begun = begun.clone();
            move |request: Request<_>| {
                begun.cancel();
                request
            }
        });
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = open.watch(connection.into_owned());
        tokio::spawn(async move {
            // The limit of HTTP/1 counts from when it is known to be HTTP/1.
            let late = async {
                if timeout(head_within, begun.cancelled()).await.is_ok() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                // How it ends is the client's business.
                _ = connection => {}
                () = late => {}
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// Resolves when the process is asked to end, with the signal's name.
pub async fn termination() -> &'static str {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals keep their default action and end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    async fn start(head_within: Duration) -> (SocketAddr, CancellationToken) {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let stop = CancellationToken::new();
        tokio::spawn(serve_within(head_within, listener, router, stop.clone()));
        (addr, stop)
    }

    /// All that the server says to `sent`, until it closes the connection.
    async fn said(addr: SocketAddr, sent: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn who_never_ends_a_request_is_not_waited_for() {
        let (addr, _) = start(Duration::from_millis(50)).await;
        for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\nA: "] {
            assert!(!said(addr, sent).await.contains("here"), "{sent}");
        }
        let whole = said(addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(whole.ends_with("here"), "{whole}");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_end() {
        let (addr, stop) = start(HEAD_WITHIN).await;
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
