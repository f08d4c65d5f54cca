//! Nodes that users add, update and remove.

use std::{sync::Arc, time::Duration};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic, Narration};
use hive_lifecycle::HiveState;
use input_validation::{Generation, NodeName};
use jiff::Timestamp;
use queen_contract::{
    AddNode, GpuYield, NodeEntry, NodeLog, NodePower, NodeSpec, NodeStatus, UpdateNode,
};
use queen_dispatch::Dispatcher;
use tokio::time::timeout;
use worker_registry::WorkerFilter;

use crate::{
    Narrate, Node, NodeConfig, NodeFindings, NodeParts, NodeTarget, Nodes, errors,
    nodes::{self, hive_settled},
    unopened::Unopened,
};

/// Longest wait for the hive of a node that was added or updated.
const HIVE_LIMIT: Duration = Duration::from_secs(20);

impl Nodes {
    /// Opens all nodes that are registered, except the queen's own machine. Does not wait for
    /// them.
    pub async fn open_registered(&self) -> Result<(), Diagnostic> {
        let known = self.state().registry(|registry| registry.nodes()).await?;
        for entry in known {
            if entry.spec != NodeSpec::Local {
                self.open(entry).await?;
            }
        }
        Ok(())
    }

    /// Opens a registered node. One that cannot be opened stays visible with its error.
    async fn open(&self, entry: NodeEntry) -> Result<(), Diagnostic> {
        let stored = self.state().token(&entry.name).await;
        let (token, problem) = match stored {
            Ok(token) => (Arc::new(token), None),
            // No process knows this token, so that nobody can use it.
            Err(error) => (Arc::new(Token::generate()?), Some(error)),
        };
        let target = NodeTarget {
            name: &entry.name,
            spec: &entry.spec,
            token: &token,
        };
        let opened = match problem {
            Some(error) => Err(error),
            None => self.connector().open(target),
        };
        let NodeParts { link, hive } = opened.unwrap_or_else(|error| {
            tracing::warn!(node = %entry.name, code = %error.code, %error, "cannot open the node");
            let unopened = Arc::new(Unopened(error));
            NodeParts {
                link: Arc::clone(&unopened) as _,
                hive: unopened,
            }
        });
        let config = NodeConfig {
            name: entry.name.clone(),
            spec: entry.spec.clone(),
            link,
            token,
            hive: Some(hive),
        };
        self.insert(config, Some(entry));
        Ok(())
    }

    /// Adds a node. It is tested first, and saved only if it can be used.
    ///
    /// Errors: [`Code::NodeExists`](diagnostics::Code::NodeExists), and those of the test.
    pub async fn register(
        &self,
        request: AddNode,
        narrate: Narrate<'_>,
    ) -> Result<NodeEntry, Diagnostic> {
        let AddNode { name, node } = request;
        if name == NodeName::local() {
            return Err(errors::own_machine());
        }
        let _change = self.change(&name)?;
        if self.get(&name).is_ok() {
            return Err(errors::node_exists(&name));
        }
        self.connect(&name, node, None, narrate).await
    }

    /// Changes how a node is reached. The new way is tested first, and replaces the old one only
    /// if it works. Its workers keep running.
    ///
    /// Errors: [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound), and those of the test.
    pub async fn update(
        &self,
        name: &NodeName,
        request: UpdateNode,
        narrate: Narrate<'_>,
    ) -> Result<NodeEntry, Diagnostic> {
        let _change = self.change(name)?;
        let node = self.registered(name)?;
        if *node.spec() == NodeSpec::Joined {
            return Err(errors::connects_itself(name));
        }
        let token = Some(Arc::clone(node.token()));
        self.connect(name, request, token, narrate).await
    }

    async fn connect(
        &self,
        name: &NodeName,
        request: UpdateNode,
        known_token: Option<Arc<Token>>,
        narrate: Narrate<'_>,
    ) -> Result<NodeEntry, Diagnostic> {
        match request.spec {
            NodeSpec::Local => return Err(errors::not_local()),
            NodeSpec::Joined => return Err(errors::requires_invitation(name)),
            NodeSpec::Ssh(_) | NodeSpec::Direct(_) => {}
        }
        let is_new = known_token.is_none();
        let token = self.token_of(name, &request, known_token)?;
        let target = NodeTarget {
            name,
            spec: &request.spec,
            token: &token,
        };
        let connector = self.connector();
        let host_key = request.accept_host_key.as_ref();
        let findings: NodeFindings = connector.test(target, host_key, narrate).await?;
        if findings.hive_version.is_none() && request.install {
            connector.managed_hive(target)?.install(narrate).await?;
        }
        let NodeParts { link, hive } = connector.open(target)?;
        let entry = NodeEntry {
            name: name.clone(),
            spec: request.spec.clone(),
            hive_url: None,
            hive_version: findings.hive_version,
            hive_service: None,
            status: NodeStatus::Unknown,
            devices: findings.devices,
            last_connected: Some(Timestamp::now()),
            last_error: None,
            gpu_yield: self
                .get(name)
                .map_or(GpuYield::Auto, |node| node.entry().gpu_yield),
            yielded: Vec::new(),
            power: NodePower {
                asleep: None,
                ..self
                    .get(name)
                    .map(|node| node.entry().power)
                    .unwrap_or_default()
            },
        };
        self.state().save_token(name, &token).await?;
        let saved = entry.clone();
        self.state()
            .registry(move |registry| registry.save(&saved))
            .await?;
        let config = NodeConfig {
            name: name.clone(),
            spec: request.spec,
            link,
            token,
            hive: Some(hive),
        };
        let node = self.insert(config, Some(entry));
        narrate(Narration::info(
            "queen",
            "connect",
            format!("connecting to the hive of node {name}"),
        ));
        hive_settled(&node, HIVE_LIMIT).await;
        if is_new && let Some(error) = hive_of_another(&node) {
            self.take(name);
            self.unregister(name).await?;
            return Err(error);
        }
        self.refresh(&node).await;
        Ok(node.entry())
    }

    /// Removes what is stored of a node.
    async fn unregister(&self, name: &NodeName) -> Result<(), Diagnostic> {
        let removed = name.clone();
        self.state()
            .registry(move |registry| registry.remove(&removed))
            .await?;
        self.state().remove_token(name).await?;
        self.catalog().forget_node(name);
        self.connector().forget(name);
        Ok(())
    }

    /// Updates what is known of a node, so that the user sees it as it is now.
    async fn refresh(&self, node: &Node) {
        if let Some(state) = node.hive_state() {
            let state = state.borrow().clone();
            nodes::update(self, node, &state).await;
            self.publish_node(node.name());
        }
    }

    /// The token of a node that is added or updated.
    fn token_of(
        &self,
        name: &NodeName,
        request: &UpdateNode,
        known: Option<Arc<Token>>,
    ) -> Result<Arc<Token>, Diagnostic> {
        let token = match (&request.token, known, &request.spec) {
            (Some(secret), ..) => {
                Arc::new(Token::parse(&secret.0).ok_or_else(errors::invalid_token)?)
            }
            (None, Some(known), _) => known,
            (None, None, NodeSpec::Direct(_)) => return Err(errors::token_required(name)),
            (None, None, _) => Arc::new(Token::generate()?),
        };
        match self.node_of_token(token.expose()) {
            // Heartbeats are attributed to nodes by their tokens.
            Some(other) if other != *name => Err(errors::token_in_use(name, &other)),
            _ => Ok(token),
        }
    }

    /// Removes a node. With `force`, its workers are stopped first, and a hive that cannot be
    /// reached is no obstacle.
    ///
    /// Errors: [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound),
    /// [`Code::NodeInUse`](diagnostics::Code::NodeInUse).
    pub async fn remove(
        &self,
        name: &NodeName,
        force: bool,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let _change = self.change(name)?;
        let node = self.registered(name)?;
        let uses = self.uses(name, dispatcher).await?;
        if !force && !uses.is_empty() {
            return Err(errors::node_in_use(name, &uses));
        }
        self.take(name);
        if let Err(error) = self.stop_processes(&node, dispatcher).await {
            tracing::warn!(node = %name, %error, "processes of the removed node may keep running");
        }
        let removed = name.clone();
        self.state()
            .call(move |store| store.forget_node(&removed))
            .await?;
        // Its link ends, and does not write its files again.
        drop(node);
        self.unregister(name).await
    }

    /// Stops the workers of a node that was removed, and its hive if the queen started it. Their
    /// requests continue on other nodes.
    async fn stop_processes(&self, node: &Node, dispatcher: &Dispatcher) -> Result<(), Diagnostic> {
        let hive = node.hive_now();
        let stopped = match &hive {
            Ok(hive) => {
                let spawned = hive.client.workers().await?.workers;
                node.stop_hive(hive, &spawned, None).await
            }
            Err(error) => Err(error.clone()),
        };
        let filter = WorkerFilter {
            node: Some(node.name().clone()),
            ..WorkerFilter::default()
        };
        for worker in dispatcher.workers(filter).await? {
            let lowest = Generation(worker.info.generation.0.saturating_add(1));
            let id = worker.info.id.clone();
            self.state()
                .call(move |store| store.fence(&id, lowest))
                .await?;
            dispatcher.fence(worker.info.id, lowest).await;
        }
        stopped
    }

    /// Returns a node that users can change.
    fn registered(&self, name: &NodeName) -> Result<Arc<Node>, Diagnostic> {
        let node = self.get(name)?;
        match node.spec() {
            NodeSpec::Local => Err(errors::own_machine()),
            _ => Ok(node),
        }
    }

    /// Installs the hive of this release on a node; returns its version.
    pub async fn install(
        &self,
        name: &NodeName,
        narrate: Narrate<'_>,
    ) -> Result<String, Diagnostic> {
        let _change = self.change(name)?;
        let node = self.registered(name)?;
        let hive = self.connector().managed_hive(target(&node))?;
        let version = hive.install(narrate).await?;
        if let Some(mut state) = node.hive_state() {
            let missing = |state: &HiveState| {
                state
                    .cannot_start()
                    .is_some_and(|error| error.code == Code::HiveNotInstalled)
            };
            let found =
                state.wait_for(|state| !matches!(state, HiveState::Starting) && !missing(state));
            let _ = timeout(HIVE_LIMIT, found).await;
        }
        self.refresh(&node).await;
        Ok(version)
    }

    /// Replaces the hive of a node by that of this release; returns its version. Its workers keep
    /// running, and the requests on them continue.
    pub async fn upgrade(
        &self,
        name: &NodeName,
        narrate: Narrate<'_>,
    ) -> Result<String, Diagnostic> {
        let _change = self.change(name)?;
        let node = self.registered(name)?;
        let hive = self.connector().managed_hive(target(&node))?;
        let upgraded = hive.upgrade(narrate).await;
        // Also after a rollback another process is the hive.
        let _ = timeout(HIVE_LIMIT, node.hive_responds()).await;
        self.refresh(&node).await;
        upgraded
    }

    /// Removes the hive from the machine of a node.
    pub async fn uninstall(
        &self,
        name: &NodeName,
        models: bool,
        narrate: Narrate<'_>,
    ) -> Result<(), Diagnostic> {
        let _change = self.change(name)?;
        let node = self.registered(name)?;
        let hive = self.connector().managed_hive(target(&node))?;
        hive.uninstall(models, narrate).await
    }

    /// Returns the last lines of a log of a node.
    pub async fn log(
        &self,
        name: &NodeName,
        log: NodeLog,
        lines: u32,
    ) -> Result<String, Diagnostic> {
        let node = self.get(name)?;
        if *node.spec() == NodeSpec::Local && log == NodeLog::Hive {
            return self.state().hive_log(lines).await;
        }
        let hive = self.connector().managed_hive(target(&node))?;
        hive.log(log, lines).await
    }
}

/// Returns the error if the hive that responds belongs to another node or queen, such as when a
/// machine is added under a second name.
fn hive_of_another(node: &Node) -> Option<Diagnostic> {
    let state = node.hive_state()?;
    match &*state.borrow() {
        HiveState::Down(error) if error.code == Code::HiveBadResponse => Some(error.clone()),
        _ => None,
    }
}

fn target(node: &Node) -> NodeTarget<'_> {
    NodeTarget {
        name: node.name(),
        spec: node.spec(),
        token: node.token(),
    }
}
