use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use node_tunnel::{Tunnel, join_streams};
use rest_client::HttpClient;
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The Unix sockets of a link: each leads to a port of the node.
#[derive(Debug)]
pub(crate) struct Sockets {
    directory: TempDir,
    clients: BTreeMap<u16, HttpClient>,
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Sockets {
    pub(crate) fn new(parent: &Path) -> Result<Self, Diagnostic> {
        let directory = tempfile::Builder::new().prefix("j").tempdir_in(parent);
        let stop = CancellationToken::new();
        Ok(Self {
            directory: directory.map_err(|e| unusable(parent, &e))?,
            clients: BTreeMap::new(),
            _guard: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Returns a client whose connections lead to this port through the newest tunnel.
    pub(crate) fn client(
        &mut self,
        port: u16,
        tunnels: &watch::Receiver<Option<Tunnel>>,
    ) -> Result<HttpClient, Diagnostic> {
        if let Some(client) = self.clients.get(&port) {
            return Ok(client.clone());
        }
        let socket: PathBuf = self.directory.path().join(port.to_string());
        let listener = UnixListener::bind(&socket).map_err(|e| unusable(&socket, &e))?;
        let client = rest_client::unix_socket_client(&socket)?;
        let forward = forward(listener, port, tunnels.clone(), self.stop.clone());
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(forward));
        self.clients.insert(port, client.clone());
        Ok(client)
    }
}

/// Connects everything that connects to a socket with a port of the node.
async fn forward(
    listener: UnixListener,
    port: u16,
    tunnels: watch::Receiver<Option<Tunnel>>,
    stop: CancellationToken,
) {
    loop {
        let accepted = match listener.accept().await {
            Ok((accepted, _)) => accepted,
            Err(error) => {
                tracing::warn!(%error, port, "cannot accept a connection to a node");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        // Without a tunnel the connection is closed at once.
        let tunnel = tunnels.borrow().clone();
        if let Some(tunnel) = tunnel {
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                if let Ok(stream) = tunnel.open(port).await {
                    join_streams(accepted, stream).await;
                }
            }));
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot use {}: {error}", path.display()), error)
}
