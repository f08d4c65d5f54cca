use std::time::Duration;

use diagnostics::Diagnostic;
use input_validation::{Backend, Generation, ModelRef, NodeName, RequestId, WorkerId};
use worker_contract::{WorkerHeartbeat, WorkerInfo};
use worker_registry::Lease;

/// Bounds of a [`Scheduler`](crate::Scheduler).
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most requests that wait for one model.
    pub queue_limit: usize,
    /// Most workers that one request is given to.
    pub attempts: u32,
    /// Where a model is loaded when the request names no node.
    pub home: NodeName,
}

impl Settings {
    /// 256 waiting requests a model, 3 attempts each.
    pub fn new(home: NodeName) -> Self {
        Self {
            queue_limit: 256,
            attempts: 3,
            home,
        }
    }
}

/// What a request needs of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Want {
    /// The model it serves.
    pub model: ModelRef,
    /// The kind of its device.
    pub backend: Option<Backend>,
    /// Its node.
    pub node: Option<NodeName>,
}

/// Where a worker of a model is to be: what a [`Want`] means when no worker is there yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The model to load.
    pub model: ModelRef,
    /// The node to load it on.
    pub node: NodeName,
    /// The kind of device.
    pub backend: Backend,
}

/// A request that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its name, unique among the requests that have not ended.
    pub id: RequestId,
    /// What it needs.
    pub want: Want,
    /// When it is worth nothing any more.
    pub deadline: Duration,
}

/// How a request that ran (or waited) ended, as its relay tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is complete.
    Completed,
    /// It ended with an error.
    Failed,
    /// The client went away or asked for the end.
    Cancelled,
}

/// How a request lost its worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Lost {
    /// The connection was refused or broke: the worker gets no work until it is heard again.
    Link(Diagnostic),
    /// The worker is reachable and failed at this request.
    Fault(Diagnostic),
    /// The worker had no slot, or takes nothing new; says nothing against either.
    Refused(Diagnostic),
}

/// What happens to a scheduler.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request arrives.
    Submit(Submission),
    /// A request has ended; its slot is free.
    Ended(RequestId, Outcome),
    /// A running request lost its worker and needs another.
    Lost(RequestId, Lost),
    /// Someone wants the request to end.
    Cancel(RequestId, Diagnostic),
    /// A worker tells its state.
    Heartbeat(Box<WorkerHeartbeat>),
    /// The spawn asked for by [`Effect::Spawn`] succeeded: this spawn of this worker will
    /// register by heartbeat.
    Spawned(Target, Lease),
    /// The spawn asked for by [`Effect::Spawn`] failed.
    SpawnFailed(Target, Diagnostic),
    /// A worker was stopped on purpose; generations below this one may not come back.
    Fence(WorkerId, Generation),
    /// A worker's process is known to be gone.
    Gone(Lease),
    /// No new requests from now on.
    Drain,
    /// Every request ends now, with this error.
    Abort(Diagnostic),
    /// Time passes; sent a few times a second.
    Tick,
}

/// A request's place on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The worker, as last heard.
    pub worker: WorkerInfo,
    /// 1 for the first worker, 2 for the next, ….
    pub attempt: u32,
}

impl Assignment {
    /// Which spawn of which worker it is.
    pub fn lease(&self) -> Lease {
        Lease {
            worker: self.worker.id.clone(),
            generation: self.worker.generation,
        }
    }
}

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its workers are busy; this many requests of the model wait, itself included.
    Busy {
        /// Waiting requests.
        waiting: usize,
    },
    /// A worker is being spawned or loads.
    Loading,
    /// The last start failed; the next attempt comes in this time.
    Backoff {
        /// Time until then.
        left: Duration,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Run the request on this worker.
    Assign(RequestId, Box<Assignment>),
    /// Tell the request's client why it waits.
    Waits(RequestId, Wait),
    /// The request is over; tell its client.
    Fail(RequestId, Diagnostic),
    /// The running request is to end with this error; [`Event::Ended`] is to follow.
    Stop(RequestId, Diagnostic),
    /// Get a worker for the target: one that runs there already and has not been heard, else
    /// a new one. [`Event::Spawned`] or [`Event::SpawnFailed`] is to follow.
    Spawn(Target),
    /// A worker was silent for so long that it is forgotten.
    Forgotten(Lease),
}
