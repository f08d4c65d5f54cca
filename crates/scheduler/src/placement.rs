use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, WorkerId};
use worker_contract::WorkerInfo;
use worker_registry::{Candidate, ServingState, SpawnId, WorkerRegistry};

use crate::{
    Assignment, NodeMap, SpawnTarget, TargetState, WaitReason, WorkerRequirements, errors,
    nodes::{self, Place, place_of},
    target::Readiness,
};

/// The result of placing a request.
pub(crate) enum Placement {
    Assigned(Box<Assignment>),
    Waits {
        reason: WaitReason,
        /// Where a worker is being spawned for it, or will be.
        target: Option<SpawnTarget>,
        /// The spawn at the target begins now.
        begins: bool,
    },
    /// No worker can be spawned for it.
    Failed(Box<Diagnostic>),
}

/// Places requests on workers and decides when a worker is spawned.
pub(crate) struct Placer<'a> {
    pub(crate) registry: &'a WorkerRegistry,
    pub(crate) targets: &'a mut BTreeMap<SpawnTarget, TargetState>,
    pub(crate) nodes: &'a NodeMap,
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
    /// Where no worker could be spawned for it.
    pub(crate) failed_places: &'a BTreeSet<Place>,
    /// Why not, on the first of them.
    pub(crate) spawn_failure: Option<&'a Diagnostic>,
}

impl Placer<'_> {
    pub(crate) fn place(&mut self, request: &Applicant<'_>) -> Placement {
        let filter = request.requirements.filter();
        let failed = request
            .avoid
            .and_then(|spawn| self.registry.get_spawn(spawn));
        let best = self
            .registry
            .candidates(&filter, self.now)
            .min_by_key(|candidate| rank(candidate, failed));
        if let Some(candidate) = best {
            return Placement::Assigned(Box::new(Assignment {
                worker: candidate.info.clone(),
                attempt: request.attempts + 1,
                number: request.assignments + 1,
            }));
        }
        match self.registry.serving_state(&filter, self.now) {
            ServingState::Serving => waits(WaitReason::Busy {
                waiting: self.waiting,
            }),
            ServingState::Loading => Placement::Waits {
                reason: WaitReason::Loading,
                target: self.under_way(request),
                begins: false,
            },
            ServingState::None => self.spawn(request),
        }
    }

    /// Returns where a worker that can serve the request is being spawned.
    fn under_way(&self, request: &Applicant<'_>) -> Option<SpawnTarget> {
        let WorkerRequirements {
            model,
            node,
            backend,
            ..
        } = request.requirements;
        let mut starting = self.targets.iter().filter(|(target, state)| {
            target.model == *model
                && backend.is_none_or(|backend| target.backend == backend)
                && node.as_ref().is_none_or(|node| target.node == *node)
                && !request.failed_places.contains(&place_of(target))
                && state.is_starting()
        });
        starting.next().map(|(target, _)| target.clone())
    }

    fn spawn(&mut self, request: &Applicant<'_>) -> Placement {
        if let Some(target) = self.under_way(request) {
            return Placement::Waits {
                reason: WaitReason::Loading,
                target: Some(target),
                begins: false,
            };
        }
        if let Some(worker) = request.stopped_worker {
            return Placement::Failed(Box::new(errors::worker_stopped(worker)));
        }
        let readiness = |target: &SpawnTarget| match self.targets.get(target) {
            Some(state) => state.readiness(self.now),
            None => Readiness::Now,
        };
        let chosen = nodes::choose(
            self.nodes,
            request.requirements,
            request.failed_places,
            readiness,
        );
        let target = match chosen {
            Ok(target) => target,
            Err(error) => {
                let error = request.spawn_failure.cloned().unwrap_or(error);
                return Placement::Failed(Box::new(error));
            }
        };
        let state = self.targets.entry(target.clone()).or_default();
        let (reason, begins) = match state.readiness(self.now) {
            Readiness::UnderWay => (WaitReason::Loading, false),
            Readiness::Now => {
                state.begin(self.now);
                (WaitReason::Loading, true)
            }
            Readiness::After(remaining) => (WaitReason::Backoff { remaining }, false),
            Readiness::Broken(remaining) => {
                let error = errors::breaker_open(&target, state, remaining);
                return Placement::Failed(Box::new(error));
            }
        };
        Placement::Waits {
            reason,
            target: Some(target),
            begins,
        }
    }
}

fn waits(reason: WaitReason) -> Placement {
    Placement::Waits {
        reason,
        target: None,
        begins: false,
    }
}

/// The lowest rank is chosen: a worker other than the one that has just failed the request, on
/// another node, which may be out of reach as a whole; then the lowest share of busy slots, then
/// the most free slots.
fn rank<'a>(
    candidate: &Candidate<'a>,
    failed: Option<&WorkerInfo>,
) -> (bool, bool, u64, Reverse<u32>, &'a str) {
    let info = candidate.info;
    let busy_permille =
        1000 - u64::from(candidate.free_slots) * 1000 / u64::from(info.slots_total.max(1));
    (
        failed.is_some_and(|f| f.id == info.id && f.generation == info.generation),
        failed.is_some_and(|f| f.hive_id == info.hive_id),
        busy_permille,
        Reverse(candidate.free_slots),
        info.id.as_str(),
    )
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
