//! The part of the user's policy in decisions.

use std::{sync::Arc, time::Duration};

use input_validation::DeviceId;
use scheduling_policy::{
    Opinion, Origin, PlaceFacts, Policy, PolicyFailure, RequestFacts, WorkerFacts,
};
use worker_registry::Candidate;

use crate::{
    Deployment, NodeMap, SchedulerEffect, WorkerRequirements,
    decisions::{PlaceCandidate, PlaceVerdict},
    node_facts::need_bytes,
};

/// A policy whose function failed this often in a row is not run any more.
pub(crate) const FAILURES_IN_A_ROW: u32 = 10;

/// How the policy in use does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyState {
    /// Number of decisions that it failed for.
    pub failures: u64,
    /// It is not run any more: it failed too often in a row.
    pub suspended: bool,
    /// The last failure, and when.
    pub last_failure: Option<(Duration, PolicyFailure)>,
}

/// The policy in use, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActivePolicy {
    policy: Option<Arc<Policy>>,
    state: PolicyState,
    route_failures: u32,
    place_failures: u32,
    /// To be reported: the first failure, and the one that suspended it.
    notices: Vec<SchedulerEffect>,
}

impl ActivePolicy {
    pub(crate) fn new(policy: Option<Arc<Policy>>) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.clone()
    }

    pub(crate) fn is_some(&self) -> bool {
        self.policy.is_some()
    }

    pub(crate) fn state(&self) -> &PolicyState {
        &self.state
    }

    /// The policy, if it decides which worker serves.
    pub(crate) fn routing(&self) -> Option<&Policy> {
        let policy = self.policy.as_deref().filter(|policy| policy.routes());
        policy.filter(|_| !self.state.suspended)
    }

    /// The policy, if it decides where workers start.
    pub(crate) fn placing(&self) -> Option<&Policy> {
        let policy = self.policy.as_deref().filter(|policy| policy.places());
        policy.filter(|_| !self.state.suspended)
    }

    /// Counts the result of `route`. Returns the failure, if it is one.
    pub(crate) fn routed(
        &mut self,
        result: Result<Vec<Opinion>, PolicyFailure>,
        now: Duration,
    ) -> Result<Vec<Opinion>, PolicyFailure> {
        let in_a_row = failures_in_a_row(self.route_failures, &result);
        self.route_failures = in_a_row;
        result.inspect_err(|failure| self.failed(failure, in_a_row, now))
    }

    /// Counts the result of `place`, as [`routed`](Self::routed) does.
    pub(crate) fn placed(
        &mut self,
        result: Result<(), PolicyFailure>,
        now: Duration,
    ) -> Result<(), PolicyFailure> {
        let in_a_row = failures_in_a_row(self.place_failures, &result);
        self.place_failures = in_a_row;
        result.inspect_err(|failure| self.failed(failure, in_a_row, now))
    }

    fn failed(&mut self, failure: &PolicyFailure, in_a_row: u32, now: Duration) {
        self.state.failures += 1;
        self.state.suspended = in_a_row >= FAILURES_IN_A_ROW;
        self.state.last_failure = Some((now, failure.clone()));
        if self.state.failures == 1 || self.state.suspended {
            self.notices.push(SchedulerEffect::PolicyFailed {
                failure: failure.clone(),
                suspended: self.state.suspended,
            });
        }
    }

    /// Reports what has not been reported yet.
    pub(crate) fn report(&mut self, out: &mut Vec<SchedulerEffect>) {
        out.append(&mut self.notices);
    }
}

/// The failures of a function in a row, of which there were `before`, with this result.
fn failures_in_a_row<T>(before: u32, result: &Result<T, PolicyFailure>) -> u32 {
    match result {
        Ok(_) => 0,
        Err(_) => before.saturating_add(1),
    }
}

/// What a policy sees of a request; `None`: of a deployment.
pub(crate) struct Asker {
    pub(crate) priority: queen_contract::Priority,
    pub(crate) prompt_bytes: u64,
    pub(crate) failures: u32,
}

pub(crate) fn request_facts(
    requirements: &WorkerRequirements,
    asker: Option<&Asker>,
    waiting: usize,
    nodes: &NodeMap,
    deployment: Option<&Deployment>,
) -> RequestFacts {
    RequestFacts {
        origin: match asker {
            Some(_) => Origin::Request,
            None => Origin::Deployment,
        },
        model: requirements.model.to_string(),
        model_bytes: need_bytes(nodes, &requirements.model),
        priority: asker.map(|asker| asker.priority.to_string()),
        node: requirements.node.as_ref().map(ToString::to_string),
        backend: requirements.backend.map(|backend| backend.to_string()),
        prompt_bytes: asker.map_or(0, |asker| asker.prompt_bytes),
        failures: asker.map_or(0, |asker| asker.failures),
        waiting: waiting as u64,
        parts: deployment.map_or_else(Vec::new, |deployment| {
            deployment.parts.iter().map(ToString::to_string).collect()
        }),
    }
}

pub(crate) fn worker_facts(candidate: &Candidate<'_>, cached: u32, rank: usize) -> WorkerFacts {
    let info = candidate.info;
    WorkerFacts {
        name: info.id.to_string(),
        node: info.hive_id.to_string(),
        device: info.device.to_string(),
        gpu: matches!(info.device, DeviceId::Gpu(_)),
        slots: info.slots_total,
        free_slots: candidate.free_slots,
        running: info.slots_total.saturating_sub(candidate.free_slots),
        prefix: cached,
        context_length: info.context_length,
        rank: rank as u64,
    }
}

fn place_facts(place: &PlaceCandidate, device: Option<DeviceId>, rank: usize) -> PlaceFacts {
    let mut facts = PlaceFacts {
        node: place.node.to_string(),
        backend: place.backend.to_string(),
        device: device.map(|device| device.to_string()),
        has_files: false,
        free_bytes: 0,
        connecting: false,
        asleep: false,
        paused: false,
        broken: false,
        needs_room: false,
        rank: rank as u64,
    };
    if let PlaceVerdict::Possible {
        has_files,
        free_bytes,
        starting,
        asleep,
        paused,
        broken,
        needs_room,
        ..
    } = place.verdict
    {
        facts.has_files = has_files;
        facts.free_bytes = free_bytes;
        facts.connecting = starting;
        facts.asleep = asleep;
        facts.paused = paused;
        facts.broken = broken;
        facts.needs_room = needs_room;
    }
    facts
}

/// Places by the policy.
pub(crate) struct Judged<T> {
    /// The best first.
    pub(crate) possible: Vec<(PlaceCandidate, T)>,
    pub(crate) refused: Vec<PlaceCandidate>,
    /// Whether the policy failed, if it was asked; the order is the default one then.
    pub(crate) result: Option<Result<(), PolicyFailure>>,
}

/// Orders places, which are in the default order, by the policy. `device` is the device of a place,
/// if the decision is about devices. What is `unlikely` comes last in both orders.
pub(crate) fn judge<T>(
    policy: Option<&Policy>,
    request: impl FnOnce() -> RequestFacts,
    possible: Vec<(PlaceCandidate, T)>,
    device: impl Fn(&T) -> Option<DeviceId>,
    unlikely: impl Fn(&PlaceVerdict) -> bool,
) -> Judged<T> {
    let default = |possible, result| Judged {
        possible,
        refused: Vec::new(),
        result,
    };
    let Some(policy) = policy.filter(|_| !possible.is_empty()) else {
        return default(possible, None);
    };
    let facts = possible.iter().enumerate();
    let facts: Vec<PlaceFacts> = facts
        .map(|(rank, (place, more))| place_facts(place, device(more), rank))
        .collect();
    let opinions = match policy.place(&request(), &facts) {
        Ok(opinions) => opinions,
        Err(failure) => return default(possible, Some(Err(failure))),
    };
    let candidates = possible.into_iter().zip(opinions).collect();
    let ranked = scheduling_policy::ranked(candidates, |(place, _)| unlikely(&place.verdict));
    let mut judged = default(Vec::new(), Some(Ok(())));
    for ((mut place, more), opinion) in ranked {
        if let Opinion::Refused(reason) = opinion {
            place.verdict = PlaceVerdict::RefusedByPolicy(reason);
            judged.refused.push(place);
            continue;
        }
        if let PlaceVerdict::Possible { opinion: own, .. } = &mut place.verdict {
            *own = opinion;
        }
        judged.possible.push((place, more));
    }
    judged
}
