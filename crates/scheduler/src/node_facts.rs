use std::collections::{BTreeMap, BTreeSet};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, ModelRef, NodeName};

/// Whether workers can be spawned on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum NodeState {
    Up,
    /// The hive is being started or found, or its connection is being established again.
    #[default]
    Starting,
    /// The machine is asleep, or is being put to sleep or woken.
    Asleep(Sleeping),
    /// The hive is not available, for this reason, and waiting a short time does not help.
    Down(Diagnostic),
}

/// A node that is asleep, or is being put to sleep or woken.
#[derive(Debug, Clone, PartialEq)]
pub struct Sleeping {
    /// Its workers are to be stopped: it is being put to sleep.
    pub leaves: bool,
    /// Whether a worker that is spawned there for a request wakes it.
    pub for_requests: bool,
    /// Whether a worker that is spawned there for a deployment wakes it.
    pub for_deployments: bool,
    /// That it is asleep, for those that do not wake it.
    pub reason: Diagnostic,
}

/// A device of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFacts {
    pub id: DeviceId,
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
    /// Devices that are left to other programs, and why and until when, as a sentence.
    pub yielded: BTreeMap<DeviceId, String>,
}

impl NodeFacts {
    /// Whether the node has a device of the backend, as far as is known.
    pub(crate) fn may_have(&self, backend: Backend) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|d| d.backend == backend)
    }

    /// Whether the node has a device of the backend that is not left to other programs, as far as
    /// is known.
    pub(crate) fn may_use(&self, backend: Backend) -> bool {
        self.devices.is_empty() || self.usable(backend).next().is_some()
    }

    /// The devices of the backend without those that are left to other programs.
    fn usable(&self, backend: Backend) -> impl Iterator<Item = &DeviceFacts> {
        let devices = self.devices.iter().filter(move |d| d.backend == backend);
        devices.filter(|device| !self.yielded.contains_key(&device.id))
    }

    /// The devices that are left to other programs, of this backend or of all, and why.
    pub(crate) fn left(
        &self,
        backend: Option<Backend>,
    ) -> impl Iterator<Item = (&DeviceFacts, &str)> {
        let devices = self.devices.iter();
        let devices = devices.filter(move |device| backend.is_none_or(|b| device.backend == b));
        devices.filter_map(|device| Some((device, self.yielded.get(&device.id)?.as_str())))
    }

    /// The backends on which a worker may be spawned that needs this much memory, without one being
    /// required: GPUs that can be used and have room, or would have it without their workers, and
    /// the CPU. `held_bytes` is the memory of the workers on a backend.
    pub(crate) fn usable_backends(
        &self,
        need_bytes: u64,
        held_bytes: impl Fn(Backend) -> u64,
    ) -> BTreeSet<Backend> {
        let gpus = self.devices.iter().filter(|device| {
            let room = || device.free_bytes.saturating_add(held_bytes(device.backend));
            let is_left = self.yielded.contains_key(&device.id);
            device.backend != Backend::Cpu && device.has_worker && !is_left && room() >= need_bytes
        });
        let cpu = self.may_have(Backend::Cpu).then_some(Backend::Cpu);
        gpus.map(|gpu| gpu.backend).chain(cpu).collect()
    }

    /// Whether the node has several devices of the backend.
    pub(crate) fn has_several(&self, backend: Backend) -> bool {
        let devices = self.devices.iter().filter(|d| d.backend == backend);
        devices.count() > 1
    }

    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.state, NodeState::Asleep(_))
    }

    /// The most free memory of a device of the backend that may be used.
    pub(crate) fn free_bytes(&self, backend: Backend) -> u64 {
        let free = self.usable(backend).map(|d| d.free_bytes);
        free.max().unwrap_or(0)
    }
}

/// The nodes of a queen by their names.
pub type NodeMap = BTreeMap<NodeName, NodeFacts>;

/// Whether the files of the model are on nodes that are asleep, and on no other one: another node
/// would have to fetch them, if it can.
pub(crate) fn only_sleeping_have(nodes: &NodeMap, model: &ModelRef) -> bool {
    let mut holders = nodes
        .values()
        .filter(|facts| facts.models.contains_key(model))
        .peekable();
    holders.peek().is_some() && holders.all(NodeFacts::is_asleep)
}

/// The memory that a worker for the model needs at least: little more than its files. 0 if unknown.
pub(crate) fn need_bytes(nodes: &NodeMap, model: &ModelRef) -> u64 {
    let known = nodes.values().filter_map(|facts| facts.models.get(model));
    known.max().copied().unwrap_or(0)
}
