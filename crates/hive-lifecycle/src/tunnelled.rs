use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use daemon_shell::{ProcessIdentity, Token};
use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{API_VERSION, HiveClient, HiveShutdownRequest};
use input_validation::NodeName;
use node_link::Link as _;
use tunnel_link::{LinkState, TunnelLink};

use crate::{
    HiveHost, RunningHive,
    direct::{shut_down, unresponsive},
    errors,
};

/// The hive of a node with which the queen shares one connection. Someone else starts it: the
/// queen finds and watches it.
#[derive(Debug)]
pub struct TunnelHive {
    node: NodeName,
    link: Arc<TunnelLink>,
    token: Arc<Token>,
    /// The connection of the last attempt to find the hive.
    tried: AtomicU64,
}

impl TunnelHive {
    pub fn new(node: NodeName, link: Arc<TunnelLink>, token: Arc<Token>) -> Self {
        Self {
            node,
            link,
            token,
            tried: AtomicU64::new(0),
        }
    }

    /// Resolves when there is another connection than that of the last attempt, or none if
    /// `or_lost`.
    async fn replaced(&self, or_lost: bool) {
        let tried = self.tried.load(Ordering::Relaxed);
        let is_other = |state: &LinkState| match state {
            LinkState::Up(connection) => *connection != tried,
            LinkState::Connecting | LinkState::Down(_) => or_lost,
        };
        if self.link.state().wait_for(is_other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl HiveHost for TunnelHive {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async move {
            self.link.settled().await;
            self.tried.store(self.link.connection()?, Ordering::Relaxed);
            let endpoint = self.link.endpoint(tunnel_link::HIVE_PORT).await?;
            let token = Some(self.token.expose().to_owned());
            let client = HiveClient::with_http(&endpoint.base, token, endpoint.http);
            let health = client.health().await?;
            if health.api_version != API_VERSION {
                return Err(errors::joined_version_incompatible(&self.node, &health));
            }
            Ok(RunningHive {
                client,
                // A process of another machine: it matches none here.
                process: ProcessIdentity {
                    pid: health.pid,
                    start_time: 0,
                },
            })
        })
    }

    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            tokio::select! {
                () = unresponsive(hive) => {}
                () = self.replaced(true) => {}
            }
        })
    }

    fn stop<'a>(
        &'a self,
        hive: &'a RunningHive,
        request: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(shut_down(hive, request))
    }

    fn starts_hive(&self) -> bool {
        false
    }

    /// A new connection.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.replaced(false))
    }

    fn loss(&self) -> Diagnostic {
        match self.link.connection() {
            Err(reason) => reason,
            Ok(_) => errors::joined_unresponsive(&self.node),
        }
    }
}
