use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::WorkerId;
use queen_contract::Priority;
use scheduling_policy::{Opinion, PolicyFailure, RequestFacts, WorkerFacts};
use worker_contract::WorkerInfo;
use worker_registry::{Candidate, ServingState, SpawnId, WorkerRegistry};

use crate::{
    Assignment, Deployment, NodeMap, SpawnTarget, TargetState, WaitReason, WorkerRequirements,
    decisions::{PlaceCandidate, PlaceVerdict, RouteCandidate, Shortlist},
    errors,
    nodes::{self, Choice, Place, place_of},
    policy::{ActivePolicy, Asker, judge, request_facts, worker_facts},
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
        /// Workers that the policy refuses.
        refused: Vec<RouteCandidate>,
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
    pub(crate) policy: &'a mut ActivePolicy,
    /// That of the model: it says where workers may be spawned.
    pub(crate) deployment: Option<&'a Deployment>,
    /// Requests that wait for the model.
    pub(crate) waiting: usize,
    /// Why the policy had no say, if it failed.
    pub(crate) policy_failure: Option<PolicyFailure>,
    pub(crate) now: Duration,
}

/// A request to be placed.
pub(crate) struct Applicant<'a> {
    pub(crate) requirements: &'a WorkerRequirements,
    pub(crate) prompt: &'a PromptPrefixes,
    pub(crate) priority: Priority,
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
        let candidates = if self.policy.routing().is_none() {
            Shortlist::of(
                able(),
                |candidate| rank(candidate, failed, cached(candidate)),
                |candidate| route_candidate(&candidate, failed, cached(&candidate)),
            )
        } else {
            let mut workers: Vec<Candidate<'_>> = able().collect();
            workers.sort_by_key(|worker| rank(worker, failed, cached(worker)));
            let facts = workers.iter().enumerate();
            let facts: Vec<WorkerFacts> = facts
                .map(|(rank, worker)| worker_facts(worker, cached(worker), rank))
                .collect();
            let workers = workers.iter();
            let workers = workers.map(|worker| route_candidate(worker, failed, cached(worker)));
            let workers = workers.collect();
            self.by_policy(request, workers, &facts)
        };
        let best = candidates.best();
        if best.is_some_and(RouteCandidate::is_refused) {
            return Placement::Waits {
                reason: WaitReason::Policy,
                target: None,
                begins: None,
                refused: candidates.iter().cloned().collect(),
            };
        }
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
                refused: Vec::new(),
            },
            ServingState::None => self.spawn(request),
        }
    }

    /// Orders workers, which are in the default order, by the policy.
    fn by_policy(
        &mut self,
        request: &Applicant<'_>,
        workers: Vec<RouteCandidate>,
        facts: &[WorkerFacts],
    ) -> Shortlist<RouteCandidate> {
        let Some(policy) = self.policy.routing().filter(|_| !workers.is_empty()) else {
            return Shortlist::of_sorted(workers);
        };
        let result = policy.route(&self.facts(request), facts);
        let opinions = match self.policy.routed(result, self.now) {
            Ok(opinions) => opinions,
            Err(failure) => {
                self.policy_failure = Some(failure);
                return Shortlist::of_sorted(workers);
            }
        };
        let workers = workers.into_iter().zip(opinions).collect();
        let ranked = scheduling_policy::ranked(workers, |worker: &RouteCandidate| {
            (worker.failed_before, worker.node_failed_before)
        });
        let ranked = ranked.into_iter();
        let ranked = ranked.map(|(worker, opinion)| RouteCandidate { opinion, ..worker });
        Shortlist::of_sorted(ranked.collect())
    }

    /// What the policy sees of a request.
    fn facts(&self, request: &Applicant<'_>) -> RequestFacts {
        let asker = Asker {
            priority: request.priority,
            prompt_bytes: request.prompt.prompt_bytes(),
            failures: request.attempts,
        };
        request_facts(
            request.requirements,
            Some(&asker),
            self.waiting,
            self.nodes,
            self.deployment,
        )
    }

    /// What a request waits for while a worker is being spawned there.
    fn loads_on(&self, target: &SpawnTarget) -> WaitReason {
        match self.nodes.get(&target.node) {
            Some(facts) if facts.is_asleep() => WaitReason::Waking,
            _ => WaitReason::Loading,
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
                reason: self.loads_on(&target),
                target: Some(target),
                begins: None,
                refused: Vec::new(),
            };
        }
        if let Some(worker) = request.stopped_worker {
            return Placement::Failed(Box::new(errors::worker_stopped(worker)), Vec::new());
        }
        let readiness = |target: &SpawnTarget| match self.targets.get(target) {
            Some(state) => state.readiness(self.now),
            None => Readiness::Now,
        };
        let (policy, facts) = (self.policy.placing(), || self.facts(request));
        let Choice {
            target,
            places,
            policy_result,
        } = nodes::choose(
            self.nodes,
            request.requirements,
            self.deployment,
            request.failed_places,
            readiness,
            |place| bytes_held(self.registry, self.nodes, place),
            |possible| {
                judge(
                    policy,
                    facts,
                    possible,
                    |()| None,
                    PlaceVerdict::is_unlikely,
                )
            },
        );
        if let Some(result) = policy_result {
            self.policy_failure = self.policy.placed(result, self.now).err();
        }
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
        let loads = self.loads_on(&target);
        let state = self.targets.entry(target.clone()).or_default();
        let (reason, begins) = match state.readiness(self.now) {
            Readiness::UnderWay => (loads, None),
            Readiness::NeedsRoom => (WaitReason::Memory, None),
            Readiness::Now if is_reserved => (WaitReason::Memory, None),
            Readiness::Now => {
                state.begin(self.now);
                (loads, Some(places))
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
            refused: Vec::new(),
        }
    }
}

fn waits(reason: WaitReason) -> Placement {
    Placement::Waits {
        reason,
        target: None,
        begins: None,
        refused: Vec::new(),
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
        opinion: Opinion::None,
    }
}

/// How a worker compares with others for a request: the lowest rank is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    /// It has just failed the request.
    has_failed: bool,
    /// Its node has the worker that failed the request, and may be out of reach as a whole.
    node_has_failed: bool,
    /// The longest beginning of the prompt that it computed.
    cached: Reverse<u32>,
    busy_permille: u64,
    free_slots: Reverse<u32>,
    name: &'a str,
}

fn rank<'a>(candidate: &Candidate<'a>, failed: Option<&WorkerInfo>, cached: u32) -> Rank<'a> {
    let info = candidate.info;
    Rank {
        has_failed: failed.is_some_and(|f| f.id == info.id && f.generation == info.generation),
        node_has_failed: failed.is_some_and(|f| f.hive_id == info.hive_id),
        cached: Reverse(cached),
        busy_permille: busy_permille(candidate),
        free_slots: Reverse(candidate.free_slots),
        name: info.id.as_str(),
    }
}

/// The share of the worker's slots that are busy, in thousandths.
fn busy_permille(candidate: &Candidate<'_>) -> u64 {
    let slots = u64::from(candidate.info.slots_total.max(1));
    1000 - u64::from(candidate.free_slots) * 1000 / slots
}

fn is_spawn(info: &WorkerInfo, spawn: &SpawnId) -> bool {
    info.id == spawn.worker && info.generation == spawn.generation
}
