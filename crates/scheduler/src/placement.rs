use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, NodeName, WorkerId};
use worker_contract::WorkerInfo;
use worker_registry::{Candidate, ServingState, SpawnId, WorkerRegistry};

use crate::{
    Assignment, SpawnTarget, TargetState, WaitReason, WorkerRequirements, errors, target::Readiness,
};

/// The result of placing a request.
pub(crate) enum Placement {
    Assigned(Box<Assignment>),
    Waits {
        reason: WaitReason,
        /// A worker to spawn for it.
        spawn: Option<SpawnTarget>,
    },
    /// No worker can be spawned for it.
    Failed(Box<Diagnostic>),
}

/// Places requests on workers and decides when a worker is spawned.
pub(crate) struct Placer<'a> {
    pub(crate) registry: &'a WorkerRegistry,
    pub(crate) targets: &'a mut BTreeMap<SpawnTarget, TargetState>,
    pub(crate) default_node: &'a NodeName,
    /// Requests that wait for the model.
    pub(crate) waiting: usize,
    pub(crate) now: Duration,
}

/// A request to be placed.
pub(crate) struct Applicant<'a> {
    pub(crate) requirements: &'a WorkerRequirements,
    /// The worker that failed it last; any other worker is preferred.
    pub(crate) avoid: Option<&'a SpawnId>,
    pub(crate) attempts: u32,
    pub(crate) assignments: u32,
    /// Its worker that was stopped on request: none is spawned for it.
    pub(crate) stopped_worker: Option<&'a WorkerId>,
}

impl Placer<'_> {
    pub(crate) fn place(&mut self, request: &Applicant<'_>) -> Placement {
        let filter = request.requirements.filter();
        let best = self
            .registry
            .candidates(&filter, self.now)
            .min_by_key(|candidate| rank(candidate, request.avoid));
        if let Some(candidate) = best {
            return Placement::Assigned(Box::new(Assignment {
                worker: candidate.info.clone(),
                attempt: request.attempts + 1,
                number: request.assignments + 1,
            }));
        }
        match self.registry.serving_state(&filter, self.now) {
            ServingState::Serving => Placement::Waits {
                reason: WaitReason::Busy {
                    waiting: self.waiting,
                },
                spawn: None,
            },
            ServingState::Loading => Placement::Waits {
                reason: WaitReason::Loading,
                spawn: None,
            },
            ServingState::None => self.spawn(request),
        }
    }

    fn spawn(&mut self, request: &Applicant<'_>) -> Placement {
        let target = spawn_target(request.requirements, self.default_node);
        let state = self.targets.entry(target.clone()).or_default();
        match (state.readiness(self.now), request.stopped_worker) {
            (Readiness::UnderWay, _) => Placement::Waits {
                reason: WaitReason::Loading,
                spawn: None,
            },
            (_, Some(worker)) => Placement::Failed(Box::new(errors::worker_stopped(worker))),
            (Readiness::Now, None) => {
                state.begin(self.now);
                Placement::Waits {
                    reason: WaitReason::Loading,
                    spawn: Some(target),
                }
            }
            (Readiness::After(remaining), None) => Placement::Waits {
                reason: WaitReason::Backoff { remaining },
                spawn: None,
            },
            (Readiness::Broken(remaining), None) => {
                Placement::Failed(Box::new(errors::breaker_open(&target, state, remaining)))
            }
        }
    }
}

/// The lowest rank is chosen: a worker that has not just failed the request, then the lowest
/// share of busy slots, then the most free slots.
fn rank<'a>(
    candidate: &Candidate<'a>,
    avoid: Option<&SpawnId>,
) -> (bool, u64, Reverse<u32>, &'a str) {
    let info = candidate.info;
    let avoided = avoid.is_some_and(|a| a.worker == info.id && a.generation == info.generation);
    let busy_permille =
        1000 - u64::from(candidate.free_slots) * 1000 / u64::from(info.slots_total.max(1));
    (
        avoided,
        busy_permille,
        Reverse(candidate.free_slots),
        info.id.as_str(),
    )
}

/// Returns where a worker is spawned for these requirements.
pub(crate) fn spawn_target(
    requirements: &WorkerRequirements,
    default_node: &NodeName,
) -> SpawnTarget {
    SpawnTarget {
        model: requirements.model.clone(),
        node: requirements
            .node
            .clone()
            .unwrap_or_else(|| default_node.clone()),
        backend: requirements.backend.unwrap_or(Backend::Cpu),
    }
}

/// Returns the target that a worker was spawned for. `required` is the backend that a request
/// on this worker required; a node has only one kind of GPU, so it is the worker's backend.
pub(crate) fn target_of_worker(info: &WorkerInfo, required: Option<Backend>) -> SpawnTarget {
    SpawnTarget {
        model: info.model_id.clone(),
        node: info.hive_id.clone(),
        backend: match info.device {
            DeviceId::Cpu(_) => Backend::Cpu,
            DeviceId::Gpu(_) => required.unwrap_or(Backend::Cuda),
        },
    }
}
