use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use worker_contract::{WorkerClient, WorkerInfo};

/// The exit of a worker's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerExit {
    /// How it exited, if known: `exit code 1`, `signal 9`.
    pub description: Option<String>,
    /// Whether it ran out of memory.
    pub out_of_memory: bool,
}

/// Access to workers, wherever they run.
pub trait WorkerAccess: Send + Sync + 'static {
    /// Returns a client for the worker.
    fn connect<'a>(
        &'a self,
        worker: &'a WorkerInfo,
    ) -> BoxFuture<'a, Result<WorkerClient, Diagnostic>>;

    /// Returns how the process of this spawn exited, or `None` if it is running or its state
    /// cannot be determined within a short time.
    fn exit<'a>(&'a self, worker: &'a WorkerInfo) -> BoxFuture<'a, Option<WorkerExit>>;

    /// Returns which part of the worker's model has ended on another machine, and how; `None` if the
    /// model is not split, all of its parts run, or this cannot be determined within a short time.
    fn lost_part<'a>(&'a self, worker: &'a WorkerInfo) -> BoxFuture<'a, Option<String>>;
}
