use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use input_validation::NodeName;
use node_tunnel::{OWN_PORT, Side, Timing, Tunnel, TunnelStream, join_streams};
use queen_contract::{LinkHello, QueenClient};
use rest_client::CallError;
use state_files::{Home, JoinRecord};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};

use crate::{backoff::Backoff, errors};

/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A connection that lasted this long resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// A port of the loopback interface that the queen may reach.
pub type LocalPort = Option<u16>;

/// The connection of a hive to the queen that it has joined.
#[derive(Debug)]
pub struct Uplink {
    record: JoinRecord,
    token: Token,
    token_file: PathBuf,
    queen: QueenClient,
    /// Leads to the queen.
    listener: TcpListener,
    queen_port: NonZeroU16,
}

impl Uplink {
    /// Prepares the connection to the queen that this hive has joined; `None` if it has joined
    /// none. Does not wait for the queen.
    pub async fn open(home: &Home) -> Result<Option<Self>, Diagnostic> {
        let Some(mut record) = JoinRecord::read(&home.join_record())? else {
            return Ok(None);
        };
        let token_file = home.joined_token();
        let token = Token::load(&token_file).map_err(errors::token_missing)?;
        let (listener, queen_port) = listen(record.queen_port).await?;
        if record.queen_port != Some(queen_port) {
            record.queen_port = Some(queen_port);
            record.write(&home.join_record())?;
        }
        let http = if record.queen.is_https() {
            rest_client::pinned_client(&record.certificate)?
        } else {
            rest_client::http_client()?
        };
        let secret = Some(token.expose().to_owned());
        Ok(Some(Self {
            queen: QueenClient::with_http(record.queen.as_str(), secret, http),
            record,
            token,
            token_file,
            listener,
            queen_port,
        }))
    }

    /// The name of this machine's node.
    pub fn node(&self) -> &NodeName {
        &self.record.node
    }

    /// The token of this machine's node.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The file that holds the token.
    pub fn token_file(&self) -> PathBuf {
        self.token_file.clone()
    }

    /// Keeps the connection up. `local_port` returns the port of this machine that a port of the
    /// node stands for, if the queen may reach it. Returns only when the queen refuses this node.
    pub async fn keep<F>(
        self,
        api_version: u32,
        local_port: impl Fn(u16) -> F + Clone + Send + Sync + 'static,
    ) -> Diagnostic
    where
        F: Future<Output = LocalPort> + Send + 'static,
    {
        let Self {
            record,
            queen,
            listener,
            queen_port,
            ..
        } = self;
        let (sender, current) = watch::channel(None);
        let hello = LinkHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version,
            queen_port,
        };
        let connect = async || {
            let io = queen.link(&hello).await?;
            let local_port = local_port.clone();
            let serve = move |port, stream| serve(local_port(port), stream);
            Ok(Tunnel::start(io, Side::Client, Timing::default(), serve))
        };
        tokio::select! {
            refusal = keep_connected(&record, connect, &sender) => refusal,
            () = forward_to_queen(&listener, &current) => {
                Diagnostic::internal("the forward to the queen ended")
            }
        }
    }
}

/// Connects whenever there is no connection. Returns when the queen refuses this node.
async fn keep_connected(
    record: &JoinRecord,
    connect: impl AsyncFn() -> Result<Tunnel, CallError>,
    current: &watch::Sender<Option<Tunnel>>,
) -> Diagnostic {
    let JoinRecord { node, queen, .. } = record;
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        match connect().await {
            Ok(tunnel) => {
                let since = Instant::now();
                tracing::info!(%node, %queen, "connected to the queen");
                current.send_replace(Some(tunnel.clone()));
                let reason = tunnel.closed().await;
                current.send_replace(None);
                tracing::warn!(%node, %queen, %reason, "the connection to the queen is lost");
                if since.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(CallError::Response(401 | 404, _)) => return errors::removed(node, queen),
            Err(error) => {
                let error = error.into_diagnostic();
                if error.code == Code::VersionIncompatible {
                    // Only an installation on one of the machines helps.
                    backoff.skip_to_longest();
                }
                let hint = error.hint.as_deref();
                tracing::warn!(%node, code = %error.code, %error, hint, "cannot connect to the queen");
            }
        }
        let mut random = [0];
        // Without random numbers the pauses are the shortest ones.
        let _ = getrandom::fill(&mut random);
        sleep(backoff.pause(random[0])).await;
    }
}

/// Connects a stream of the queen with a server of this machine.
async fn serve(local_port: impl Future<Output = LocalPort>, stream: TunnelStream) {
    let Some(port) = local_port.await else { return };
    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
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
