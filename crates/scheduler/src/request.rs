use std::{collections::BTreeSet, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, WorkerId};
use request_queue::{Deadline, Ticket};
use worker_registry::SpawnId;

use crate::{
    Assignment, SpawnTarget, WaitReason, WorkerRequirements, errors,
    nodes::{Place, place_of},
    placement::Applicant,
};

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
    pub(crate) deadline: Deadline,
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
    /// The reason for waiting that its client was sent last.
    pub(crate) reported: Option<WaitReason>,
}

impl Request {
    pub(crate) fn new(
        requirements: WorkerRequirements,
        deadline: Deadline,
        ticket: Ticket,
    ) -> Self {
        Self {
            requirements,
            deadline,
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
        }
    }

    pub(crate) fn applicant(&self) -> Applicant<'_> {
        Applicant {
            requirements: &self.requirements,
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

    /// Records why the request waits. Returns whether to report it to the client: the reason is of
    /// another kind than the last one.
    pub(crate) fn must_report(&mut self, reason: WaitReason) -> bool {
        let is_new = self.reported.is_none_or(|reported| {
            std::mem::discriminant(&reported) != std::mem::discriminant(&reason)
        });
        if is_new {
            self.reported = Some(reason);
        }
        is_new
    }
}
