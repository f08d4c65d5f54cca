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
    /// Whether the node has a worker program for it.
    pub has_worker: bool,
}

/// What placement knows of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    pub state: NodeState,
    /// Empty if unknown.
    pub devices: Vec<DeviceFacts>,
    /// Models whose files are on the node, and the bytes of these files.
    pub models: BTreeMap<ModelRef, u64>,
}

impl NodeFacts {
    /// Whether the node has a device of the backend, as far as is known.
    pub(crate) fn may_have(&self, backend: Backend) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|d| d.backend == backend)
    }

    /// The backends on which a worker may be spawned that needs this much memory, without one being
    /// required: GPUs that can be used and have room, and the CPU.
    pub(crate) fn usable_backends(&self, need_bytes: u64) -> BTreeSet<Backend> {
        let gpus = self.devices.iter().filter(|device| {
            device.backend != Backend::Cpu && device.has_worker && device.free_bytes >= need_bytes
        });
        let cpu = self.may_have(Backend::Cpu).then_some(Backend::Cpu);
        gpus.map(|gpu| gpu.backend).chain(cpu).collect()
    }

    /// The most free memory of a device of the backend.
    pub(crate) fn free_bytes(&self, backend: Backend) -> u64 {
        let devices = self.devices.iter().filter(|d| d.backend == backend);
        devices.map(|d| d.free_bytes).max().unwrap_or(0)
    }
}

/// The nodes of a queen by their names.
pub type NodeMap = BTreeMap<NodeName, NodeFacts>;
