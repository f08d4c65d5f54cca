use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use hive_contract::HiveClient;
use hive_lifecycle::TunnelHive;
use input_validation::NodeName;
use queen_nodes::{NodeConnection, NodeParts, NodeTarget};
use rest_client::Upgraded;
use tokio::{io::AsyncReadExt as _, time::timeout};
use tunnel_link::{Side, Timing, TunnelLink};

/// Longest wait for the port that leads to the queen.
const PORT_LIMIT: Duration = Duration::from_secs(10);

/// The nodes with which the queen shares one connection for everything: those that connect to it,
/// and those that it connects to with TLS.
#[derive(Debug)]
pub(crate) struct TunnelNodes {
    /// Directory for sockets.
    sockets: PathBuf,
    queen_url: String,
    /// The links of nodes that connect to the queen.
    open: Mutex<HashMap<NodeName, Weak<TunnelLink>>>,
}

impl TunnelNodes {
    pub(crate) fn new(sockets: PathBuf, queen_url: &str) -> Self {
        Self {
            sockets,
            queen_url: queen_url.to_owned(),
            open: Mutex::default(),
        }
    }

    /// Opens a node that connects to the queen when it can.
    pub(crate) fn open_joined(&self, target: NodeTarget<'_>) -> Result<NodeParts, Diagnostic> {
        let link = self.link(target)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, link| link.strong_count() > 0);
        open.insert(target.name.clone(), Arc::downgrade(&link));
        Ok(parts(target, link))
    }

    /// Opens a node and begins to connect to it. `hive` is the client of its hive with TLS.
    pub(crate) fn open_direct(
        &self,
        target: NodeTarget<'_>,
        hive: HiveClient,
    ) -> Result<NodeParts, Diagnostic> {
        let link = self.link(target)?;
        let name = target.name.clone();
        tunnel_link::keep_dialled(&link, move || {
            let (hive, name) = (hive.clone(), name.clone());
            async move { dial(&hive).await.map_err(|e| not_connected(&name, e)) }
        });
        Ok(parts(target, link))
    }

    fn link(&self, target: NodeTarget<'_>) -> Result<Arc<TunnelLink>, Diagnostic> {
        TunnelLink::new(target.name, &self.sockets, &self.queen_url)
    }

    /// Uses a connection that a node has established.
    pub(crate) fn attach(
        &self,
        node: &NodeName,
        connection: NodeConnection,
    ) -> Result<(), Diagnostic> {
        let link = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.get(node).and_then(Weak::upgrade)
        };
        let link = link.ok_or_else(|| not_open(node))?;
        let NodeConnection { stream, queen_port } = connection;
        link.attach(stream, Side::Server, queen_port, Timing::default());
        Ok(())
    }
}

fn parts(target: NodeTarget<'_>, link: Arc<TunnelLink>) -> NodeParts {
    let (name, token) = (target.name.clone(), Arc::clone(target.token));
    let hive = Arc::new(TunnelHive::new(name, Arc::clone(&link), token));
    NodeParts { link, hive }
}

/// Connects to a hive.
async fn dial(hive: &HiveClient) -> Result<(Upgraded, u16), Diagnostic> {
    let mut connection = hive.link().await?;
    match timeout(PORT_LIMIT, connection.read_u16()).await {
        Ok(Ok(queen_port)) => Ok((connection, queen_port)),
        Ok(Err(_)) | Err(_) => Err(no_queen_port(hive.base())),
    }
}

fn not_connected(node: &NodeName, reason: Diagnostic) -> Diagnostic {
    Diagnostic {
        message: format!("node {node} is not connected: {}", reason.message),
        ..reason
    }
}

/// The hive did not send the port that leads to the queen.
fn no_queen_port(hive: &str) -> Diagnostic {
    Diagnostic::new(
        Code::HiveBadResponse,
        format!("the hive at {hive} did not complete the connection"),
    )
}

/// The node was removed while it connected.
fn not_open(node: &NodeName) -> Diagnostic {
    Diagnostic::new(Code::NodeNotFound, format!("node {node} does not exist"))
}
