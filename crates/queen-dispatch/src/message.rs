use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use diagnostics::{Diagnostic, Narration};
use input_validation::{ModelRef, NodeName};
use queen_contract::{Decision, PolicyFailureEntry, QueueEntry, RequestCounts, WorkerEntry};
use scheduler::{NewRequest, SchedulerEvent, Shortfall, SpawnTarget};
use scheduling_policy::Policy;
use tokio::sync::oneshot;
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter};

use crate::OpenRequest;

/// A message to the dispatcher.
pub(crate) enum Message {
    Submit(NewRequest, oneshot::Sender<Result<OpenRequest, Diagnostic>>),
    Event(SchedulerEvent),
    Heartbeat(
        Box<WorkerHeartbeat>,
        oneshot::Sender<Result<HeartbeatResult, Diagnostic>>,
    ),
    AwaitHeartbeat(SpawnId, oneshot::Sender<()>),
    SpawnProgress(SpawnTarget, Narration),
    SpawnEnded(SpawnTarget, SpawnAttempt, Result<SpawnId, Diagnostic>),
    Snapshot(WorkerFilter, oneshot::Sender<DispatcherSnapshot>),
    /// The latest decisions, or those about a request, a worker or a model.
    Decisions(Option<String>, usize, oneshot::Sender<Vec<Decision>>),
    PolicyState(oneshot::Sender<PolicyReport>),
    /// What would be decided for a request, with this policy or else with the one in use.
    DryRun(
        Box<NewRequest>,
        Option<Arc<Policy>>,
        oneshot::Sender<Result<DryRun, Diagnostic>>,
    ),
    AwaitIdle(oneshot::Sender<()>),
    NodesInUse(oneshot::Sender<BTreeSet<NodeName>>),
}

/// Distinguishes the end of an abandoned spawn from the end of the one that followed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpawnAttempt(pub(crate) u64);

/// A target with a spawn under way or recent failures.
#[derive(Debug, Clone)]
pub struct TargetEntry {
    pub target: SpawnTarget,
    /// A spawn is under way.
    pub starting: bool,
    /// Time until the next spawn may begin.
    pub pause: Duration,
}

/// How the policy in use does.
#[derive(Debug, Clone, Default)]
pub struct PolicyReport {
    /// Number of decisions that it failed for.
    pub failures: u64,
    /// It is not run any more: it failed too often in a row.
    pub suspended: bool,
    pub last_failure: Option<PolicyFailureEntry>,
}

/// What would be decided for a request.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// Without a policy.
    pub default: Vec<Decision>,
    /// With the policy, if there is one.
    pub policy: Option<Vec<Decision>>,
}

/// The state of the dispatcher at one moment.
#[derive(Debug, Clone)]
pub struct DispatcherSnapshot {
    /// Ordered by id.
    pub workers: Vec<WorkerEntry>,
    pub counts: RequestCounts,
    /// Requests that wait, by model; in order of the models.
    pub queues: Vec<QueueEntry>,
    pub targets: Vec<TargetEntry>,
    /// Deployments that lack workers.
    pub shortfalls: BTreeMap<ModelRef, Shortfall>,
    /// Models that will be unloaded, with the time until then if no request uses them.
    pub unloads: Vec<(ModelRef, Duration)>,
}
