use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// What the relay measures. Clones share their values.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    reassignments: Counter,
    tokens: Counter<u64, AtomicU64>,
    time_to_first_token: Histogram,
    time_to_worker: Histogram,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        Self {
            reassignments: Counter::default(),
            tokens: Counter::default(),
            time_to_first_token: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            time_to_worker: Histogram::new(exponential_buckets(0.0005, 2.0, 18)),
        }
    }
}

impl RelayMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests_moved",
            "Number of times a request continued on another worker",
            self.reassignments.clone(),
        );
        registry.register("tokens", "Tokens sent to clients", self.tokens.clone());
        registry.register_with_unit(
            "time_to_first_token",
            "Time from a request's arrival to its first token",
            Unit::Seconds,
            self.time_to_first_token.clone(),
        );
        registry.register_with_unit(
            "time_to_worker",
            "Time from a request's arrival to its first worker, including loading",
            Unit::Seconds,
            self.time_to_worker.clone(),
        );
    }

    pub(crate) fn reassignment(&self) {
        self.reassignments.inc();
    }

    pub(crate) fn token(&self) {
        self.tokens.inc();
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.time_to_first_token.observe(after.as_secs_f64());
    }

    pub(crate) fn first_assignment(&self, after: Duration) {
        self.time_to_worker.observe(after.as_secs_f64());
    }
}
