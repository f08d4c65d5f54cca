use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use diagnostics::{Code, Diagnostic};
use hive_lifecycle::JoinedHive;
use input_validation::NodeName;
use joined_link::{JoinedLink, Timing};
use queen_nodes::{NodeConnection, NodeParts, NodeTarget};

/// The nodes that connect to the queen.
#[derive(Debug)]
pub(crate) struct JoinedNodes {
    /// Directory for sockets.
    sockets: PathBuf,
    queen_url: String,
    /// The links that are open.
    open: Mutex<HashMap<NodeName, Weak<JoinedLink>>>,
}

impl JoinedNodes {
    pub(crate) fn new(sockets: PathBuf, queen_url: &str) -> Self {
        Self {
            sockets,
            queen_url: queen_url.to_owned(),
            open: Mutex::default(),
        }
    }

    /// Opens a node, which connects when it can.
    pub(crate) fn open(&self, target: NodeTarget<'_>) -> Result<NodeParts, Diagnostic> {
        let (name, token) = (target.name.clone(), Arc::clone(target.token));
        let link = JoinedLink::new(&name, &self.sockets, &self.queen_url)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, link| link.strong_count() > 0);
        open.insert(name.clone(), Arc::downgrade(&link));
        let hive = Arc::new(JoinedHive::new(name, Arc::clone(&link), token));
        Ok(NodeParts { link, hive })
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
        link.attach(connection.stream, connection.queen_port, Timing::default());
        Ok(())
    }
}

/// The node was removed while it connected.
fn not_open(node: &NodeName) -> Diagnostic {
    Diagnostic::new(Code::NodeNotFound, format!("node {node} does not exist"))
}
