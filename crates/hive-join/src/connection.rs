use std::{path::PathBuf, time::Duration};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use input_validation::NodeName;
use node_tunnel::{Backoff, Side, Timing, Tunnel};
use queen_contract::{LinkHello, QueenClient};
use rest_client::CallError;
use state_files::{Home, JoinRecord};
use tokio::time::Instant;

use crate::{
    errors,
    queen_port::{LocalServer, QueenPort, serve},
};

/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A connection that lasted this long resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The connection of a hive to the queen that it has joined.
#[derive(Debug)]
pub struct Uplink {
    record: JoinRecord,
    token: Token,
    token_file: PathBuf,
    queen: QueenClient,
    queen_port: QueenPort,
}

impl Uplink {
    /// Prepares the connection to the queen that this hive has joined; `None` if it has joined
    /// none. Does not wait for the queen.
    pub async fn open(home: &Home) -> Result<Option<Self>, Diagnostic> {
        let Some(record) = JoinRecord::read(&home.join_record())? else {
            return Ok(None);
        };
        let token_file = home.joined_token();
        let token = Token::load(&token_file).map_err(errors::token_missing)?;
        let queen_port = QueenPort::open(home, &record.node).await?;
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

    /// Keeps the connection up. `local_server` returns the server that a port of the node
    /// stands for. Returns only when the queen refuses this node.
    pub async fn keep<F>(
        self,
        api_version: u32,
        local_server: impl Fn(u16) -> F + Clone + Send + Sync + 'static,
    ) -> Diagnostic
    where
        F: Future<Output = LocalServer> + Send + 'static,
    {
        let Self {
            record,
            queen,
            queen_port,
            ..
        } = self;
        let hello = LinkHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version,
            queen_port: queen_port.port(),
        };
        let connect = async || {
            let io = queen.link(&hello).await?;
            let local_server = local_server.clone();
            let serve = move |port, stream| serve(local_server(port), stream);
            Ok(Tunnel::start(io, Side::Client, Timing::default(), serve))
        };
        keep_connected(&record, connect, &queen_port).await
    }
}

/// Connects whenever there is no connection. Returns when the queen refuses this node.
async fn keep_connected(
    record: &JoinRecord,
    connect: impl AsyncFn() -> Result<Tunnel, CallError>,
    queen_port: &QueenPort,
) -> Diagnostic {
    let JoinRecord { node, queen, .. } = record;
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        match connect().await {
            Ok(tunnel) => {
                let since = Instant::now();
                tracing::info!(%node, %queen, "connected to the queen");
                queen_port.lead_through(tunnel.clone());
                let reason = tunnel.closed().await;
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
        backoff.wait().await;
    }
}
