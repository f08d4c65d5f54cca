//! The queen's registry of workers: which workers exist and which of them may receive new
//! requests. It combines heartbeats, failed connections, stalls, and the requests that this queen
//! runs on each worker.
//!
//! Pure: time is a [`Duration`] since the start of the queen, monotonic. The wall clocks of
//! different machines are never compared.
//!
//! A spawn of a worker is identified by a [`SpawnId`]: the worker's id and a generation
//! number that grows with every spawn. A heartbeat from a generation below the worker's
//! fence is refused with [`Code::Fenced`](diagnostics::Code::Fenced) and its sender must
//! exit. Registering a spawn, stopping it, or its deregistration raises the fence.

mod registry;
mod worker;
mod worker_table;

pub use registry::{HeartbeatResult, ServingState, WorkerRegistry};
pub use worker::{Candidate, SpawnId, WorkerFilter, runs_on};

use std::time::Duration;

/// A heartbeat is late after this time.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(7);
/// How often the process of a worker whose heartbeat is late is to be checked.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A worker without a heartbeat for this long receives no new requests.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(15);
/// A worker without a heartbeat for this long is removed.
pub(crate) const REMOVED_AFTER: Duration = Duration::from_secs(30);
/// A stalled worker that completes no step within this time is lost.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
