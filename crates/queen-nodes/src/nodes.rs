use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_lifecycle::HiveState;
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::{NodeEntry, NodeSpec, NodeStatus};
use tokio::{sync::watch, time::timeout};
use worker_contract::WorkerInfo;

use crate::{Node, NodeConfig, NodeConnector, QueenState, catalog::Catalog, errors};

/// All nodes of a queen. Clones share them.
#[derive(Debug, Clone)]
pub struct Nodes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: RwLock<BTreeMap<NodeName, Arc<Node>>>,
    /// Nodes that are being added, updated or removed.
    changing: Mutex<BTreeSet<NodeName>>,
    connector: Arc<dyn NodeConnector>,
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
    /// Creates an empty map of nodes. `connector` connects to those that are registered.
    pub fn new(state: QueenState, connector: Arc<dyn NodeConnector>, limits: NodeLimits) -> Self {
        Self(Arc::new(Shared {
            nodes: RwLock::default(),
            changing: Mutex::default(),
            connector,
            state,
            catalog: Catalog::default(),
            limits,
        }))
    }

    /// Adds the queen's own machine and starts to supervise its hive.
    pub async fn add(&self, config: NodeConfig) -> Result<(), Diagnostic> {
        let name = config.name.clone();
        let known = self.state().registry(|registry| registry.nodes()).await?;
        let known = known.into_iter().find(|entry| entry.name == name);
        let node = self.insert(config, known);
        let entry = node.entry();
        self.state()
            .registry(move |registry| registry.save(&entry))
            .await
    }

    /// Inserts or replaces a node and starts to supervise its hive.
    pub(crate) fn insert(&self, config: NodeConfig, known: Option<NodeEntry>) -> Arc<Node> {
        let name = config.name.clone();
        let node = Arc::new(Node::new(config, known));
        if let Some(hive) = node.hive_state() {
            tokio::spawn(track(Arc::downgrade(&node), hive, self.state().clone()));
        }
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = nodes.insert(name, Arc::clone(&node));
        if let Some(replaced) = replaced {
            replaced.release_hive();
        }
        node
    }

    /// Removes a node from the map, so that no request uses it, and ends its supervision.
    pub(crate) fn take(&self, name: &NodeName) {
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(removed) = nodes.remove(name) {
            removed.release_hive();
        }
    }

    /// Reserves a node for a change. Fails if another change is under way.
    pub(crate) fn change(&self, name: &NodeName) -> Result<Change<'_>, Diagnostic> {
        let mut changing = self.changing();
        if !changing.insert(name.clone()) {
            return Err(errors::node_changing(name));
        }
        Ok(Change {
            nodes: self,
            name: name.clone(),
        })
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, BTreeSet<NodeName>> {
        self.0
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

    /// Returns the nodes with a hive, as shown to users.
    pub fn entries(&self) -> Vec<NodeEntry> {
        let nodes = self.all();
        let managed = nodes.iter().filter(|node| node.has_hive());
        managed.map(|node| node.entry()).collect()
    }

    /// Waits until the hive of the queen's own machine is not starting, at most for `limit`.
    /// Other machines may be switched off, and nobody must wait for them.
    pub async fn settled(&self, limit: Duration) {
        let nodes = self.all();
        let local = nodes.iter().filter(|node| *node.spec() == NodeSpec::Local);
        join_all(local.map(|node| hive_settled(node, limit))).await;
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

    pub(crate) fn connector(&self) -> &dyn NodeConnector {
        &*self.0.connector
    }

    pub(crate) fn limits(&self) -> NodeLimits {
        self.0.limits
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }
}

/// Waits until the hive of a node is not starting, at most for `limit`.
pub(crate) async fn hive_settled(node: &Node, limit: Duration) {
    if let Some(mut state) = node.hive_state() {
        let settled = state.wait_for(|state| !matches!(state, HiveState::Starting));
        let _ = timeout(limit, settled).await;
    }
}

/// A change of a node that is under way.
pub(crate) struct Change<'a> {
    nodes: &'a Nodes,
    name: NodeName,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.nodes.changing().remove(&self.name);
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
        let saved = state.registry(move |registry| registry.save_state(&entry));
        if let Err(error) = saved.await {
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
            let health = hive.client.health().await;
            node.update_entry(|entry| {
                if let Ok(health) = health {
                    entry.hive_version = Some(health.version);
                }
                match capabilities {
                    Ok(capabilities) => entry.devices = capabilities.devices,
                    Err(error) => entry.last_error = Some(error.to_string()),
                }
            });
        }
        HiveState::Down(error) => node.update_entry(|entry| {
            entry.status = NodeStatus::Unreachable;
            entry.last_error = Some(error.message);
        }),
    }
}
