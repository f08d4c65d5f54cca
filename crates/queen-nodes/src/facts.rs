//! What the scheduler knows of the nodes.

use hive_contract::Device;
use hive_lifecycle::HiveState;
use input_validation::NodeName;
use preflight_validation::{is_usable, worker_binary};
use queen_dispatch::Dispatcher;
use scheduler::{DeviceFacts, NodeFacts, NodeState};

use crate::{Node, Nodes, errors};

impl Nodes {
    /// Reports the nodes to the dispatcher: now, and whenever something changes.
    pub async fn report_to(&self, dispatcher: Dispatcher) {
        self.publish();
        let mut facts = self.facts().subscribe();
        let first = facts.borrow_and_update().clone();
        dispatcher.nodes(first).await;
        tokio::spawn(async move {
            while facts.changed().await.is_ok() {
                let current = facts.borrow_and_update().clone();
                dispatcher.nodes(current).await;
            }
        });
    }

    /// Publishes what is known of the nodes, if it has changed.
    pub(crate) fn publish(&self) {
        self.facts().send_if_modified(|known| {
            let nodes = self.all();
            let current = nodes
                .iter()
                .map(|node| (node.name().clone(), self.facts_of(node)))
                .collect();
            let changed = *known != current;
            *known = current;
            changed
        });
    }

    /// Publishes what is known of one node, if it has changed.
    pub(crate) fn publish_node(&self, name: &NodeName) {
        self.facts().send_if_modified(|known| {
            let Ok(node) = self.get(name) else {
                return known.remove(name).is_some();
            };
            let current = self.facts_of(&node);
            if known.get(name) == Some(&current) {
                return false;
            }
            known.insert(name.clone(), current);
            true
        });
    }

    fn facts_of(&self, node: &Node) -> NodeFacts {
        let by_hive = || match node.hive_state() {
            None => NodeState::Down(errors::no_hive(node.name())),
            Some(state) => match &*state.borrow() {
                HiveState::Up(_) => NodeState::Up,
                state => match node.failure(state) {
                    Some(error) => NodeState::Down(error.clone()),
                    None => NodeState::Starting,
                },
            },
        };
        let state = node.sleep_state().unwrap_or_else(by_hive);
        let (devices, workers) = (node.entry().devices, node.worker_binaries());
        let has_worker = |device: &Device| {
            let program = worker_binary(None, device.backend);
            let has_binary = workers.iter().any(|name| Some(name.as_str()) == program);
            is_usable(device) && (has_binary || node.has_engine(device.backend))
        };
        NodeFacts {
            state,
            devices: devices
                .iter()
                .map(|device| DeviceFacts {
                    id: device.id,
                    backend: device.backend,
                    free_bytes: device.memory_free_bytes,
                    has_worker: has_worker(device),
                })
                .collect(),
            models: self.catalog().model_bytes_of(node.name()),
            yielded: node.yielded(),
        }
    }
}
