use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
};

use diagnostics::{Code, Diagnostic};
use futures_util::future::BoxFuture;
use input_validation::NodeName;
use node_link::{Attention, Endpoint, Link};
use node_tunnel::{OWN_PORT, Side, Timing, Tunnel, TunnelStream, join_streams};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

use crate::sockets::Sockets;

/// State of a link.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// The queen connects to the node for the first time.
    Connecting,
    /// The node is connected, for this time since the link was created.
    Up(u64),
    /// The node is not connected, for this reason. It connects again by itself.
    Down(Diagnostic),
}

/// The link to a node that connects to the queen.
#[derive(Debug)]
pub struct TunnelLink {
    node: NodeName,
    /// Base URL of the queen on its machine.
    queen_url: String,
    sockets: Mutex<Sockets>,
    /// The newest connection.
    tunnel: watch::Sender<Option<Tunnel>>,
    state: watch::Sender<LinkState>,
    attention: watch::Sender<Attention>,
    connections: AtomicU64,
    /// Port of the node's loopback interface that leads to the queen.
    queen_port: AtomicU16,
}

impl TunnelLink {
    /// Creates the link of a node that has not connected yet. Its sockets are in a directory below
    /// `sockets`, whose path must be short. `queen_url` is the base URL of the queen on its
    /// machine.
    pub fn new(node: &NodeName, sockets: &Path, queen_url: &str) -> Result<Arc<Self>, Diagnostic> {
        Ok(Arc::new(Self {
            sockets: Mutex::new(Sockets::new(sockets)?),
            tunnel: watch::Sender::default(),
            state: watch::Sender::new(LinkState::Down(not_connected(node))),
            attention: watch::Sender::default(),
            connections: AtomicU64::new(0),
            queen_port: AtomicU16::new(0),
            node: node.clone(),
            queen_url: queen_url.to_owned(),
        }))
    }

    /// Uses a connection with the node's hive, which replaces an earlier one. `side` is that of
    /// the queen. `queen_port` is the port of the node's loopback interface that leads to the queen.
    pub fn attach(
        self: &Arc<Self>,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        side: Side,
        queen_port: u16,
        timing: Timing,
    ) {
        let queen = authority(&self.queen_url);
        let serve = move |port, stream| serve_node(queen.clone(), port, stream);
        let tunnel = Tunnel::start(io, side, timing, serve);
        self.queen_port.store(queen_port, Ordering::Relaxed);
        let replaced = self.tunnel.send_replace(Some(tunnel.clone()));
        if let Some(replaced) = replaced {
            tracing::warn!(node = %self.node, "the node has connected again; its earlier connection is closed");
            replaced.close();
        }
        tracing::info!(node = %self.node, queen_port, "the node is connected");
        let connection = 1 + self.connections.fetch_add(1, Ordering::Relaxed);
        self.state.send_replace(LinkState::Up(connection));
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            let reason = tunnel.closed().await;
            let Some(link) = link.upgrade() else { return };
            let ended = |current: &mut Option<Tunnel>| {
                let is_current = current.as_ref().is_some_and(|t| t.is_same(&tunnel));
                if is_current {
                    *current = None;
                }
                is_current
            };
            if link.tunnel.send_if_modified(ended) {
                if *link.attention.borrow() == Attention::Rare {
                    tracing::info!(node = %link.node, "the connection of the node, which is asleep, is closed");
                } else {
                    tracing::warn!(node = %link.node, %reason, "the connection of the node is lost");
                }
                let reason = lost(&link.node, &reason.to_string());
                link.state.send_replace(LinkState::Down(reason));
            }
        });
    }

    /// Waits for the end of the first attempt to connect.
    pub async fn settled(&self) {
        let settled = |state: &LinkState| !matches!(state, LinkState::Connecting);
        // The sender lives as long as this link.
        let _ = self.state().wait_for(settled).await;
    }

    /// Notes that the first attempt to connect begins.
    pub(crate) fn connecting(&self) {
        self.state.send_replace(LinkState::Connecting);
    }

    /// Notes why the node cannot be connected.
    pub(crate) fn failed(&self, reason: Diagnostic) {
        self.state.send_replace(LinkState::Down(reason));
    }

    /// How eagerly to connect, now and from now on.
    pub(crate) fn attention(&self) -> watch::Receiver<Attention> {
        self.attention.subscribe()
    }

    pub(crate) fn node(&self) -> &NodeName {
        &self.node
    }

    /// Ends the connection of a node that was removed.
    pub fn close(&self) {
        if let Some(tunnel) = self.tunnel.borrow().as_ref() {
            tunnel.close();
        }
    }

    /// Returns the state of the link, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Returns the number of the connection. Fails if the node is not connected.
    pub fn connection(&self) -> Result<u64, Diagnostic> {
        match &*self.state.borrow() {
            LinkState::Up(connection) => Ok(*connection),
            LinkState::Connecting => Err(not_connected(&self.node)),
            LinkState::Down(reason) => Err(reason.clone()),
        }
    }
}

impl Drop for TunnelLink {
    fn drop(&mut self) {
        self.close();
    }
}

impl Link for TunnelLink {
    /// The port [`OWN_PORT`] is that of the hive, wherever it listens.
    fn endpoint(&self, port: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>> {
        let endpoint = || {
            self.connection()?;
            let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            let base = match port {
                OWN_PORT => format!("http://{}", self.node),
                port => format!("http://{}:{port}", self.node),
            };
            Ok(Endpoint {
                base,
                http: sockets.client(port, &self.tunnel.subscribe())?,
            })
        };
        let endpoint = endpoint();
        Box::pin(async move { endpoint })
    }

    fn set_attention(&self, attention: Attention) {
        self.attention.send_replace(attention);
        if attention == Attention::Rare {
            self.close();
        }
    }

    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>> {
        let port = self.queen_port.load(Ordering::Relaxed);
        let url = self
            .connection()
            .map(|_| format!("http://{}:{port}", Ipv4Addr::LOCALHOST));
        Box::pin(async move { url })
    }
}

/// Connects a stream of the node with the queen, the only server that it can reach.
async fn serve_node(queen: String, port: u16, stream: TunnelStream) {
    if port != OWN_PORT {
        return;
    }
    if let Ok(queen) = TcpStream::connect(&queen).await {
        let _ = queen.set_nodelay(true);
        join_streams(stream, queen).await;
    }
}

/// Host and port of a base URL.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/').to_owned()
}

fn not_connected(node: &NodeName) -> Diagnostic {
    down(node, &format!("node {node} is not connected"))
}

fn lost(node: &NodeName, reason: &str) -> Diagnostic {
    down(node, &format!("node {node} is not connected: {reason}"))
}

fn down(node: &NodeName, message: &str) -> Diagnostic {
    Diagnostic::new(Code::HiveUnreachable, message).hint(format!(
        "start `rbee-hive` on the machine of {node}; the connection returns by itself"
    ))
}
