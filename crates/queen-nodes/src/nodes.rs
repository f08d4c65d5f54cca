use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak},
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::{join_all, pending};
use hive_lifecycle::{HiveState, RunningHive};
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::{NodeEntry, NodeSpec, NodeStatus};
use queen_dispatch::Dispatcher;
use scheduler::{NodeMap, SleepEvent};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use worker_contract::WorkerInfo;

use crate::{
    Node, NodeConfig, NodeConnector, QueenState, catalog::Catalog, errors, node_table::NodeTable,
    spawn_turns::SpawnTurns, split_table::Splits,
};

/// All nodes of a queen. Clones share them.
#[derive(Debug, Clone)]
pub struct Nodes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: RwLock<NodeTable>,
    /// Nodes that are being added, updated or removed.
    changing: Mutex<BTreeSet<NodeName>>,
    /// Held while the deployments change, so that the scheduler receives them in their order.
    deployment_changes: tokio::sync::Mutex<()>,
    connector: Arc<dyn NodeConnector>,
    state: QueenState,
    catalog: Catalog,
    /// What the scheduler knows of the nodes.
    facts: watch::Sender<NodeMap>,
    limits: NodeLimits,
    spawn_turns: SpawnTurns,
    splits: Splits,
    /// That which uses the nodes.
    dispatcher: OnceLock<Dispatcher>,
}

/// Time limits for hives.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    /// Longest time between two events of a spawn.
    pub spawn_event: Duration,
    /// Longest time for a node to wake up.
    pub wake: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            spawn_event: Duration::from_secs(300),
            wake: Duration::from_secs(120),
        }
    }
}

impl Nodes {
    /// Creates an empty map of nodes. `connector` connects to those that are registered.
    pub fn new(state: QueenState, connector: Arc<dyn NodeConnector>, limits: NodeLimits) -> Self {
        Self(Arc::new(Shared {
            nodes: RwLock::default(),
            changing: Mutex::default(),
            deployment_changes: tokio::sync::Mutex::default(),
            connector,
            state,
            catalog: Catalog::default(),
            facts: watch::Sender::default(),
            spawn_turns: SpawnTurns::default(),
            splits: Splits::default(),
            dispatcher: OnceLock::new(),
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
        let node = Arc::new(Node::new(config, known, self.limits().wake));
        if let Some(hive) = node.hive_state() {
            tokio::spawn(track(Arc::downgrade(&self.0), Arc::downgrade(&node), hive));
        }
        let replaced = {
            let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
            nodes.insert(Arc::clone(&node))
        };
        if let Some(replaced) = replaced {
            replaced.release_hive();
        }
        self.publish_node(&name);
        node
    }

    /// Removes a node from the map, so that no request uses it, and ends its supervision.
    pub(crate) fn take(&self, name: &NodeName) {
        let removed = {
            let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
            nodes.remove(name)
        };
        if let Some(removed) = removed {
            removed.release_hive();
        }
        self.publish_node(name);
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

    pub(crate) fn deployment_changes(&self) -> &tokio::sync::Mutex<()> {
        &self.0.deployment_changes
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
        nodes.all().cloned().collect()
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
        let nodes = self.0.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.of_token(presented).cloned()
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

    pub(crate) fn spawn_turns(&self) -> &SpawnTurns {
        &self.0.spawn_turns
    }

    pub(crate) fn splits(&self) -> &Splits {
        &self.0.splits
    }

    pub(crate) fn dispatcher(&self) -> Option<&Dispatcher> {
        self.0.dispatcher.get()
    }

    pub(crate) fn set_dispatcher(&self, dispatcher: Dispatcher) {
        // There is only one.
        let _ = self.0.dispatcher.set(dispatcher);
    }

    /// Whether a change of the node is under way.
    pub(crate) fn is_changing(&self, name: &NodeName) -> bool {
        self.changing().contains(name)
    }

    pub(crate) fn facts(&self) -> &watch::Sender<NodeMap> {
        &self.0.facts
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

/// Keeps what is known of a node up to date until its supervision ends: for users, in the
/// store, and for the scheduler.
async fn track(nodes: Weak<Shared>, node: Weak<Node>, mut hive: watch::Receiver<HiveState>) {
    let weak = (nodes, node);
    loop {
        let current = hive.borrow_and_update().clone();
        let (Some(nodes), Some(node)) = (weak.0.upgrade().map(Nodes), weak.1.upgrade()) else {
            return;
        };
        match &current {
            HiveState::Up(_) => {
                nodes.sleep_event(&node, SleepEvent::Responds);
            }
            HiveState::Down(_) => {
                nodes.sleep_event(&node, SleepEvent::Lost);
            }
            HiveState::Starting => {}
        }
        nodes.publish_node(node.name());
        update(&nodes, &node, &current).await;
        nodes.publish_node(node.name());
        let entry = node.entry();
        let saved = nodes
            .state()
            .registry(move |registry| registry.save_state(&entry));
        if let Err(error) = saved.await {
            tracing::warn!(%error, "cannot save the state of a node");
        }
        drop((nodes, node));
        let up = match &current {
            HiveState::Up(hive) => Some(hive),
            HiveState::Starting | HiveState::Down(_) => None,
        };
        let changed = tokio::select! {
            changed = hive.changed() => changed,
            () = poll_memory(&weak, up) => return,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Reads how the memory of a node is used, regularly while its hive is up; never returns while the
/// node exists.
async fn poll_memory((nodes, node): &(Weak<Shared>, Weak<Node>), hive: Option<&RunningHive>) {
    let Some(hive) = hive else {
        return pending().await;
    };
    loop {
        let interval = node.upgrade().map(|node| node.poll_interval());
        let Some(interval) = interval else {
            return;
        };
        sleep(interval).await;
        let (Some(nodes), Some(node)) = (nodes.upgrade().map(Nodes), node.upgrade()) else {
            return;
        };
        update_devices(&node, hive).await;
        nodes.publish_node(node.name());
    }
}

/// Updates the entry of a node and its list of models.
pub(crate) async fn update(nodes: &Nodes, node: &Node, hive: &HiveState) {
    match hive {
        HiveState::Starting => node.update_entry(|entry| entry.status = NodeStatus::Unknown),
        HiveState::Up(hive) => {
            node.update_entry(|entry| {
                entry.hive_url = Some(hive.client.base().to_owned());
                entry.hive_service = node.hive_service();
                entry.last_connected = Some(Timestamp::now());
                entry.status = NodeStatus::Reachable;
                entry.last_error = None;
            });
            if let Ok(health) = hive.client.health().await {
                node.update_entry(|entry| entry.hive_version = Some(health.version));
            }
            update_devices(node, hive).await;
            match hive.client.models().await {
                Ok(list) => nodes.catalog().set_models(node.name().clone(), list),
                Err(error) => {
                    tracing::warn!(node = %node.name(), %error, "the hive does not list its models");
                }
            }
        }
        HiveState::Down(error) => node.update_entry(|entry| {
            entry.status = NodeStatus::Unreachable;
            let sleeps = node.sleep().status().is_some();
            if !sleeps {
                entry.last_error = Some(error.message.clone());
            }
        }),
    }
}

async fn update_devices(node: &Node, hive: &RunningHive) {
    let capabilities = hive.client.capabilities().await;
    match capabilities {
        Ok(capabilities) => {
            node.set_engines(&capabilities.engines);
            node.set_worker_binaries(capabilities.worker_binaries);
            node.update_entry(|entry| {
                entry.devices = capabilities.devices;
                entry.power.reported = capabilities.power;
            });
            node.measure_yields(hive).await;
        }
        Err(error) => node.update_entry(|entry| entry.last_error = Some(error.to_string())),
    }
}
