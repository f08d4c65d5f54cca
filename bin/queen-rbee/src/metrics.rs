use std::{sync::atomic::AtomicU64, time::Duration};

use diagnostics::Diagnostic;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use scheduler::Outcome;

use crate::dispatcher::Snapshot;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// What the queen counts, for Prometheus.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ended: Family<Ended, Counter>,
    moved: Counter,
    tokens: Counter<u64, AtomicU64>,
    first_token: Histogram,
    assigned: Histogram,
    waiting: Gauge,
    running: Gauge,
    workers: Gauge,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rbee_queen");
        let ended = Family::default();
        registry.register("requests", "Requests that ended, by outcome", ended.clone());
        let moved = Counter::default();
        registry.register(
            "requests_moved",
            "Times a request went on on another worker",
            moved.clone(),
        );
        let tokens = Counter::default();
        registry.register("tokens", "Tokens sent to clients", tokens.clone());
        let first_token = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        registry.register_with_unit(
            "time_to_first_token",
            "From the request's arrival to its first token",
            Unit::Seconds,
            first_token.clone(),
        );
        let assigned = Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        registry.register_with_unit(
            "time_to_worker",
            "From the request's arrival to its worker, loading included",
            Unit::Seconds,
            assigned.clone(),
        );
        let waiting = Gauge::default();
        registry.register(
            "waiting_requests",
            "Requests without a worker",
            waiting.clone(),
        );
        let running = Gauge::default();
        registry.register("running_requests", "Requests on a worker", running.clone());
        let workers = Gauge::default();
        registry.register("workers", "Workers that are heard", workers.clone());
        Self {
            registry,
            ended,
            moved,
            tokens,
            first_token,
            assigned,
            waiting,
            running,
            workers,
        }
    }

    /// A request ended.
    pub fn ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        self.ended.get_or_create(&Ended { outcome }).inc();
    }

    /// A request lost its worker and goes on on another.
    pub fn moved(&self) {
        self.moved.inc();
    }

    /// A token went to a client.
    pub fn token(&self) {
        self.tokens.inc();
    }

    /// The first token came this long after the request.
    pub fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    /// The request got its first worker this long after it came.
    pub fn assigned(&self, after: Duration) {
        self.assigned.observe(after.as_secs_f64());
    }

    /// Everything in the text format of OpenMetrics.
    pub fn text(&self, snapshot: &Snapshot) -> Result<String, Diagnostic> {
        self.waiting.set(snapshot.counts.waiting as i64);
        self.running.set(snapshot.counts.running as i64);
        self.workers.set(snapshot.workers.len() as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Diagnostic::internal)?;
        Ok(text)
    }
}
