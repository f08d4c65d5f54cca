use std::{net::Ipv4Addr, path::PathBuf};

use diagnostics::Diagnostic;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where a server of a node is reachable on the queen's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnQueen {
    /// A port of the loopback interface.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// A port of the loopback interface of a node that leads to a server elsewhere, until this value is
/// dropped or the link of the node is lost.
#[derive(Debug)]
pub struct Exposed {
    port: u16,
    lost: CancellationToken,
    _close: Option<DropGuard>,
}

impl Exposed {
    /// A port that is closed when `close` is dropped, and that does not lead anywhere any more when
    /// `lost` is cancelled.
    pub fn new(port: u16, lost: CancellationToken, close: DropGuard) -> Self {
        Self {
            port,
            lost,
            _close: Some(close),
        }
    }

    /// The port of the server itself.
    pub fn direct(port: u16) -> Self {
        Self {
            port,
            lost: CancellationToken::new(),
            _close: None,
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the link that it needs was never lost.
    pub fn is_open(&self) -> bool {
        !self.lost.is_cancelled()
    }
}

/// Makes a server reachable through a port of the loopback interface of this machine.
///
/// Errors: `INTERNAL` if there is no port.
pub async fn serve_on_loopback(server: OnQueen) -> Result<Exposed, Diagnostic> {
    let socket = match server {
        OnQueen::Port(port) => return Ok(Exposed::direct(port)),
        OnQueen::Socket(socket) => socket,
    };
    let no_port = |error| Diagnostic::internal(format!("no port for a part of a model: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(no_port)?;
    let port = listener.local_addr().map_err(no_port)?.port();
    let stop = CancellationToken::new();
    let close = stop.clone().drop_guard();
    let serving = stop.clone();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((accepted, _)) = listener.accept().await {
            let socket = socket.clone();
            let connection = async move {
                let _ = accepted.set_nodelay(true);
                match UnixStream::connect(&socket).await {
                    Ok(server) => join(accepted, server).await,
                    Err(error) => tracing::warn!(%error, "a part of a model is out of reach"),
                }
            };
            tokio::spawn(serving.clone().run_until_cancelled_owned(connection));
        }
    }));
    Ok(Exposed::new(port, CancellationToken::new(), close))
}

async fn join(mut one: TcpStream, mut other: impl AsyncRead + AsyncWrite + Unpin) {
    // Either end may end the connection at any time.
    let _ = copy_bidirectional(&mut one, &mut other).await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_socket_is_served_until_its_value_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let server = UnixListener::bind(&path).unwrap();
        let exposed = serve_on_loopback(OnQueen::Socket(path)).await.unwrap();
        let address = (Ipv4Addr::LOCALHOST, exposed.port());
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        accepted.write_all(b"pong").await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"pong");
        assert!(exposed.is_open());
        drop(exposed);
        // What is connected ends, too.
        assert_eq!(accepted.read(&mut bytes).await.unwrap(), 0);
        let direct = serve_on_loopback(OnQueen::Port(7)).await.unwrap();
        assert_eq!(direct.port(), 7);
    }
}
