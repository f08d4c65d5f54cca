use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_lifecycle::HiveState;
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::{NodeEntry, NodeStatus};
use tokio::{sync::watch, time::timeout};
use worker_contract::WorkerInfo;

use crate::{Node, NodeConfig, QueenState, catalog::Catalog, errors};

/// All nodes of a queen. Clones share them.
#[derive(Debug, Clone)]
pub struct Nodes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: RwLock<BTreeMap<NodeName, Arc<Node>>>,
    state: QueenState,
    catalog: Catalog,
    limits: NodeLimits,
}

/// Time limits for hives.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    /// Longest time between two events of a spawn.
    pub spawn_event: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            spawn_event: Duration::from_secs(300),
        }
    }
}

impl Nodes {
    /// Creates an empty map of nodes.
    pub fn new(state: QueenState, limits: NodeLimits) -> Self {
        Self(Arc::new(Shared {
            nodes: RwLock::default(),
            state,
            catalog: Catalog::default(),
            limits,
        }))
    }

    /// Adds a node and starts to supervise its hive.
    pub async fn add(&self, config: NodeConfig) -> Result<(), Diagnostic> {
        let name = config.name.clone();
        let known = self.state().call(|store| store.nodes()).await?;
        let known = known.into_iter().find(|entry| entry.name == name);
        let node = Arc::new(Node::new(config, known));
        if let Some(hive) = node.hive_state() {
            tokio::spawn(track(Arc::downgrade(&node), hive, self.state().clone()));
        }
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(name, node);
        Ok(())
    }

    /// Returns a node. Fails with [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound).
    pub fn get(&self, name: &NodeName) -> Result<Arc<Node>, Diagnostic> {
        let nodes = self.0.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes
            .get(name)
            .cloned()
            .ok_or_else(|| errors::node_not_found(name))
    }

    /// Returns all nodes, ordered by name.
    pub fn all(&self) -> Vec<Arc<Node>> {
        let nodes = self.0.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.values().cloned().collect()
    }

    /// Returns the nodes whose hive the queen manages, as shown to users.
    pub fn entries(&self) -> Vec<NodeEntry> {
        let nodes = self.all();
        let managed = nodes.iter().filter(|node| node.has_hive());
        managed.map(|node| node.entry()).collect()
    }

    /// Waits until no hive is starting, at most for `limit`.
    pub async fn settled(&self, limit: Duration) {
        let nodes = self.all();
        let settled = nodes.iter().filter_map(|node| node.hive_state());
        let settled = settled.map(|mut state| async move {
            let _ = state
                .wait_for(|state| !matches!(state, HiveState::Starting))
                .await;
        });
        let _ = timeout(limit, join_all(settled)).await;
    }

    /// Returns the node whose token was presented.
    pub fn node_of_token(&self, presented: &str) -> Option<NodeName> {
        // Every token is compared, so that the time does not depend on the result.
        let mut found = None;
        for node in self.all() {
            if node.token().matches(presented) {
                found = Some(node.name().clone());
            }
        }
        found
    }

    /// Checks that a worker sends heartbeats with the token of its own node.
    pub fn check_heartbeat(
        &self,
        sender: &NodeName,
        worker: &WorkerInfo,
    ) -> Result<(), Diagnostic> {
        if *sender == worker.hive_id {
            Ok(())
        } else {
            Err(errors::foreign_heartbeat(&worker.id, &worker.hive_id))
        }
    }

    pub(crate) fn state(&self) -> &QueenState {
        &self.0.state
    }

    pub(crate) fn limits(&self) -> NodeLimits {
        self.0.limits
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }
}

/// Keeps the entry of a node up to date, in memory and in the store, until its supervision
/// ends.
async fn track(node: Weak<Node>, mut hive: watch::Receiver<HiveState>, state: QueenState) {
    loop {
        let current = hive.borrow_and_update().clone();
        let Some(node) = node.upgrade() else { return };
        update(&node, current).await;
        let entry = node.entry();
        drop(node);
        if let Err(error) = state.call(move |store| store.save_node(&entry)).await {
            tracing::warn!(%error, "cannot save the state of a node");
        }
        if hive.changed().await.is_err() {
            return;
        }
    }
}

async fn update(node: &Node, hive: HiveState) {
    match hive {
        HiveState::Starting => node.update_entry(|entry| entry.status = NodeStatus::Unknown),
        HiveState::Up(hive) => {
            node.update_entry(|entry| {
                entry.hive_url = Some(hive.client.base().to_owned());
                entry.last_connected = Some(Timestamp::now());
                entry.status = NodeStatus::Reachable;
                entry.last_error = None;
            });
            let capabilities = hive.client.capabilities().await;
            node.update_entry(|entry| match capabilities {
                Ok(capabilities) => entry.devices = capabilities.devices,
                Err(error) => entry.last_error = Some(error.to_string()),
            });
        }
        HiveState::Down(error) => node.update_entry(|entry| {
            entry.status = NodeStatus::Unreachable;
            entry.last_error = Some(error.message);
        }),
    }
}
