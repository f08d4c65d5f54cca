use std::{io::ErrorKind, net::SocketAddr};

use axum::{Router, serve::ListenerExt as _};
use diagnostics::{Code, Diagnostic};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

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
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Diagnostic> {
    let listener = listener.tap_io(|stream| {
        // Tokens are small packets that must not wait for each other.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|e| Diagnostic::internal(format!("serving HTTP: {e}")))
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
