use std::{fmt::Debug, sync::Arc};

use daemon_shell::Token;
use diagnostics::{Diagnostic, Narration};
use futures_util::future::BoxFuture;
use hive_contract::Device;
use hive_lifecycle::{HiveHost, RemoteHive};
use input_validation::{HostKeyFingerprint, NodeName};
use node_link::Link;
use queen_contract::NodeSpec;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::errors;

/// Receives messages for the user who waits for a long operation.
pub type Narrate<'a> = &'a (dyn Fn(Narration) + Send + Sync);

/// A node to connect to.
#[derive(Debug, Clone, Copy)]
pub struct NodeTarget<'a> {
    pub name: &'a NodeName,
    pub spec: &'a NodeSpec,
    /// The secret shared by the queen and the node's hive and workers.
    pub token: &'a Arc<Token>,
}

/// What a test of a connection found on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFindings {
    /// Version of the hive; `None` if it is not installed.
    pub hive_version: Option<String>,
    /// Devices, as far as they can be detected without a hive.
    pub devices: Vec<Device>,
}

/// How the queen works with a node. Nothing is connected until it is used.
#[derive(Debug, Clone)]
pub struct NodeParts {
    pub link: Arc<dyn Link>,
    pub hive: Arc<dyn HiveHost>,
}

/// A byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A connection that the hive of a node has established.
pub struct NodeConnection {
    pub stream: Box<dyn ByteStream>,
    /// Port of the node's loopback interface that leads to the queen.
    pub queen_port: u16,
}

/// Connects to nodes, by the kind of their link.
pub trait NodeConnector: Debug + Send + Sync + 'static {
    /// Tests whether the node can be reached and used, and detects what is on it. Changes
    /// nothing on it, except that `accept_host_key` is trusted from now on.
    fn test<'a>(
        &'a self,
        target: NodeTarget<'a>,
        accept_host_key: Option<&'a HostKeyFingerprint>,
        narrate: Narrate<'a>,
    ) -> BoxFuture<'a, Result<NodeFindings, Diagnostic>>;

    /// Returns the parts of a registered node. Does not wait for the node.
    fn open(&self, target: NodeTarget<'_>) -> Result<NodeParts, Diagnostic>;

    /// Uses a connection that the hive of an open node has established.
    fn attach(&self, node: &NodeName, connection: NodeConnection) -> Result<(), Diagnostic> {
        let _ = connection;
        Err(errors::not_joined(node))
    }

    /// Forgets a node that was removed: nothing of it stays on the queen's machine.
    fn forget(&self, node: &NodeName) {
        let _ = node;
    }

    /// Returns the hive of a node whose software the queen manages: installs, upgrades and removes.
    /// Fails for other nodes.
    fn managed_hive(&self, target: NodeTarget<'_>) -> Result<Arc<RemoteHive>, Diagnostic>;
}
