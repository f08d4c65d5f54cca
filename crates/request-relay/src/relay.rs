use std::{sync::Arc, time::Duration};

use input_validation::RequestId;
use queen_dispatch::Dispatcher;

use crate::{RelayMetrics, WorkerAccess, errors, groups::Groups};

/// Runs requests on workers. Clones share their state.
#[derive(Clone)]
pub struct Relay {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) workers: Arc<dyn WorkerAccess>,
    pub(crate) metrics: RelayMetrics,
    /// How long a worker may produce no output and complete no step.
    pub(crate) worker_silence: Duration,
    pub(crate) groups: Groups,
}

impl Relay {
    /// Creates a relay. A worker that produces no output and completes no step for
    /// `worker_silence` counts as stalled.
    pub fn new(
        dispatcher: Dispatcher,
        workers: Arc<dyn WorkerAccess>,
        worker_silence: Duration,
    ) -> Self {
        Self {
            dispatcher,
            workers,
            metrics: RelayMetrics::default(),
            worker_silence,
            groups: Groups::default(),
        }
    }

    pub fn metrics(&self) -> &RelayMetrics {
        &self.metrics
    }

    /// Cancels a request with all its choices; has no effect on an id that is not in use.
    pub async fn cancel(&self, id: RequestId) {
        self.groups.cancel(&id);
        self.dispatcher.cancel(id, errors::cancelled()).await;
    }
}
