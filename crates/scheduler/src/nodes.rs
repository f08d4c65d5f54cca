//! On which node a worker is spawned: where the files of the model are, else where most memory is
//! free. A node that is down is never chosen, and a backend is never replaced by another.

use std::{cmp::Reverse, collections::BTreeSet};

use diagnostics::Diagnostic;
use input_validation::{Backend, NodeName};

use crate::{
    NodeFacts, NodeMap, NodeState, SpawnTarget, WorkerRequirements, errors, target::Readiness,
};

/// The backend of workers that are spawned for these requirements.
pub(crate) fn spawn_backend(requirements: &WorkerRequirements) -> Backend {
    requirements.backend.unwrap_or(Backend::Cpu)
}

/// Returns where a worker is spawned for these requirements. Nodes in `failed` are not chosen.
/// `readiness` says whether a spawn may begin at a target.
pub(crate) fn choose(
    nodes: &NodeMap,
    requirements: &WorkerRequirements,
    failed: &BTreeSet<NodeName>,
    readiness: impl Fn(&SpawnTarget) -> Readiness,
) -> Result<SpawnTarget, Diagnostic> {
    let backend = spawn_backend(requirements);
    let target = |node: &NodeName| SpawnTarget {
        model: requirements.model.clone(),
        node: node.clone(),
        backend,
    };
    if let Some(name) = &requirements.node {
        return match nodes.get(name) {
            Some(facts) => {
                check(name, facts, backend)?;
                Ok(target(name))
            }
            // It was added a moment ago, or the spawn reports that it does not exist.
            None => Ok(target(name)),
        };
    }
    let usable = nodes.iter().filter(|(name, facts)| {
        !failed.contains(*name)
            && !matches!(facts.state, NodeState::Down(_))
            && facts.may_have(backend)
    });
    let best = usable.min_by_key(|(name, facts)| {
        let readiness = readiness(&target(name));
        (
            matches!(readiness, Readiness::Broken(_)),
            facts.state != NodeState::Up,
            !facts.models.contains(&requirements.model),
            matches!(readiness, Readiness::After(_)),
            Reverse(facts.free_bytes(backend)),
            *name,
        )
    });
    match best {
        Some((name, _)) => Ok(target(name)),
        None => Err(no_node(nodes, backend)),
    }
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
