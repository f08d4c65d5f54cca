use std::{collections::BTreeSet, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, RequestId, WorkerId};
use queen_contract::Priority;
use request_queue::{ClientKey, Deadline, QueuedRequest, Ticket};
use worker_contract::WorkerInfo;
use worker_registry::{SpawnId, WorkerRegistry};

use crate::{
    Assignment, PromptPrefixes, SpawnTarget, WaitReason, WorkerRequirements,
    decisions::{Event, RouteCandidate, UnusableWorker},
    errors,
    nodes::{Place, place_of},
    placement::Applicant,
};

/// Number of workers that are remembered of a request that waits.
const WORKERS_KEPT: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) spawn: SpawnId,
    pub(crate) since: Duration,
    /// [`SchedulerEffect::Stop`] was returned.
    pub(crate) stopping: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) requirements: WorkerRequirements,
    pub(crate) priority: Priority,
    pub(crate) client: ClientKey,
    pub(crate) arrived: Duration,
    pub(crate) deadline: Deadline,
    pub(crate) prompt: PromptPrefixes,
    pub(crate) ticket: Ticket,
    /// `None` while the request waits.
    pub(crate) running: Option<Running>,
    /// Number of workers that the request was assigned to, without refusals.
    pub(crate) attempts: u32,
    /// Number of workers that the request was assigned to, including refusals.
    pub(crate) assignments: u32,
    /// The worker that failed it last.
    pub(crate) avoid: Option<SpawnId>,
    /// Why that worker failed it; reported if no other worker is available.
    pub(crate) last_failure: Option<Diagnostic>,
    /// A worker that was stopped on request while it ran this request or this one waited for
    /// it: no worker is spawned for it until another one has been assigned.
    pub(crate) stopped_worker: Option<WorkerId>,
    /// Where a worker is being spawned for it, or will be.
    pub(crate) target: Option<SpawnTarget>,
    /// Where no worker could be spawned for it.
    pub(crate) failed_places: BTreeSet<Place>,
    /// Why not, on the first of them.
    pub(crate) spawn_failure: Option<Diagnostic>,
    /// What its client was sent last about its wait.
    pub(crate) reported: Option<Reported>,
    /// Since when it waits for memory that other models use, on and off.
    pub(crate) lacks_memory_since: Option<Duration>,
}

/// What the client of a waiting request was sent last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported {
    pub(crate) reason: WaitReason,
    pub(crate) position: usize,
    pub(crate) at: Duration,
}

impl Request {
    pub(crate) fn new(
        requirements: WorkerRequirements,
        queued: &QueuedRequest,
        prompt: PromptPrefixes,
        ticket: Ticket,
    ) -> Self {
        Self {
            requirements,
            priority: queued.priority,
            client: queued.client,
            arrived: queued.arrived,
            deadline: queued.deadline,
            prompt,
            ticket,
            running: None,
            attempts: 0,
            assignments: 0,
            avoid: None,
            last_failure: None,
            stopped_worker: None,
            target: None,
            failed_places: BTreeSet::new(),
            spawn_failure: None,
            reported: None,
            lacks_memory_since: None,
        }
    }

    /// The request as the queue sees it.
    pub(crate) fn queued(&self, id: &RequestId) -> QueuedRequest {
        QueuedRequest {
            id: id.clone(),
            model: self.requirements.model.clone(),
            priority: self.priority,
            client: self.client,
            arrived: self.arrived,
            deadline: self.deadline,
        }
    }

    pub(crate) fn applicant(&self) -> Applicant<'_> {
        Applicant {
            requirements: &self.requirements,
            prompt: &self.prompt,
            priority: self.priority,
            avoid: self.avoid.as_ref(),
            attempts: self.attempts,
            assignments: self.assignments,
            stopped_worker: self.stopped_worker.as_ref(),
            failed_places: &self.failed_places,
            spawn_failure: self.spawn_failure.as_ref(),
        }
    }

    pub(crate) fn assigned(&mut self, assignment: &Assignment, now: Duration) {
        self.attempts = assignment.attempt;
        self.assignments = assignment.number;
        self.reported = None;
        self.lacks_memory_since = None;
        self.stopped_worker = None;
        self.target = None;
        self.failed_places.clear();
        self.spawn_failure = None;
        self.running = Some(Running {
            spawn: assignment.spawn_id(),
            since: now,
            stopping: false,
        });
    }

    /// Whether a worker that is spawned at the target could serve it.
    pub(crate) fn may_use(&self, target: &SpawnTarget) -> bool {
        let WorkerRequirements { node, backend, .. } = &self.requirements;
        node.as_ref().is_none_or(|node| *node == target.node)
            && backend.is_none_or(|backend| backend == target.backend)
            && !self.failed_places.contains(&place_of(target))
    }

    /// Whether another place may be tried when no worker could be spawned for it at `target`.
    pub(crate) fn may_go_elsewhere(&self, target: &SpawnTarget) -> bool {
        let WorkerRequirements { node, backend, .. } = &self.requirements;
        // A GPU that nobody required is replaced by the CPU.
        node.is_none() || (backend.is_none() && target.backend != Backend::Cpu)
    }

    /// Records that no worker could be spawned for it at `target`: another place is tried.
    pub(crate) fn spawn_failed(&mut self, target: &SpawnTarget, error: &Diagnostic) {
        self.target = None;
        self.failed_places.insert(place_of(target));
        let nodes: BTreeSet<_> = self.failed_places.iter().map(|(node, _)| node).collect();
        self.spawn_failure = Some(match &self.spawn_failure {
            None => error.clone(),
            Some(first) => errors::on_no_node(first, error, nodes.len()),
        });
    }

    /// The decision that it waits, with the workers that might have run it.
    pub(crate) fn waits(
        &self,
        id: &RequestId,
        reason: WaitReason,
        refused: Vec<RouteCandidate>,
        registry: &WorkerRegistry,
        now: Duration,
    ) -> Event {
        let filter = self.requirements.filter();
        let is_refused = |info: &WorkerInfo| refused.iter().any(|worker| worker.worker == info.id);
        let workers = registry.matching(&filter, now);
        let workers = workers
            .filter(|(info, _)| !is_refused(info))
            .take(WORKERS_KEPT);
        let workers = workers.map(|(info, availability)| UnusableWorker {
            worker: info.id.clone(),
            status: info.status,
            availability,
        });
        Event::Waits {
            request: id.clone(),
            model: self.requirements.model.clone(),
            reason,
            target: self.target.clone(),
            workers: workers.collect(),
            refused,
        }
    }

    /// Records why the request waits. Returns whether to report it to the client: the reason is of
    /// another kind than the last one.
    pub(crate) fn must_report(&mut self, reason: WaitReason, now: Duration) -> bool {
        if reason == WaitReason::Memory {
            self.lacks_memory_since.get_or_insert(now);
        }
        let is_new = self.reported.is_none_or(|reported| {
            std::mem::discriminant(&reported.reason) != std::mem::discriminant(&reason)
        });
        match &mut self.reported {
            Some(reported) if !is_new => reported.reason = reason,
            reported => {
                *reported = Some(Reported {
                    reason,
                    position: 0,
                    at: now,
                });
            }
        }
        is_new
    }
}
