//! Assigns waiting requests to workers.

use std::{collections::BTreeSet, time::Duration};

use input_validation::ModelRef;
use queen_contract::Priority;
use request_queue::Offer;

use crate::{
    Scheduler, SchedulerEffect, SpawnTarget, WaitReason, WorkerRequirements,
    decisions::{Event, RouteCandidate},
    nodes::Place,
    placement::{Placement, Placer},
    request::Request,
};

/// A request that found no worker.
struct Blocked {
    requirements: WorkerRequirements,
    failed_places: BTreeSet<Place>,
    priority: Priority,
    prompt_bytes: u64,
    attempts: u32,
    reason: WaitReason,
    target: Option<SpawnTarget>,
    refused: Vec<RouteCandidate>,
}

impl Blocked {
    /// Whether the request finds no worker either. Only a policy distinguishes requests by more
    /// than what they require.
    fn includes(&self, request: &Request, has_policy: bool) -> bool {
        self.requirements == request.requirements
            && self.failed_places == request.failed_places
            && (!has_policy
                || self.priority == request.priority
                    && self.prompt_bytes == request.prompt.prompt_bytes()
                    && self.attempts == request.attempts)
    }
}

impl Scheduler {
    pub(crate) fn serve_all(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        let models: Vec<ModelRef> = self.queue.models().cloned().collect();
        for model in models {
            self.serve(&model, now, out);
        }
    }

    /// Assigns waiting requests of the model to workers and spawns a worker where none is.
    pub(crate) fn serve(
        &mut self,
        model: &ModelRef,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let waiting = self.queue.waiting(model);
        if waiting == 0 {
            return;
        }
        let mut failed = Vec::new();
        let mut reports = Vec::new();
        // Requests like one that found no worker find none either.
        let mut blocked: Option<Blocked> = None;
        let Self {
            queue,
            requests,
            registry,
            targets,
            nodes,
            decisions,
            residency,
            deployments,
            prefixes,
            policy,
            ..
        } = self;
        let deployment = deployments.wanted.get(model);
        queue.offer(model, |id| {
            let Some(request) = requests.get_mut(id) else {
                return Offer::Take;
            };
            if let Some(blocked) = &blocked
                && blocked.includes(request, policy.is_some())
            {
                request.target.clone_from(&blocked.target);
                if request.must_report(blocked.reason, now) {
                    let refused = blocked.refused.clone();
                    let event = request.waits(id, blocked.reason, refused, registry, now);
                    decisions.add(event, now);
                    reports.push(id.clone());
                }
                return Offer::Keep;
            }
            let mut placer = Placer {
                registry,
                targets,
                nodes,
                residency,
                prefixes,
                policy,
                deployment,
                waiting,
                policy_failure: None,
                now,
            };
            let placement = placer.place(&request.applicant());
            let policy_failed = placer.policy_failure.map(|failure| Event::PolicyFailed {
                request: Some(id.clone()),
                model: model.clone(),
                failure,
            });
            match placement {
                Placement::Assigned(assignment, candidates) => {
                    decisions.extend(policy_failed, now);
                    let event = Event::Routed {
                        request: id.clone(),
                        model: model.clone(),
                        attempt: assignment.attempt,
                        candidates,
                    };
                    decisions.add(event, now);
                    request.assigned(&assignment, now);
                    registry.reserve(&assignment.spawn_id());
                    residency.used(&assignment.worker.id, now);
                    if !request.prompt.is_empty() {
                        prefixes.computed(model, &request.prompt, &assignment.spawn_id());
                    }
                    out.push(SchedulerEffect::Assign(id.clone(), assignment));
                    Offer::Take
                }
                Placement::Waits {
                    reason,
                    target,
                    begins,
                    refused,
                } => {
                    request.target.clone_from(&target);
                    if let (Some(places), Some(target)) = (begins, &target) {
                        decisions.extend(policy_failed, now);
                        let event = Event::Spawns {
                            request: id.clone(),
                            target: target.clone(),
                            places,
                        };
                        decisions.add(event, now);
                        out.push(SchedulerEffect::Spawn(target.clone()));
                    }
                    if request.must_report(reason, now) {
                        let event = request.waits(id, reason, refused.clone(), registry, now);
                        decisions.add(event, now);
                        reports.push(id.clone());
                    }
                    blocked.get_or_insert_with(|| Blocked {
                        requirements: request.requirements.clone(),
                        failed_places: request.failed_places.clone(),
                        priority: request.priority,
                        prompt_bytes: request.prompt.prompt_bytes(),
                        attempts: request.attempts,
                        reason,
                        target,
                        refused,
                    });
                    Offer::Keep
                }
                Placement::Failed(error, places) => {
                    decisions.extend(policy_failed, now);
                    failed.push((id.clone(), *error, places));
                    Offer::Take
                }
            }
        });
        self.policy.report(out);
        self.report(model, &reports, now, out);
        for (id, error, places) in failed {
            let error = self.no_worker_error(&id, &error);
            let event = Event::Refused {
                request: id.clone(),
                model: model.clone(),
                error: error.clone(),
                places,
            };
            self.decisions.add(event, now);
            self.fail(&id, error, out);
        }
    }
}
