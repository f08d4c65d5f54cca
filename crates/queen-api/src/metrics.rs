use std::sync::atomic::{AtomicU64, Ordering};

use diagnostics::Diagnostic;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use queen_dispatch::DispatcherSnapshot;
use request_relay::RelayMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The metrics of `GET /metrics`: the relay's, and the scheduler's counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
    waiting: Gauge,
    running: Gauge,
    workers: Gauge,
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
        Self {
            registry,
            requests,
            waiting,
            running,
            workers,
        }
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(crate) fn text(&self, snapshot: &DispatcherSnapshot) -> Result<String, Diagnostic> {
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
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Diagnostic::internal)?;
        Ok(text)
    }
}
