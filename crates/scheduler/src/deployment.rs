use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, ModelRef, NodeName};
use worker_registry::runs_on;

use crate::NodeMap;

/// What a user wants of the workers of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Number of workers that are always running.
    pub min_workers: u32,
    /// Number of workers that run at most; not less than `min_workers`, and at least 1.
    pub max_workers: u32,
    /// The nodes on which they run. Empty: any node.
    pub nodes: BTreeSet<NodeName>,
    /// The nodes that only compute parts of the model for its worker. Empty: the worker has all of
    /// it.
    pub parts: BTreeSet<NodeName>,
    /// `None`: a device of any kind.
    pub backend: Option<Backend>,
    /// Workers beyond `min_workers` are stopped when they were idle for this time.
    pub keep_alive: Duration,
    /// The memory of the workers that are always running is only given to a deployment of a higher
    /// priority. Models without a deployment have priority 0.
    pub priority: i32,
}

impl Deployment {
    /// Whether the deployment wants workers on this node.
    pub(crate) fn allows_node(&self, node: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }

    /// The nodes without which it has no worker, as far as they were removed: any one of a split
    /// model, else all of them.
    pub(crate) fn removed_nodes(&self, known: &NodeMap) -> Vec<&NodeName> {
        let named = self.nodes.iter().chain(&self.parts);
        let removed: Vec<&NodeName> = named.filter(|node| !known.contains_key(*node)).collect();
        let is_split = !self.parts.is_empty();
        if is_split || removed.len() == self.nodes.len() {
            removed
        } else {
            Vec::new()
        }
    }

    /// Whether the deployment wants workers of this backend on this node.
    pub(crate) fn allows(&self, node: &NodeName, backend: Backend) -> bool {
        self.allows_node(node) && self.backend.is_none_or(|wanted| wanted == backend)
    }

    /// Whether the deployment wants a worker on this device of this node.
    pub fn may_run_on(&self, node: &NodeName, device: DeviceId) -> bool {
        self.allows_node(node) && self.backend.is_none_or(|backend| runs_on(backend, device))
    }
}

/// The deployments of a queen by their models.
pub type DeploymentMap = BTreeMap<ModelRef, Deployment>;

/// How a deployment differs from what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortfall {
    /// Number of workers that are wanted now.
    pub wanted: u32,
    /// Number of workers that run or are being started.
    pub present: u32,
    /// Why no further worker is being started.
    pub error: Diagnostic,
}
