//! On which node and device a worker is spawned: where the files of the model are, on a GPU rather
//! than on a CPU, and where most memory is free. A node that is down is never chosen, and a backend
//! that was required is never replaced by another.

use std::{cmp::Reverse, collections::BTreeSet};

use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef, NodeName};

use crate::{
    NodeFacts, NodeMap, NodeState, SpawnTarget, WorkerRequirements, errors, target::Readiness,
};

/// A node and the backend of a device of it.
pub(crate) type Place = (NodeName, Backend);

pub(crate) fn place_of(target: &SpawnTarget) -> Place {
    (target.node.clone(), target.backend)
}

/// Returns where a worker is spawned for these requirements. Places in `failed` are not chosen.
/// `readiness` says whether a spawn may begin at a target.
pub(crate) fn choose(
    nodes: &NodeMap,
    requirements: &WorkerRequirements,
    failed: &BTreeSet<Place>,
    readiness: impl Fn(&SpawnTarget) -> Readiness,
) -> Result<SpawnTarget, Diagnostic> {
    let target = |node: &NodeName, backend| SpawnTarget {
        model: requirements.model.clone(),
        node: node.clone(),
        backend,
    };
    let required = requirements.backend.unwrap_or(Backend::Cpu);
    if let Some(name) = &requirements.node {
        match nodes.get(name) {
            Some(facts) => check(name, facts, required)?,
            // It was added a moment ago, or the spawn reports that it does not exist.
            None => return Ok(target(name, required)),
        }
    }
    let need_bytes = need_bytes(nodes, &requirements.model);
    let is_named = |name: &NodeName| requirements.node.as_ref().is_none_or(|node| node == name);
    let usable = nodes
        .iter()
        .filter(|(name, facts)| is_named(name) && !matches!(facts.state, NodeState::Down(_)));
    let places = usable.flat_map(|(name, facts)| {
        let backends = match requirements.backend {
            Some(backend) if facts.may_have(backend) => BTreeSet::from([backend]),
            Some(_) => BTreeSet::new(),
            None => facts.usable_backends(need_bytes),
        };
        backends
            .into_iter()
            .map(move |backend| (name, facts, backend))
    });
    let places = places.filter(|(name, _, backend)| !failed.contains(&((*name).clone(), *backend)));
    let best = places.min_by_key(|(name, facts, backend)| {
        let readiness = readiness(&target(name, *backend));
        (
            matches!(readiness, Readiness::Broken(_)),
            facts.state != NodeState::Up,
            !facts.models.contains_key(&requirements.model),
            matches!(readiness, Readiness::After(_)),
            *backend == Backend::Cpu,
            Reverse(facts.free_bytes(*backend)),
            *name,
        )
    });
    match best {
        Some((name, _, backend)) => Ok(target(name, backend)),
        None => Err(no_node(nodes, required)),
    }
}

/// The memory that a worker for the model needs at least: little more than its files. 0 if unknown.
fn need_bytes(nodes: &NodeMap, model: &ModelRef) -> u64 {
    let known = nodes.values().filter_map(|facts| facts.models.get(model));
    known.max().copied().unwrap_or(0)
}

/// Fails if no worker of the backend can be spawned on the node.
fn check(name: &NodeName, facts: &NodeFacts, backend: Backend) -> Result<(), Diagnostic> {
    match &facts.state {
        NodeState::Down(error) => Err(error.clone()),
        _ if facts.may_have(backend) => Ok(()),
        _ => Err(errors::no_such_device(name, facts, backend)),
    }
}

/// Why no node can run a worker of the backend.
fn no_node(nodes: &NodeMap, backend: Backend) -> Diagnostic {
    let down = nodes.values().find_map(|facts| match &facts.state {
        NodeState::Down(error) if facts.may_have(backend) => Some(error.clone()),
        _ => None,
    });
    down.unwrap_or_else(|| {
        let mut refused = nodes.iter();
        match (refused.next(), refused.next()) {
            (None, _) => errors::no_node(),
            (Some((name, facts)), None) => errors::no_such_device(name, facts, backend),
            _ => errors::no_device_anywhere(nodes, backend),
        }
    })
}
