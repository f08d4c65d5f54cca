use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::NodeName;
use node_tunnel::{OWN_PORT, Tunnel, TunnelStream, join_streams};
use state_files::Home;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The address of a server of this machine, if the queen may reach it.
pub type LocalServer = Option<SocketAddr>;

/// A port of the loopback interface that leads to the queen through a tunnel. It is the same after
/// a restart of the hive, so that workers that outlived it find the queen.
#[derive(Debug)]
pub struct QueenPort {
    port: NonZeroU16,
    /// The newest connection.
    tunnel: watch::Sender<Option<Tunnel>>,
    _stop: DropGuard,
}

impl QueenPort {
    /// Listens on the port that was used last, or on a free one.
    pub async fn open(home: &Home, node: &NodeName) -> Result<Self, Diagnostic> {
        let file = home.queen_port_on(node);
        let last = fs::read_to_string(&file).ok();
        let last = last.and_then(|port| port.trim().parse::<NonZeroU16>().ok());
        let (listener, port) = listen(last).await?;
        if last != Some(port) {
            daemon_shell::write_atomically(&file, port.to_string().as_bytes())?;
        }
        let (tunnel, current) = watch::channel(None);
        let stop = CancellationToken::new();
        let forward = async move { forward_to_queen(&listener, &current).await };
        tokio::spawn(stop.clone().run_until_cancelled_owned(forward));
        Ok(Self {
            port,
            tunnel,
            _stop: stop.drop_guard(),
        })
    }

    /// The port.
    pub fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// Uses this tunnel from now on. Connections to the port end at once when it is closed.
    pub fn lead_through(&self, tunnel: Tunnel) {
        if let Some(replaced) = self.tunnel.send_replace(Some(tunnel)) {
            replaced.close();
        }
    }
}

/// Connects a stream of the queen with a server of this machine.
pub(crate) async fn serve(local_server: impl Future<Output = LocalServer>, stream: TunnelStream) {
    let Some(address) = local_server.await else {
        return;
    };
    if let Ok(server) = TcpStream::connect(address).await {
        let _ = server.set_nodelay(true);
        join_streams(stream, server).await;
    }
}

/// Connects everything that connects to the listener with the queen. Without a connection to the
/// queen it is closed at once.
async fn forward_to_queen(listener: &TcpListener, current: &watch::Receiver<Option<Tunnel>>) {
    loop {
        let accepted = match listener.accept().await {
            Ok((accepted, _)) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the queen");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let tunnel = current.borrow().clone();
        if let Some(tunnel) = tunnel {
            tokio::spawn(async move {
                let _ = accepted.set_nodelay(true);
                if let Ok(stream) = tunnel.open(OWN_PORT).await {
                    join_streams(accepted, stream).await;
                }
            });
        }
    }
}

/// Listens on the same port as before, or on a free one.
async fn listen(last: Option<NonZeroU16>) -> Result<(TcpListener, NonZeroU16), Diagnostic> {
    let bind = async |port: u16| daemon_shell::bind((Ipv4Addr::LOCALHOST, port).into()).await;
    let again = match last {
        Some(port) => bind(port.get()).await.ok(),
        None => None,
    };
    let listener = match again {
        Some(listener) => listener,
        None => bind(0).await?,
    };
    let address: SocketAddr = daemon_shell::local_address(&listener)?;
    let port = NonZeroU16::new(address.port());
    let port = port.ok_or_else(|| Diagnostic::internal("the listener has no port"))?;
    Ok((listener, port))
}
