//! On which device the next worker of a deployment is started, and why on none.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{Backend, DeviceId, ModelRef, NodeName};
use scheduling_policy::{Opinion, PolicyFailure};

use crate::{
    Deployment, DeviceFacts, NodeFacts, NodeState, Scheduler, SpawnTarget, WorkerRequirements,
    decisions::{PlaceCandidate, PlaceVerdict},
    errors,
    node_facts::{need_bytes, only_sleeping_have},
    nodes::{not_wanted, place_of},
    policy::{judge, request_facts},
    residency::bytes_held,
    target::Readiness,
};

/// Number of models that deployments load on a node at a time.
const STARTS_PER_NODE: usize = 4;
/// A spawn that was refused for its input is tried again after this time.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// Where the next worker of a deployment is started, and what was considered.
pub(crate) struct DeviceChoice {
    pub(crate) target: Option<SpawnTarget>,
    /// The best first, then those that are not possible.
    pub(crate) places: Vec<PlaceCandidate>,
    /// Whether the policy failed, if it was asked.
    pub(crate) policy_result: Option<Result<(), PolicyFailure>>,
}

impl Scheduler {
    /// The best device without a worker of the model, what was considered, and whether the policy
    /// failed, if it was asked.
    pub(crate) fn free_device(
        &self,
        model: &ModelRef,
        deployment: &Deployment,
        seats: &BTreeSet<(NodeName, DeviceId)>,
        now: Duration,
    ) -> DeviceChoice {
        let need_bytes = need_bytes(&self.nodes, model);
        let only_sleeping_have = only_sleeping_have(&self.nodes, model);
        let (mut possible, mut refused) = (Vec::new(), Vec::new());
        for (name, facts) in &self.nodes {
            let mut refuse = |backend, verdict| {
                refused.push(PlaceCandidate {
                    node: name.clone(),
                    backend,
                    verdict,
                });
            };
            let backend = deployment.backend.unwrap_or(Backend::Cpu);
            if let Some(verdict) = not_wanted(deployment, name) {
                refuse(backend, verdict);
                continue;
            }
            match &facts.state {
                NodeState::Up => {}
                NodeState::Asleep(sleeping) if sleeping.for_deployments => {}
                NodeState::Asleep(sleeping) => {
                    let message = sleeping.reason.message.clone();
                    refuse(backend, PlaceVerdict::Asleep(message));
                    continue;
                }
                NodeState::Starting => {
                    refuse(backend, PlaceVerdict::Connecting);
                    continue;
                }
                NodeState::Down(error) => {
                    refuse(backend, PlaceVerdict::Down(error.message.clone()));
                    continue;
                }
            }
            let starting = self.targets.iter().filter(|(target, state)| {
                target.node == *name && state.is_starting() && target.model != *model
            });
            if starting.count() >= STARTS_PER_NODE {
                refuse(backend, PlaceVerdict::Starting);
                continue;
            }
            let devices = usable_devices(facts, deployment.backend);
            if devices.is_empty() {
                refuse(backend, PlaceVerdict::NoDevice);
            }
            for device in devices {
                if let Some(reason) = facts.yielded.get(&device.id) {
                    refuse(device.backend, PlaceVerdict::LeftToOthers(reason.clone()));
                    continue;
                }
                if seats.contains(&(name.clone(), device.id)) {
                    refuse(device.backend, PlaceVerdict::Occupied);
                    continue;
                }
                let target = target_on(model, name, facts, &device);
                let held = bytes_held(&self.registry, &self.nodes, &place_of(&target));
                let is_gpu = device.backend != Backend::Cpu;
                if is_gpu
                    && deployment.backend.is_none()
                    && device.free_bytes.saturating_add(held) < need_bytes
                {
                    refuse(device.backend, PlaceVerdict::TooSmall);
                    continue;
                }
                if let Some((at, error)) = self.deployments.refused.get(&target)
                    && now.saturating_sub(*at) < REFUSED_AGAIN
                {
                    refuse(
                        device.backend,
                        PlaceVerdict::RefusedBefore(error.message.clone()),
                    );
                    continue;
                }
                let readiness = self.readiness(&target, now);
                let has_files = facts.models.contains_key(model);
                let verdict = PlaceVerdict::Possible {
                    has_files,
                    free_bytes: device.free_bytes,
                    starting: false,
                    asleep: facts.is_asleep(),
                    paused: matches!(readiness, Readiness::After(_)),
                    broken: matches!(readiness, Readiness::Broken(_)),
                    needs_room: readiness == Readiness::NeedsRoom,
                    opinion: Opinion::None,
                };
                let rank = (
                    matches!(readiness, Readiness::After(_) | Readiness::Broken(_)),
                    only_sleeping_have && !has_files,
                    facts.is_asleep(),
                    !has_files,
                    !is_gpu,
                    readiness == Readiness::NeedsRoom,
                    Reverse(device.free_bytes),
                );
                let place = PlaceCandidate {
                    node: name.clone(),
                    backend: device.backend,
                    verdict,
                };
                possible.push((rank, place, (target, device.id)));
            }
        }
        possible.sort_by_key(|(rank, ..)| *rank);
        let possible = possible.into_iter();
        let possible = possible.map(|(_, place, on)| (place, on)).collect();
        let requirements = WorkerRequirements {
            backend: deployment.backend,
            ..WorkerRequirements::model(model.clone())
        };
        let waiting = self.queue.waiting(model);
        let facts = || request_facts(&requirements, None, waiting, &self.nodes, Some(deployment));
        let policy = self.policy.placing();
        let judged = judge(
            policy,
            facts,
            possible,
            |(_, id)| Some(*id),
            PlaceVerdict::is_doubtful,
        );
        let best = judged.possible.first();
        let target = best.map(|(_, (target, _))| target.clone());
        let possible = judged.possible.into_iter().map(|(place, _)| place);
        DeviceChoice {
            target,
            places: possible.chain(judged.refused).chain(refused).collect(),
            policy_result: judged.result,
        }
    }

    /// Why no further worker is started.
    pub(crate) fn why_short(
        &self,
        model: &ModelRef,
        deployment: &Deployment,
        places: &[PlaceCandidate],
    ) -> Diagnostic {
        let removed = deployment.removed_nodes(&self.nodes);
        if !removed.is_empty() {
            return errors::nodes_of_deployment_removed(model, &removed);
        }
        let refused = self.deployments.refused.iter();
        let refused = refused.filter(|(target, _)| target.model == *model);
        let latest = refused.max_by_key(|(_, (at, _))| *at);
        if let Some((_, (_, error))) = latest {
            return error.clone();
        }
        let failed = self.targets.iter().find_map(|(target, state)| {
            let is_allowed = deployment.allows(&target.node, target.backend);
            let error = state
                .shortage()
                .map(|shortage| &shortage.error)
                .or_else(|| state.last_error());
            (target.model == *model && is_allowed)
                .then_some(error)
                .flatten()
        });
        failed
            .cloned()
            .unwrap_or_else(|| errors::no_place_for_deployment(model, places))
    }
}

/// The devices on which a worker may be started. A node whose devices are not known has a CPU.
fn usable_devices(facts: &NodeFacts, required: Option<Backend>) -> Vec<DeviceFacts> {
    if facts.devices.is_empty() && required.is_none_or(|backend| backend == Backend::Cpu) {
        return vec![DeviceFacts {
            id: DeviceId::Cpu(0),
            backend: Backend::Cpu,
            free_bytes: 0,
            has_worker: true,
        }];
    }
    let is_usable = |device: &&DeviceFacts| match required {
        Some(backend) => device.backend == backend,
        None => device.backend == Backend::Cpu || device.has_worker,
    };
    facts.devices.iter().filter(is_usable).copied().collect()
}

/// A target on this device. Requests do not name devices, so a target names one only where a node
/// has several of the kind.
fn target_on(
    model: &ModelRef,
    node: &NodeName,
    facts: &NodeFacts,
    device: &DeviceFacts,
) -> SpawnTarget {
    SpawnTarget {
        model: model.clone(),
        node: node.clone(),
        backend: device.backend,
        device: facts.has_several(device.backend).then_some(device.id),
    }
}
