use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::WorkerId;
use worker_contract::WorkerInfo;
use worker_registry::{Candidate, ServingState, SpawnId, WorkerRegistry};

use crate::{
    Assignment, Deployment, NodeMap, SpawnTarget, TargetState, WaitReason, WorkerRequirements,
    decisions::{PlaceCandidate, RouteCandidate, Shortlist},
    errors,
    nodes::{self, Choice, Place, place_of},
    prefixes::{PrefixTable, PromptPrefixes},
    residency::{Residency, bytes_held},
    target::Readiness,
};

/// How much busier than the least busy worker, in thousandths of its slots, one may be that has the
/// beginning of the prompt in its cache.
const CACHE_WORTH_PERMILLE: u64 = 500;

/// The result of placing a request.
pub(crate) enum Placement {
    Assigned(Box<Assignment>, Shortlist<RouteCandidate>),
    Waits {
        reason: WaitReason,
        /// Where a worker is being spawned for it, or will be.
        target: Option<SpawnTarget>,
        /// The spawn at the target begins now, and these places were considered.
        begins: Option<Vec<PlaceCandidate>>,
    },
    /// No worker can be spawned for it at these places.
    Failed(Box<Diagnostic>, Vec<PlaceCandidate>),
}

/// Places requests on workers and decides when a worker is spawned.
pub(crate) struct Placer<'a> {
    pub(crate) registry: &'a WorkerRegistry,
    pub(crate) targets: &'a mut BTreeMap<SpawnTarget, TargetState>,
    pub(crate) nodes: &'a NodeMap,
    pub(crate) residency: &'a Residency,
    pub(crate) prefixes: &'a PrefixTable,
    /// That of the model: it says where workers may be spawned.
    pub(crate) deployment: Option<&'a Deployment>,
    /// Requests that wait for the model.
    pub(crate) waiting: usize,
    pub(crate) now: Duration,
}

/// A request to be placed.
pub(crate) struct Applicant<'a> {
    pub(crate) requirements: &'a WorkerRequirements,
    pub(crate) prompt: &'a PromptPrefixes,
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
        let able = || {
            let candidates = self.registry.candidates(&filter, self.now);
            candidates.filter(|candidate| !self.residency.is_yielding(&candidate.info.id))
        };
        let known = self
            .prefixes
            .known(&request.requirements.model, request.prompt);
        let least_busy = if known.is_empty() {
            0
        } else {
            let busy = able().map(|candidate| busy_permille(&candidate));
            busy.min().unwrap_or(0)
        };
        let cached = |candidate: &Candidate<'_>| {
            let is_much_busier = busy_permille(candidate) > least_busy + CACHE_WORTH_PERMILLE;
            let spawn = known
                .iter()
                .find(|(spawn, _)| is_spawn(candidate.info, spawn));
            spawn
                .filter(|_| !is_much_busier)
                .map_or(0, |(_, longest)| *longest)
        };
        let candidates = Shortlist::of(
            able(),
            |candidate| rank(candidate, failed, cached(candidate)),
            |candidate| route_candidate(&candidate, failed, cached(&candidate)),
        );
        let best = candidates.best();
        if let Some(worker) = best.and_then(|best| self.registry.get(&best.worker)) {
            let assignment = Assignment {
                worker: worker.clone(),
                attempt: request.attempts + 1,
                number: request.assignments + 1,
            };
            return Placement::Assigned(Box::new(assignment), candidates);
        }
        match self.registry.serving_state(&filter, self.now) {
            ServingState::Serving => waits(WaitReason::Busy {
                waiting: self.waiting,
            }),
            ServingState::Loading => Placement::Waits {
                reason: WaitReason::Loading,
                target: self.under_way(request),
                begins: None,
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
                begins: None,
            };
        }
        if let Some(worker) = request.stopped_worker {
            return Placement::Failed(Box::new(errors::worker_stopped(worker)), Vec::new());
        }
        let readiness = |target: &SpawnTarget| match self.targets.get(target) {
            Some(state) => state.readiness(self.now),
            None => Readiness::Now,
        };
        let Choice { target, places } = nodes::choose(
            self.nodes,
            request.requirements,
            self.deployment,
            request.failed_places,
            readiness,
            |place| bytes_held(self.registry, self.nodes, place),
        );
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                let error = request.spawn_failure.cloned().unwrap_or(error);
                return Placement::Failed(Box::new(error), places);
            }
        };
        // The memory that is being freed is for the model that waited for it.
        let is_reserved = self.targets.iter().any(|(other, state)| {
            *other != target
                && state.is_taking_room(self.now)
                && place_of(other) == place_of(&target)
        });
        let state = self.targets.entry(target.clone()).or_default();
        let (reason, begins) = match state.readiness(self.now) {
            Readiness::UnderWay => (WaitReason::Loading, None),
            Readiness::NeedsRoom => (WaitReason::Memory, None),
            Readiness::Now if is_reserved => (WaitReason::Memory, None),
            Readiness::Now => {
                state.begin(self.now);
                (WaitReason::Loading, Some(places))
            }
            Readiness::After(remaining) => (WaitReason::Backoff { remaining }, None),
            Readiness::Broken(remaining) => {
                let error = errors::breaker_open(&target, state, remaining);
                return Placement::Failed(Box::new(error), places);
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
        begins: None,
    }
}

fn route_candidate(
    candidate: &Candidate<'_>,
    failed: Option<&WorkerInfo>,
    cached: u32,
) -> RouteCandidate {
    let info = candidate.info;
    RouteCandidate {
        worker: info.id.clone(),
        node: info.hive_id.clone(),
        free_slots: candidate.free_slots,
        slots: info.slots_total,
        cached,
        failed_before: failed.is_some_and(|f| f.id == info.id && f.generation == info.generation),
        node_failed_before: failed.is_some_and(|f| f.hive_id == info.hive_id),
    }
}

/// The lowest rank is chosen: a worker other than the one that has just failed the request, on
/// another node, which may be out of reach as a whole; then the one that computed the longest
/// beginning of the prompt, the lowest share of busy slots, the most free slots.
fn rank<'a>(
    candidate: &Candidate<'a>,
    failed: Option<&WorkerInfo>,
    cached: u32,
) -> (bool, bool, Reverse<u32>, u64, Reverse<u32>, &'a str) {
    let info = candidate.info;
    (
        failed.is_some_and(|f| f.id == info.id && f.generation == info.generation),
        failed.is_some_and(|f| f.hive_id == info.hive_id),
        Reverse(cached),
        busy_permille(candidate),
        Reverse(candidate.free_slots),
        info.id.as_str(),
    )
}

/// The share of the worker's slots that are busy, in thousandths.
fn busy_permille(candidate: &Candidate<'_>) -> u64 {
    let slots = u64::from(candidate.info.slots_total.max(1));
    1000 - u64::from(candidate.free_slots) * 1000 / slots
}

fn is_spawn(info: &WorkerInfo, spawn: &SpawnId) -> bool {
    info.id == spawn.worker && info.generation == spawn.generation
}
