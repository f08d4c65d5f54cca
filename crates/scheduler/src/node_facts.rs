use std::collections::{BTreeMap, BTreeSet};

use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef, NodeName};

/// Whether workers can be spawned on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum NodeState {
    Up,
    /// The hive is being started or found, or its connection is being established again.
    #[default]
    Starting,
    /// The hive is not available, for this reason, and waiting a short time does not help.
    Down(Diagnostic),
}

/// A device of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFacts {
    pub backend: Backend,
    pub free_bytes: u64,
}

/// What placement knows of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    pub state: NodeState,
    /// Empty if unknown.
    pub devices: Vec<DeviceFacts>,
    /// Models whose files are on the node.
    pub models: BTreeSet<ModelRef>,
}

impl NodeFacts {
    /// Whether the node has a device of the backend, as far as is known.
    pub(crate) fn may_have(&self, backend: Backend) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|d| d.backend == backend)
    }

    /// The most free memory of a device of the backend.
    pub(crate) fn free_bytes(&self, backend: Backend) -> u64 {
        let devices = self.devices.iter().filter(|d| d.backend == backend);
        devices.map(|d| d.free_bytes).max().unwrap_or(0)
    }
}

/// The nodes of a queen by their names.
pub type NodeMap = BTreeMap<NodeName, NodeFacts>;
