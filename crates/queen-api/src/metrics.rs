use std::sync::atomic::{AtomicU64, Ordering};

use diagnostics::Diagnostic;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use queen_contract::{NodeEntry, NodeStatus, WorkerEntry};
use queen_dispatch::DispatcherSnapshot;
use request_relay::RelayMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    node: String,
    device: String,
}

/// The metrics of the nodes, as their hives reported them last.
#[derive(Debug, Default)]
struct NodeMetrics {
    up: Family<NodeLabel, Gauge>,
    asleep: Family<NodeLabel, Gauge>,
    workers: Family<NodeLabel, Gauge>,
    memory_total: Family<DeviceLabels, Gauge>,
    memory_free: Family<DeviceLabels, Gauge>,
}

impl NodeMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "node_up",
            "Whether the hive of the node responds",
            metrics.up.clone(),
        );
        registry.register(
            "node_asleep",
            "Whether the node sleeps, is put to sleep or is woken: no failure",
            metrics.asleep.clone(),
        );
        registry.register(
            "node_workers",
            "Registered workers of the node",
            metrics.workers.clone(),
        );
        registry.register_with_unit(
            "device_memory",
            "Memory of the device",
            Unit::Bytes,
            metrics.memory_total.clone(),
        );
        registry.register_with_unit(
            "device_memory_free",
            "Free memory of the device",
            Unit::Bytes,
            metrics.memory_free.clone(),
        );
        metrics
    }

    fn set(&self, nodes: &[NodeEntry], workers: &[WorkerEntry]) {
        // A node that was removed has no metrics.
        self.up.clear();
        self.asleep.clear();
        self.workers.clear();
        self.memory_total.clear();
        self.memory_free.clear();
        for node in nodes {
            let label = NodeLabel {
                node: node.name.to_string(),
            };
            let is_up = node.status == NodeStatus::Reachable;
            self.up.get_or_create(&label).set(i64::from(is_up));
            let is_asleep = matches!(
                node.status,
                NodeStatus::Suspending | NodeStatus::Asleep | NodeStatus::Waking
            );
            self.asleep.get_or_create(&label).set(i64::from(is_asleep));
            let on_node = workers.iter().filter(|w| w.info.hive_id == node.name);
            let count = on_node.count() as i64;
            self.workers.get_or_create(&label).set(count);
            for device in &node.devices {
                let labels = DeviceLabels {
                    node: node.name.to_string(),
                    device: device.id.to_string(),
                };
                let total = self.memory_total.get_or_create(&labels);
                total.set(device.memory_total_bytes as i64);
                let free = self.memory_free.get_or_create(&labels);
                free.set(device.memory_free_bytes as i64);
            }
        }
    }
}

/// The metrics of `GET /metrics`: the relay's, the scheduler's counts, and those of the nodes.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
    waiting: Gauge,
    running: Gauge,
    workers: Gauge,
    nodes: NodeMetrics,
}

impl Metrics {
    pub(crate) fn new(relay: &RelayMetrics) -> Self {
        let mut registry = Registry::with_prefix("rbee_queen");
        relay.register(&mut registry);
        let requests = Family::default();
        registry.register("requests", "Finished requests by outcome", requests.clone());
        let waiting = Gauge::default();
        registry.register(
            "waiting_requests",
            "Requests that wait for a worker",
            waiting.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "running_requests",
            "Requests that a worker is running",
            running.clone(),
        );
        let workers = Gauge::default();
        registry.register("workers", "Registered workers", workers.clone());
        let nodes = NodeMetrics::register(&mut registry);
        Self {
            registry,
            requests,
            waiting,
            running,
            workers,
            nodes,
        }
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(crate) fn text(
        &self,
        snapshot: &DispatcherSnapshot,
        nodes: &[NodeEntry],
    ) -> Result<String, Diagnostic> {
        let counts = snapshot.counts;
        for (outcome, count) in [
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
        ] {
            // The scheduler counts; this is a copy.
            let counter = self.requests.get_or_create(&OutcomeLabel { outcome });
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.waiting.set(counts.waiting as i64);
        self.running.set(counts.running as i64);
        self.workers.set(snapshot.workers.len() as i64);
        self.nodes.set(nodes, &snapshot.workers);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Diagnostic::internal)?;
        Ok(text)
    }
}
