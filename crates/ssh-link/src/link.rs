use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use input_validation::NodeName;
use node_link::{Attention, Endpoint, Exposed, Link, OnQueen, is_rare, pause};
use queen_contract::SshNode;
use rest_client::HttpClient;
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{SshSession, SshSettings, errors, server_process::ServerProcess};

/// State of a link.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// The first connection is being established.
    Connecting,
    /// Both sides can reach each other.
    Up(Connected),
    /// There is no connection, for this reason; it is being established again.
    Down(Diagnostic),
}

/// An established connection of a link.
#[derive(Debug, Clone)]
pub struct Connected {
    pub session: SshSession,
    /// Port on the loopback interface of the node that leads to the queen.
    pub queen_port: u16,
}

/// The link to a node through its SSH server. It is kept up: a lost connection is established
/// again with the same forwards. Nothing on the node is started or stopped. Dropping the link
/// ends the connection and removes its sockets.
#[derive(Debug)]
pub struct SshLink {
    node: NodeName,
    shared: Arc<Shared>,
    state: watch::Receiver<LinkState>,
    attention: watch::Sender<Attention>,
    _stop: DropGuard,
}

/// What a link needs.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    pub name: NodeName,
    pub node: SshNode,
    pub settings: Arc<SshSettings>,
    /// Base URL of the queen on its machine.
    pub queen_url: String,
    /// File with the port on the node that leads to the queen. It is used again, so that workers
    /// that outlived a queen find the next one.
    pub port_file: PathBuf,
}

#[derive(Debug)]
struct Shared {
    config: LinkConfig,
    /// Directory of the sockets that lead to ports of the node.
    sockets: TempDir,
    /// The client for each port that was requested.
    forwards: Mutex<BTreeMap<u16, HttpClient>>,
    /// The server's process of the last connection.
    server: Mutex<Option<ServerProcess>>,
}

impl SshLink {
    /// Creates the link and begins to connect.
    pub fn start(config: LinkConfig) -> Result<Self, Diagnostic> {
        let stop = CancellationToken::new();
        let (sender, state) = watch::channel(LinkState::Connecting);
        let node = config.name.clone();
        let shared = Arc::new(Shared {
            sockets: config.settings.runtime.create("l")?,
            config,
            forwards: Mutex::default(),
            server: Mutex::default(),
        });
        let (attention, wished) = watch::channel(Attention::default());
        let keep = keep_connected(Arc::clone(&shared), sender, wished);
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep));
        Ok(Self {
            node,
            shared,
            state,
            attention,
            _stop: stop.drop_guard(),
        })
    }

    /// Returns the state of the link, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Returns the connection. Waits for the first one; later, a link that is down is an error
    /// at once, which names the node.
    pub async fn connected(&self) -> Result<Connected, Diagnostic> {
        let mut state = self.state();
        let settled = state
            .wait_for(|state| !matches!(state, LinkState::Connecting))
            .await;
        match settled.as_deref() {
            Ok(LinkState::Up(connected)) => Ok(connected.clone()),
            Ok(LinkState::Down(reason)) => Err(errors::link_down(&self.node, reason.clone())),
            Ok(LinkState::Connecting) | Err(_) => {
                let reason = errors::lost(self.node.as_str(), "the link was closed");
                Err(errors::link_down(&self.node, reason))
            }
        }
    }
}

impl SshLink {
    /// Returns a client for this port of the node; the port is reachable through its socket.
    async fn forwarded(&self, port: u16) -> Result<HttpClient, Diagnostic> {
        self.connected().await?;
        let mut forwards = self.shared.forwards.lock().await;
        // The forwards are established again under this lock, so the connection is the newest
        // one, also if it was replaced in the meantime.
        let connected = self.connected().await?;
        if let Some(http) = forwards.get(&port) {
            return Ok(http.clone());
        }
        let socket = self.shared.socket(port);
        connected.session.forward_to_node(&socket, port).await?;
        let http = rest_client::unix_socket_client(&socket)?;
        forwards.insert(port, http.clone());
        Ok(http)
    }
}

impl Link for SshLink {
    fn endpoint(&self, port: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>> {
        Box::pin(async move {
            Ok(Endpoint {
                base: local_url(port),
                http: self.forwarded(port).await?,
            })
        })
    }

    fn release(&self, port: u16) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut forwards = self.shared.forwards.lock().await;
            if forwards.remove(&port).is_some() {
                let socket = self.shared.socket(port);
                if let Ok(connected) = self.connected().await {
                    connected.session.end_forward_to_node(&socket, port).await;
                }
                // A lost connection leaves its sockets.
                let _ = tokio::fs::remove_file(&socket).await;
            }
        })
    }

    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>> {
        Box::pin(async move { Ok(local_url(self.connected().await?.queen_port)) })
    }

    fn set_attention(&self, attention: Attention) {
        self.attention.send_replace(attention);
    }

    fn reach(&self, port: u16) -> BoxFuture<'_, Result<Option<OnQueen>, Diagnostic>> {
        Box::pin(async move {
            self.forwarded(port).await?;
            Ok(Some(OnQueen::Socket(self.shared.socket(port))))
        })
    }

    fn expose(&self, server: OnQueen) -> BoxFuture<'_, Result<Option<Exposed>, Diagnostic>> {
        Box::pin(async move {
            let session = self.connected().await?.session;
            session.expose(&server).await.map(Some)
        })
    }
}

impl Shared {
    fn socket(&self, port: u16) -> PathBuf {
        self.sockets.path().join(port.to_string())
    }

    /// Makes the queen reachable through the same port as before. Returns `false` if it is not
    /// free.
    async fn forward_again(&self, session: &SshSession, port: u16) -> Result<bool, Diagnostic> {
        let url = &self.config.queen_url;
        if session.forward_port_from_node(port, url).await? {
            return Ok(true);
        }
        // The server may not have noticed that the connection is lost.
        let Some(lost) = self.server.lock().await.take() else {
            return Ok(false);
        };
        session.end_server(&lost).await?;
        session.forward_port_from_node(port, url).await
    }

    /// Connects, establishes all forwards, and publishes the connection.
    async fn connect(
        &self,
        last_queen_port: Option<u16>,
        state: &watch::Sender<LinkState>,
    ) -> Result<Connected, Diagnostic> {
        let config = &self.config;
        let report = |event: diagnostics::Narration| {
            tracing::info!(node = %config.name, "{}", event.message);
        };
        let label = errors::label_of_node(&config.name, &config.node);
        let (node, settings) = (&config.node, &config.settings);
        let session = SshSession::connect_as(label, node, settings, &report).await?;
        let queen_port = match last_queen_port {
            Some(port) if self.forward_again(&session, port).await? => port,
            _ => session.forward_from_node(&config.queen_url).await?,
        };
        *self.server.lock().await = session.server_process().await?;
        if last_queen_port != Some(queen_port) {
            let written = tokio::fs::write(&config.port_file, queen_port.to_string()).await;
            written.map_err(|e| errors::unusable(&config.port_file, &e))?;
        }
        let forwards = self.forwards.lock().await;
        for port in forwards.keys() {
            session.forward_to_node(&self.socket(*port), *port).await?;
        }
        let connected = Connected {
            session,
            queen_port,
        };
        state.send_replace(LinkState::Up(connected.clone()));
        Ok(connected)
    }
}

async fn keep_connected(
    shared: Arc<Shared>,
    state: watch::Sender<LinkState>,
    mut attention: watch::Receiver<Attention>,
) {
    let config = &shared.config;
    let (first_pause, longest_pause) = config.settings.reconnect_pauses;
    let mut pauses = Pauses::new(first_pause, longest_pause);
    let last = tokio::fs::read_to_string(&config.port_file).await;
    let mut queen_port = last.ok().and_then(|port| port.parse().ok());
    loop {
        match shared.connect(queen_port, &state).await {
            Ok(connected) => {
                tracing::info!(node = %config.name, queen_port = connected.queen_port, "connected by SSH");
                queen_port = Some(connected.queen_port);
                let since = Instant::now();
                let lost = tokio::select! {
                    reason = connected.session.closed() => Some(reason),
                    () = is_rare(&attention) => None,
                };
                drop(connected);
                let Some(reason) = lost else {
                    tracing::info!(node = %config.name, "the SSH connection of the node, which is asleep, is closed");
                    let reason = errors::lost(config.name.as_str(), "it is asleep");
                    state.send_replace(LinkState::Down(reason));
                    pause(&mut attention, sleep(pauses.next())).await;
                    continue;
                };
                tracing::warn!(node = %config.name, %reason, "the SSH connection is lost");
                state.send_replace(LinkState::Down(reason));
                if pauses.connected_for(since.elapsed()) {
                    continue;
                }
            }
            Err(error) => {
                let (node, code) = (&config.name, error.code);
                if *attention.borrow() == Attention::Usual {
                    tracing::warn!(%node, %code, %error, "cannot connect");
                } else {
                    tracing::debug!(%node, %code, %error, "the node does not respond yet");
                }
                state.send_replace(LinkState::Down(error));
            }
        }
        pause(&mut attention, sleep(pauses.next())).await;
    }
}

/// Base URL of a port on the loopback interface.
fn local_url(port: u16) -> String {
    format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
}

/// Pauses that double up to a longest one.
#[derive(Debug)]
struct Pauses {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            next: first,
            longest,
        }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause * 2;
        pause
    }

    /// Begins with the first pause again if a connection lasted longer than that: it was of use.
    /// Returns whether no pause is needed at all.
    fn connected_for(&mut self, duration: Duration) -> bool {
        if duration >= self.first {
            self.next = self.first;
        }
        duration >= self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(30));
        let seconds: Vec<u64> = (0..7).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_connection_that_was_of_use_begins_the_pauses_again() {
        let second = Duration::from_secs(1);
        let mut pauses = Pauses::new(second, 30 * second);
        assert_eq!([pauses.next(), pauses.next()], [second, 2 * second]);
        assert!(!pauses.connected_for(second / 2));
        assert_eq!(pauses.next(), 4 * second);
        assert!(!pauses.connected_for(second));
        assert_eq!(pauses.next(), second);
        assert!(pauses.connected_for(30 * second));
    }
}
