//! On which node and device a worker is spawned: where the files of the model are, on a GPU rather
//! than on a CPU, and where most memory is free. A node that is down is never chosen, one that is
//! asleep only if no other is possible or no other has the files, and a backend that was required is
//! never replaced by another.

use std::{cmp::Reverse, collections::BTreeSet};

use diagnostics::Diagnostic;
use input_validation::{Backend, NodeName};
use scheduling_policy::{Opinion, PolicyFailure};

use crate::{
    Deployment, NodeFacts, NodeMap, NodeState, SpawnTarget, WorkerRequirements,
    decisions::{PlaceCandidate, PlaceVerdict},
    errors,
    node_facts::{need_bytes, only_sleeping_have},
    policy::Judged,
    target::Readiness,
};

/// Number of places that are remembered of a decision.
const PLACES_KEPT: usize = 32;

/// A node and the backend of a device of it.
pub(crate) type Place = (NodeName, Backend);

pub(crate) fn place_of(target: &SpawnTarget) -> Place {
    (target.node.clone(), target.backend)
}

/// Why a deployment wants no worker on a node, if it does not.
pub(crate) fn not_wanted(deployment: &Deployment, node: &NodeName) -> Option<PlaceVerdict> {
    if deployment.allows_node(node) {
        None
    } else if deployment.parts.contains(node) {
        Some(PlaceVerdict::HasPart)
    } else {
        Some(PlaceVerdict::NotOfDeployment)
    }
}

/// Where a worker is spawned, and what was considered.
pub(crate) struct Choice {
    pub(crate) target: Result<SpawnTarget, Diagnostic>,
    /// The best first, then those that are not possible.
    pub(crate) places: Vec<PlaceCandidate>,
    /// Whether the policy failed, if it was asked.
    pub(crate) policy_result: Option<Result<(), PolicyFailure>>,
}

/// Chooses where a worker is spawned for these requirements. Places in `failed` are not chosen.
/// `readiness` says whether a spawn may begin at a target, and `held_bytes` how much memory the
/// workers at a place have. `judge` orders the possible places by the policy.
pub(crate) fn choose(
    nodes: &NodeMap,
    requirements: &WorkerRequirements,
    deployment: Option<&Deployment>,
    failed: &BTreeSet<Place>,
    readiness: impl Fn(&SpawnTarget) -> Readiness,
    held_bytes: impl Fn(&Place) -> u64,
    judge: impl FnOnce(Vec<(PlaceCandidate, ())>) -> Judged<()>,
) -> Choice {
    let target = |node: &NodeName, backend| SpawnTarget {
        model: requirements.model.clone(),
        node: node.clone(),
        backend,
        device: None,
    };
    let backend = requirements
        .backend
        .or_else(|| deployment.and_then(|deployment| deployment.backend));
    let required = backend.unwrap_or(Backend::Cpu);
    let refusal_of = |name: &NodeName| match (&requirements.node, deployment) {
        (Some(node), _) => (node != name).then_some(PlaceVerdict::NotNamed),
        (None, Some(deployment)) => not_wanted(deployment, name),
        (None, None) => None,
    };
    let decided = |target| Choice {
        target,
        places: Vec::new(),
        policy_result: None,
    };
    if let Some(name) = &requirements.node {
        match nodes.get(name) {
            Some(facts) => {
                if let Err(error) = check(name, facts, required) {
                    return decided(Err(error));
                }
            }
            // It was added a moment ago, or the spawn reports that it does not exist.
            None => return decided(Ok(target(name, required))),
        }
    }
    if let (None, Some(deployment)) = (&requirements.node, deployment)
        && let removed = deployment.removed_nodes(nodes)
        && !removed.is_empty()
    {
        let error = errors::nodes_of_deployment_removed(&requirements.model, &removed);
        return decided(Err(error));
    }
    let need_bytes = need_bytes(nodes, &requirements.model);
    let only_sleeping_have = only_sleeping_have(nodes, &requirements.model);
    let (mut possible, mut refused) = (Vec::new(), Vec::new());
    for (name, facts) in nodes {
        let refuse = |verdict| PlaceCandidate {
            node: name.clone(),
            backend: required,
            verdict,
        };
        if let Some(verdict) = refusal_of(name) {
            refused.push(refuse(verdict));
            continue;
        }
        match &facts.state {
            NodeState::Down(error) => {
                refused.push(refuse(PlaceVerdict::Down(error.message.clone())));
                continue;
            }
            NodeState::Asleep(sleeping) if !sleeping.for_requests => {
                let message = sleeping.reason.message.clone();
                refused.push(refuse(PlaceVerdict::Asleep(message)));
                continue;
            }
            NodeState::Up | NodeState::Starting | NodeState::Asleep(_) => {}
        }
        let backends = match backend {
            Some(backend) if facts.may_use(backend) => BTreeSet::from([backend]),
            Some(_) => BTreeSet::new(),
            None => {
                facts.usable_backends(need_bytes, |backend| held_bytes(&(name.clone(), backend)))
            }
        };
        let left: Vec<PlaceCandidate> = left_places(name, facts, backend).collect();
        if backends.is_empty() && left.is_empty() {
            refused.push(refuse(PlaceVerdict::NoDevice));
        }
        refused.extend(left);
        for backend in backends {
            let place = |verdict| PlaceCandidate {
                node: name.clone(),
                backend,
                verdict,
            };
            if failed.contains(&(name.clone(), backend)) {
                refused.push(place(PlaceVerdict::FailedBefore));
                continue;
            }
            let readiness = readiness(&target(name, backend));
            let has_files = facts.models.contains_key(&requirements.model);
            let free_bytes = facts.free_bytes(backend);
            let is_broken = matches!(readiness, Readiness::Broken(_));
            let is_paused = matches!(readiness, Readiness::After(_));
            let needs_room = readiness == Readiness::NeedsRoom;
            let rank = (
                is_broken,
                only_sleeping_have && !has_files,
                facts.is_asleep(),
                facts.state == NodeState::Starting,
                !has_files,
                is_paused,
                backend == Backend::Cpu,
                needs_room,
                Reverse(free_bytes),
            );
            let verdict = PlaceVerdict::Possible {
                has_files,
                free_bytes,
                starting: facts.state == NodeState::Starting,
                asleep: facts.is_asleep(),
                paused: is_paused,
                broken: is_broken,
                needs_room,
                opinion: Opinion::None,
            };
            possible.push((rank, place(verdict)));
        }
    }
    // Equal ones stay in the order of their names.
    possible.sort_by_key(|(rank, _)| *rank);
    let possible = possible.into_iter().map(|(_, place)| (place, ()));
    let judged = judge(possible.collect());
    let best = judged
        .possible
        .first()
        .map(|(place, ())| target(&place.node, place.backend));
    let target = best.ok_or_else(|| match judged.refused.as_slice() {
        [] => no_node(nodes, required),
        places => errors::refused_by_policy(&requirements.model, places),
    });
    let possible = judged.possible.into_iter().map(|(place, ())| place);
    let places = possible.chain(judged.refused).chain(refused);
    Choice {
        target,
        places: places.take(PLACES_KEPT).collect(),
        policy_result: judged.result,
    }
}

/// Fails if no worker of the backend can be spawned on the node.
fn check(name: &NodeName, facts: &NodeFacts, backend: Backend) -> Result<(), Diagnostic> {
    match &facts.state {
        NodeState::Down(error) => Err(error.clone()),
        NodeState::Asleep(sleeping) if !sleeping.for_requests => Err(sleeping.reason.clone()),
        _ if facts.may_use(backend) => Ok(()),
        _ => Err(no_device(name, facts, backend)),
    }
}

/// The devices of a node that are left to other programs, one for each backend.
fn left_places(
    name: &NodeName,
    facts: &NodeFacts,
    backend: Option<Backend>,
) -> impl Iterator<Item = PlaceCandidate> {
    let left = facts.left(backend);
    left.map(|(device, reason)| PlaceCandidate {
        node: name.clone(),
        backend: device.backend,
        verdict: PlaceVerdict::LeftToOthers(reason.to_owned()),
    })
}

/// Why the node cannot run a worker of the backend.
fn no_device(name: &NodeName, facts: &NodeFacts, backend: Backend) -> Diagnostic {
    match facts.left(Some(backend)).next() {
        Some((_, reason)) => errors::device_is_yielded(name, reason),
        None => errors::no_such_device(name, facts, backend),
    }
}

/// Why no node can run a worker of the backend.
fn no_node(nodes: &NodeMap, backend: Backend) -> Diagnostic {
    let down = nodes.values().find_map(|facts| match &facts.state {
        NodeState::Down(error) if facts.may_have(backend) => Some(error.clone()),
        NodeState::Asleep(sleeping) if facts.may_have(backend) => Some(sleeping.reason.clone()),
        _ => None,
    });
    let left = nodes.iter().find_map(|(name, facts)| {
        let (_, reason) = facts.left(Some(backend)).next()?;
        Some(errors::device_is_yielded(name, reason))
    });
    left.or(down).unwrap_or_else(|| {
        let mut refused = nodes.iter();
        match (refused.next(), refused.next()) {
            (None, _) => errors::no_node(),
            (Some((name, facts)), None) => errors::no_such_device(name, facts, backend),
            _ => errors::no_device_anywhere(nodes, backend),
        }
    })
}
