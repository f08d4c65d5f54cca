//! What the scheduler knows of the nodes.

use hive_lifecycle::HiveState;
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

    fn facts_of(&self, node: &Node) -> NodeFacts {
        let state = match node.hive_state() {
            None => NodeState::Down(errors::no_hive(node.name())),
            Some(state) => match &*state.borrow() {
                HiveState::Up(_) => NodeState::Up,
                state => match node.failure(state) {
                    Some(error) => NodeState::Down(error.clone()),
                    None => NodeState::Starting,
                },
            },
        };
        let devices = node.entry().devices;
        NodeFacts {
            state,
            devices: devices
                .iter()
                .map(|device| DeviceFacts {
                    backend: device.backend,
                    free_bytes: device.memory_free_bytes,
                })
                .collect(),
            models: self.catalog().models_of(node.name()),
        }
    }
}
