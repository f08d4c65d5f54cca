use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use input_validation::NodeName;
use scheduler::{SpawnTarget, StopCause};
use worker_registry::SpawnId;

use crate::Dispatcher;

/// Provides workers to the dispatcher.
pub trait WorkerSource: Send + Sync + 'static {
    /// Provides a worker at the target: one that already runs there, else a new one. The
    /// worker has sent a heartbeat or is about to.
    ///
    /// Reports progress by [`Dispatcher::spawn_progress`]. The future is dropped when the
    /// spawn makes no progress for too long.
    fn provide<'a>(
        &'a self,
        target: &'a SpawnTarget,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<SpawnId, Diagnostic>>;

    /// Returns whether the process of a worker has exited. False if that is not known.
    fn has_exited<'a>(&'a self, worker: &'a SpawnId) -> BoxFuture<'a, bool>;

    /// No worker listens on this port of the node any more: what was kept to reach it is not
    /// needed.
    fn release_port<'a>(&'a self, node: &'a NodeName, port: u16) -> BoxFuture<'a, ()>;

    /// Stops a worker and fences it. The requests of one whose model is idle complete; those of
    /// a stalled one end.
    fn stop<'a>(
        &'a self,
        worker: &'a SpawnId,
        cause: StopCause,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<(), Diagnostic>>;
}
