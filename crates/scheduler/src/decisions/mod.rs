//! What was decided and why, for users who ask.

mod describe;
mod shortlist;

use std::{collections::VecDeque, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef, NodeName, RequestId, WorkerId};
use jiff::Timestamp;
use queen_contract::{Availability, Decision};
use scheduling_policy::{Opinion, PolicyFailure};
use worker_contract::WorkerStatus;
use worker_registry::SpawnId;

use crate::{SpawnTarget, StopCause, WaitReason};

pub(crate) use describe::place_candidate;
pub(crate) use shortlist::Shortlist;

/// Number of decisions that are kept.
const KEPT: usize = 2000;

/// The latest decisions. They are kept as data, and described only for those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct DecisionLog(VecDeque<(Duration, Event)>);

/// A decision.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Routed {
        request: RequestId,
        model: ModelRef,
        attempt: u32,
        candidates: Shortlist<RouteCandidate>,
    },
    Waits {
        request: RequestId,
        model: ModelRef,
        reason: WaitReason,
        target: Option<SpawnTarget>,
        /// Workers of the model.
        workers: Vec<UnusableWorker>,
        /// Workers that the policy refuses.
        refused: Vec<RouteCandidate>,
    },
    Spawns {
        request: RequestId,
        target: SpawnTarget,
        places: Vec<PlaceCandidate>,
    },
    Deploys {
        target: SpawnTarget,
        /// Number of workers that the deployment wants.
        wanted: u32,
        places: Vec<PlaceCandidate>,
    },
    SpawnFailed {
        target: SpawnTarget,
        error: Diagnostic,
    },
    AttemptFailed {
        request: RequestId,
        model: ModelRef,
        spawn: SpawnId,
        /// `None`: the worker refused it for now.
        error: Option<Diagnostic>,
        again: bool,
    },
    Refused {
        request: RequestId,
        model: ModelRef,
        error: Diagnostic,
        places: Vec<PlaceCandidate>,
    },
    /// The policy failed, so the default decided.
    PolicyFailed {
        /// `None`: for a deployment.
        request: Option<RequestId>,
        model: ModelRef,
        failure: PolicyFailure,
    },
    Stops {
        spawn: SpawnId,
        model: Option<ModelRef>,
        cause: StopCause,
    },
    /// The worker is stopped, because its GPU is left to other programs.
    Yields {
        spawn: SpawnId,
        model: ModelRef,
        node: NodeName,
        reason: String,
    },
    Lost {
        spawn: SpawnId,
    },
    PartLost {
        spawn: SpawnId,
        /// `None`: it was removed before.
        model: Option<ModelRef>,
        reason: String,
    },
    Exited {
        spawn: SpawnId,
        model: ModelRef,
    },
}

/// A worker that could run a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RouteCandidate {
    pub(crate) worker: WorkerId,
    pub(crate) node: NodeName,
    pub(crate) free_slots: u32,
    pub(crate) slots: u32,
    /// Number of the longest beginning of the prompt that it computed before; 0 if none.
    pub(crate) cached: u32,
    /// It failed the request before.
    pub(crate) failed_before: bool,
    /// A worker of this node failed the request before.
    pub(crate) node_failed_before: bool,
    /// That of the policy.
    pub(crate) opinion: Opinion,
}

/// A worker that matches a request and cannot run it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnusableWorker {
    pub(crate) worker: WorkerId,
    pub(crate) status: WorkerStatus,
    pub(crate) availability: Availability,
}

/// A node and a backend on which a worker could be started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlaceCandidate {
    pub(crate) node: NodeName,
    pub(crate) backend: Backend,
    pub(crate) verdict: PlaceVerdict,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PlaceVerdict {
    Possible {
        has_files: bool,
        free_bytes: u64,
        /// The node is still being connected.
        starting: bool,
        /// The node is asleep and would be woken.
        asleep: bool,
        /// A spawn there failed a short time ago.
        paused: bool,
        /// Spawns there failed too often.
        broken: bool,
        /// Other models use its memory.
        needs_room: bool,
        /// That of the policy.
        opinion: Opinion,
    },
    RefusedByPolicy(String),
    NotNamed,
    NotOfDeployment,
    /// It computes a part of the model for the worker, which runs on another node.
    HasPart,
    /// The node is still being connected.
    Connecting,
    /// Workers of other models are being started there.
    Starting,
    /// The device has a worker of the model.
    Occupied,
    /// It has too little memory, even without its workers.
    TooSmall,
    /// A spawn there was refused a short time ago.
    RefusedBefore(String),
    Down(String),
    /// The node is asleep, and is not woken for it.
    Asleep(String),
    /// The device is left to other programs, for this reason.
    LeftToOthers(String),
    NoDevice,
    FailedBefore,
}

impl RouteCandidate {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.opinion, Opinion::Refused(_))
    }
}

impl PlaceVerdict {
    /// Whether a start for a request will not succeed soon.
    pub(crate) fn is_unlikely(&self) -> bool {
        matches!(self, Self::Possible { starting, broken, .. } if *starting || *broken)
    }

    /// Whether a start for a deployment will not succeed now.
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Possible { paused, broken, .. } if *paused || *broken)
    }
}

impl DecisionLog {
    pub(crate) fn add(&mut self, event: Event, now: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, event));
    }

    pub(crate) fn extend(&mut self, event: Option<Event>, now: Duration) {
        if let Some(event) = event {
            self.add(event, now);
        }
    }

    /// Describes the latest decisions, the oldest first. `about` is the id of a request or of a
    /// worker, or a model; `time` is the wall-clock time of a moment.
    pub(crate) fn describe(
        &self,
        about: Option<&str>,
        limit: usize,
        time: impl Fn(Duration) -> Timestamp,
    ) -> Vec<Decision> {
        let mut found: Vec<Decision> = self
            .0
            .iter()
            .rev()
            .filter(|(_, event)| about.is_none_or(|about| event.concerns(about)))
            .take(limit)
            .map(|(at, event)| event.describe(time(*at)))
            .collect();
        found.reverse();
        found
    }
}

impl Event {
    fn concerns(&self, about: &str) -> bool {
        let (request, worker, model) = self.subjects();
        request.is_some_and(|id| id.as_str() == about)
            || worker.is_some_and(|id| id.as_str() == about)
            || model.is_some_and(|model| model.to_string() == about)
    }

    fn subjects(&self) -> (Option<&RequestId>, Option<&WorkerId>, Option<&ModelRef>) {
        match self {
            Self::Routed {
                request,
                model,
                candidates,
                ..
            } => {
                let worker = candidates.best().map(|candidate| &candidate.worker);
                (Some(request), worker, Some(model))
            }
            Self::Waits { request, model, .. } | Self::Refused { request, model, .. } => {
                (Some(request), None, Some(model))
            }
            Self::Spawns {
                request, target, ..
            } => (Some(request), None, Some(&target.model)),
            Self::SpawnFailed { target, .. } | Self::Deploys { target, .. } => {
                (None, None, Some(&target.model))
            }
            Self::AttemptFailed {
                request,
                model,
                spawn,
                ..
            } => (Some(request), Some(&spawn.worker), Some(model)),
            Self::PolicyFailed { request, model, .. } => (request.as_ref(), None, Some(model)),
            Self::Stops { spawn, model, .. } | Self::PartLost { spawn, model, .. } => {
                (None, Some(&spawn.worker), model.as_ref())
            }
            Self::Lost { spawn } => (None, Some(&spawn.worker), None),
            Self::Exited { spawn, model } | Self::Yields { spawn, model, .. } => {
                (None, Some(&spawn.worker), Some(model))
            }
        }
    }
}
