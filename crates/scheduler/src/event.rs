use std::{collections::BTreeSet, sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, Generation, ModelRef, NodeName, RequestId, WorkerId};
use queen_contract::Priority;
use request_queue::{ClientKey, Deadline};
use scheduling_policy::{Policy, PolicyFailure};
use worker_contract::{Capability, WorkerInfo};
use worker_registry::{SpawnId, WorkerFilter, runs_on};

use crate::{DeploymentMap, NodeMap, PromptPrefixes};

#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// Maximum number of requests of one priority that wait for one model, without those that are
    /// the only one of their client.
    pub queue_limit: usize,
    /// Maximum number of workers that may fail one request.
    pub max_attempts: u32,
    /// How long a model that is in use keeps its memory while requests wait for another model
    /// that needs it. Longer for models that take long to load.
    pub turn: Duration,
    /// Workers are started for deployments from this time on: workers that outlived the previous
    /// queen have registered by then.
    pub settle: Duration,
    /// How long a request may wait for memory that other models use.
    pub memory_wait: Duration,
}

impl Default for SchedulerSettings {
    /// 256 waiting requests per model and priority, 3 attempts per request, turns of 30 s, 10 min
    /// for memory.
    fn default() -> Self {
        Self {
            queue_limit: 256,
            max_attempts: 3,
            turn: Duration::from_secs(30),
            settle: Duration::ZERO,
            memory_wait: Duration::from_secs(600),
        }
    }
}

/// What a request requires of its worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerRequirements {
    pub model: ModelRef,
    /// `None`: a device of any kind.
    pub backend: Option<Backend>,
    /// `None`: any node.
    pub node: Option<NodeName>,
    /// `None`: no capability is required.
    pub capability: Option<Capability>,
}

impl WorkerRequirements {
    /// Requires a model and nothing else.
    pub fn model(model: ModelRef) -> Self {
        Self {
            model,
            backend: None,
            node: None,
            capability: None,
        }
    }

    pub(crate) fn filter(&self) -> WorkerFilter {
        WorkerFilter {
            model: Some(self.model.clone()),
            node: self.node.clone(),
            backend: self.backend,
            status: None,
            capability: self.capability,
        }
    }
}

/// Where a worker is spawned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpawnTarget {
    pub model: ModelRef,
    pub node: NodeName,
    pub backend: Backend,
    /// `None`: the device of this backend that has the model, else the one with the most free
    /// memory.
    pub device: Option<DeviceId>,
}

impl SpawnTarget {
    /// Whether the worker may have been spawned at this target.
    pub(crate) fn covers(&self, info: &WorkerInfo) -> bool {
        info.model_id == self.model
            && info.hive_id == self.node
            && runs_on(self.backend, info.device)
            && self.device.is_none_or(|device| device == info.device)
    }
}

/// A request that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Unique among the requests that have not finished.
    pub id: RequestId,
    pub requirements: WorkerRequirements,
    pub priority: Priority,
    pub client: ClientKey,
    pub deadline: Deadline,
    /// The beginnings of its prompt, for a worker that has them in its cache.
    pub prompt: PromptPrefixes,
}

/// How a request finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    Completed,
    Failed,
    /// The client disconnected or cancelled the request.
    Cancelled,
}

/// Why a worker did not complete a request, which another worker may complete.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptFailure {
    /// The connection was refused or broke: the worker receives no new requests until its
    /// next heartbeat.
    Link(Diagnostic),
    /// The connection broke and the worker's process has exited: the worker is removed.
    Crashed(Diagnostic),
    /// The worker computes nothing: it receives no new requests until it has recovered, and is
    /// stopped if it does not.
    Stalled(Diagnostic),
    /// The worker is reachable and failed to process this request.
    Fault(Diagnostic),
    /// The worker has no free slot or is draining. Does not count as an attempt.
    Refused(Diagnostic),
}

impl AttemptFailure {
    /// Returns the error that says what failed.
    pub fn into_error(self) -> Diagnostic {
        match self {
            Self::Link(error)
            | Self::Crashed(error)
            | Self::Stalled(error)
            | Self::Fault(error)
            | Self::Refused(error) => error,
        }
    }
}

#[derive(Debug, Clone)]
pub enum SchedulerEvent {
    /// A request finished; its slot is free.
    Finished(RequestId, RequestOutcome),
    /// A running request needs another worker.
    AttemptFailed(RequestId, AttemptFailure),
    /// These are the nodes now, and their state. The queen has none before the first one.
    Nodes(NodeMap),
    /// These are the deployments now. Earlier failures of the models in the set are forgotten.
    Deployments(DeploymentMap, BTreeSet<ModelRef>),
    /// A request must end with this error.
    Cancel(RequestId, Diagnostic),
    /// A spawn reported progress: it is not stuck.
    SpawnProgress(SpawnTarget),
    /// A spawn succeeded: the worker registers by its first heartbeat.
    Spawned(SpawnTarget, SpawnId),
    /// A spawn failed.
    SpawnFailed(SpawnTarget, Diagnostic),
    /// The process of a worker has exited.
    Exited(SpawnId),
    /// A user has this worker stopped. No worker is spawned for its requests.
    Stopping(SpawnId),
    /// A user has this worker replaced: a new one is spawned for its requests.
    Replacing(SpawnId),
    /// A worker has lost a part of its model, for this reason: a new one is spawned for its
    /// requests.
    PartLost(SpawnId, String),
    /// A worker was stopped: generations below this one must not serve again.
    Fence(WorkerId, Generation),
    /// The workers of a model are stopped when no request has used it for this time; `None`
    /// (the default): they are not.
    KeepLoaded(ModelRef, Option<Duration>),
    /// This is the policy of the user now; `None`: there is none.
    Policy(Option<Arc<Policy>>),
    /// No request is accepted from now on.
    Drain,
    /// Every request ends with this error, and no request is accepted from now on.
    Abort(Diagnostic),
    /// Time passed; sent several times per second.
    Tick,
}

/// A worker for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The last heartbeat of the worker.
    pub worker: WorkerInfo,
    /// 1 for the first worker; refusals do not count.
    pub attempt: u32,
    /// Number of workers that the request was assigned to so far, including this one and
    /// refusals.
    pub number: u32,
}

impl Assignment {
    pub fn spawn_id(&self) -> SpawnId {
        SpawnId::of(&self.worker)
    }
}

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// All slots of the workers that can serve it are busy.
    Busy {
        /// Requests that wait for the model, including this one.
        waiting: usize,
    },
    /// A worker is being spawned or is loading the model.
    Loading,
    /// A node that is asleep is being woken.
    Waking,
    /// The model needs memory that other models use.
    Memory,
    /// The last spawn failed.
    Backoff {
        /// Time until the next spawn.
        remaining: Duration,
    },
    /// The policy refuses all workers that could run it now.
    Policy,
}

/// That a request waits, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub reason: WaitReason,
    /// Position among the requests that wait for the model: 1 for the next one.
    pub position: usize,
    /// Requests that wait for the model.
    pub waiting: usize,
    /// Estimated time until it has a worker; `None` if it was not measured how long that takes.
    pub estimate: Option<Duration>,
}

/// Why the scheduler has a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Its model was idle for the time that a client set.
    Idle,
    /// It stalled and did not recover.
    Stalled,
    /// Another model needs its memory.
    Memory,
    /// Its deployment needs fewer workers.
    Surplus,
    /// Its GPU is left to other programs.
    Yield,
    /// Its node is put to sleep.
    Sleep,
    /// It replaced a worker on a GPU that was left to other programs and is used again.
    Return,
}

/// What the owner of the scheduler must do.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerEffect {
    /// Run the request on this worker.
    Assign(RequestId, Box<Assignment>),
    /// Report to the client why its request waits, and its position.
    Waiting(RequestId, Waiting),
    /// The request is over: report the error to its client.
    Fail(RequestId, Diagnostic),
    /// Stop the running request with this error; [`SchedulerEvent::Finished`] must follow.
    Stop(RequestId, Diagnostic),
    /// Provide a worker: one that runs there but has not registered, else a new one.
    /// [`SchedulerEvent::Spawned`] or [`SchedulerEvent::SpawnFailed`] must follow.
    Spawn(SpawnTarget),
    /// Abandon the spawn: it made no progress for too long and counts as failed.
    AbandonSpawn(SpawnTarget),
    /// Stop the worker; [`SchedulerEvent::Fence`] must follow.
    StopWorker(SpawnId, StopCause),
    /// A heartbeat of this worker is late: find out whether its process is running. If it has
    /// exited, [`SchedulerEvent::Exited`] must follow.
    CheckProcess(SpawnId),
    /// A worker sent no heartbeat for too long and was removed.
    WorkerExpired(SpawnId),
    /// The policy failed for the first time, or is not run any more.
    PolicyFailed {
        failure: PolicyFailure,
        suspended: bool,
    },
}
