use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use diagnostics::Diagnostic;
use http::HeaderMap;
use input_validation::{ModelRef, WorkerId};
use jiff::Timestamp;
use queen_dispatch::{Dispatcher, DispatcherSnapshot, PolicyFile};
use queen_nodes::{Nodes, Shutdown};
use request_queue::ClientKey;
use request_relay::Relay;
use worker_contract::WorkerInfo;
use worker_registry::WorkerFilter;

use crate::{guards::presented_key, metrics::Metrics, reach::QueenReach};

/// How long a streamed response may wait for its request to start before its headers are sent.
/// An error in this time has its HTTP status; a later one is an event of the stream.
pub const HEADER_GRACE: Duration = Duration::from_secs(1);

/// What the handlers share.
pub struct Api {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) relay: Relay,
    pub(crate) nodes: Nodes,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) reach: QueenReach,
    pub(crate) policy: PolicyFile,
    pub(crate) started_at: Timestamp,
    pub(crate) metrics: Metrics,
    pub(crate) header_grace: Duration,
    client_hashes: RandomState,
}

impl Api {
    pub fn new(
        dispatcher: Dispatcher,
        relay: Relay,
        nodes: Nodes,
        shutdown: Arc<Shutdown>,
        reach: QueenReach,
        policy: PolicyFile,
        started_at: Timestamp,
    ) -> Self {
        Self {
            metrics: Metrics::new(relay.metrics()),
            dispatcher,
            relay,
            nodes,
            shutdown,
            reach,
            policy,
            started_at,
            header_grace: HEADER_GRACE,
            client_hashes: RandomState::new(),
        }
    }

    /// Replaces [`HEADER_GRACE`].
    #[must_use]
    pub fn with_header_grace(mut self, grace: Duration) -> Self {
        self.header_grace = grace;
        self
    }

    /// Returns which client sends a request: by the key that it presents, which is checked only if
    /// the queen requires one. Clients that present none count as one.
    pub(crate) fn client(&self, headers: &HeaderMap) -> ClientKey {
        let key = presented_key(headers);
        key.map_or_else(ClientKey::default, |key| {
            ClientKey::new(self.client_hashes.hash_one(key))
        })
    }

    pub(crate) async fn snapshot(&self) -> Result<DispatcherSnapshot, Diagnostic> {
        self.dispatcher.snapshot(WorkerFilter::default()).await
    }

    pub(crate) async fn workers(&self) -> Result<Vec<WorkerInfo>, Diagnostic> {
        let workers = self.dispatcher.workers(WorkerFilter::default()).await?;
        Ok(workers.into_iter().map(|worker| worker.info).collect())
    }

    /// Returns the context length of a worker; 0 if the worker is gone.
    pub(crate) async fn context_length(
        &self,
        model: &ModelRef,
        worker: &WorkerId,
    ) -> Result<u32, Diagnostic> {
        let filter = WorkerFilter {
            model: Some(model.clone()),
            ..WorkerFilter::default()
        };
        let workers = self.dispatcher.workers(filter).await?;
        let found = workers.into_iter().find(|found| found.info.id == *worker);
        Ok(found.map_or(0, |found| found.info.context_length))
    }

    /// Returns the names of the models that can be requested.
    pub(crate) async fn model_names(&self) -> Result<BTreeSet<String>, Diagnostic> {
        let workers = self.workers().await?;
        let served = workers.into_iter().map(|worker| worker.model_id);
        self.nodes.model_names(served).await
    }
}
