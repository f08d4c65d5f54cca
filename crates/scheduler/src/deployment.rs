use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, ModelRef, NodeName};
use worker_registry::runs_on;

/// What a user wants of the workers of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Number of workers that are always running.
    pub min_workers: u32,
    /// Number of workers that run at most; not less than `min_workers`, and at least 1.
    pub max_workers: u32,
    /// The nodes on which they run. Empty: any node.
    pub nodes: BTreeSet<NodeName>,
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
