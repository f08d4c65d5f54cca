//! Room for models that do not fit beside the loaded ones: which workers are stopped for them.
//!
//! Idle workers are stopped first, the least recently used one before others. A model that is in
//! use keeps its memory for a turn, so that two models that do not fit together take turns instead
//! of replacing each other for every request.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use input_validation::{Backend, DeviceId, ModelRef, NodeName, WorkerId};
use queen_contract::WorkerEntry;
use worker_contract::WorkerStatus;
use worker_registry::{SpawnId, WorkerFilter, WorkerRegistry};

use crate::{
    NodeState, Scheduler, SchedulerEffect, SpawnTarget, StopCause,
    decisions::Event,
    eviction::Eviction,
    nodes::{Place, place_of},
    residency::{is_unused, worker_bytes},
};

/// A refused spawn is tried again after this time: other programs may have freed memory.
const RETRY: Duration = Duration::from_secs(10);
/// How often a spawn is tried while the memory of stopped workers becomes free.
const RELEASE_POLL: Duration = Duration::from_millis(500);

/// A worker on the place where memory is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resident {
    spawn: SpawnId,
    model: ModelRef,
    device: DeviceId,
    /// `u64::MAX` if unknown.
    bytes: u64,
    last_use: Duration,
    state: ResidentState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResidentState {
    /// It may be stopped now.
    Idle,
    /// It runs requests, and its turn has ended.
    Overdue,
    /// It may not be stopped yet.
    InUse,
    /// It is being stopped.
    Leaving,
}

/// What to do about missing memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Stop(Vec<SpawnId>),
    /// No new requests for these workers; they can be stopped when they are idle.
    Yield(Vec<SpawnId>),
    Wait,
    /// All workers together do not have this much memory.
    Hopeless,
}

/// Plans on the device where this takes the fewest workers.
fn plan(residents: &[Resident], missing_bytes: u64) -> Plan {
    let mut devices: BTreeMap<DeviceId, Vec<&Resident>> = BTreeMap::new();
    for resident in residents {
        devices.entry(resident.device).or_default().push(resident);
    }
    let best = |may_go: &dyn Fn(ResidentState) -> bool| {
        let sets = devices.values().filter_map(|device| {
            let mut able: Vec<&Resident> = device.clone();
            able.retain(|resident| may_go(resident.state));
            enough(able, missing_bytes)
        });
        let last_use = |set: &Vec<&Resident>| set.iter().map(|resident| resident.last_use).max();
        let best = sets.min_by_key(|set| (set.len(), last_use(set)))?;
        Some(
            best.into_iter()
                .map(|resident| resident.spawn.clone())
                .collect(),
        )
    };
    if let Some(idle) = best(&|state| state == ResidentState::Idle) {
        return Plan::Stop(idle);
    }
    let ends = |state| matches!(state, ResidentState::Idle | ResidentState::Overdue);
    if let Some(overdue) = best(&ends) {
        return Plan::Yield(overdue);
    }
    let all: Option<Vec<SpawnId>> = best(&|_| true);
    all.map_or(Plan::Hopeless, |_| Plan::Wait)
}

/// The least recently used residents that have this much memory, without those that are not needed
/// for that. `None` if all of them have less.
fn enough(mut residents: Vec<&Resident>, bytes: u64) -> Option<Vec<&Resident>> {
    let sum = |set: &[&Resident]| {
        let all = set.iter().map(|resident| resident.bytes);
        all.fold(0, u64::saturating_add)
    };
    residents.sort_by_key(|resident| (resident.state != ResidentState::Idle, resident.last_use));
    let mut set: Vec<&Resident> = Vec::new();
    for resident in residents {
        if sum(&set) >= bytes {
            break;
        }
        set.push(resident);
    }
    for index in (0..set.len()).rev() {
        let mut without = set.clone();
        without.remove(index);
        if sum(&without) >= bytes {
            set = without;
        }
    }
    (sum(&set) >= bytes).then_some(set)
}

impl Scheduler {
    /// Returns whether stopping workers could make room for a worker at the target.
    pub(crate) fn may_have_room(
        &self,
        target: &SpawnTarget,
        missing_bytes: u64,
        now: Duration,
    ) -> bool {
        let is_in_use = self.targets.iter().any(|(other, state)| {
            other != target && place_of(other) == place_of(target) && state.is_starting()
        });
        let state = self.targets.get(target);
        let is_releasing = state.is_some_and(|state| state.is_releasing(now));
        is_in_use
            || is_releasing
            || plan(&self.residents(target, now, now), missing_bytes) != Plan::Hopeless
    }

    /// Stops workers where that makes room for requests that wait, and starts workers where there
    /// is room. At each place one model at a time, the one that has waited longest.
    pub(crate) fn make_room(&mut self, now: Duration, out: &mut Vec<SchedulerEffect>) {
        if self
            .targets
            .values()
            .all(|state| state.shortage().is_none())
        {
            self.residency.yielding.clear();
            return;
        }
        self.forget_unwanted();
        let mut short: Vec<(Duration, SpawnTarget)> = self
            .targets
            .iter()
            .filter_map(|(target, state)| Some((state.shortage()?.since, target.clone())))
            .filter(|(_, target)| {
                self.waiting_for(target).next().is_some() || self.deployments.lacks(target)
            })
            .collect();
        short.sort();
        let mut done: BTreeSet<Place> = self
            .targets
            .iter()
            .filter(|(_, state)| state.is_starting() && state.shortage().is_none())
            .map(|(target, _)| place_of(target))
            .collect();
        let mut yielding = BTreeSet::new();
        for (_, target) in short {
            if done.insert(place_of(&target)) {
                self.make_room_at(&target, &mut yielding, now, out);
            }
        }
        let ended = std::mem::replace(&mut self.residency.yielding, yielding);
        if ended.difference(&self.residency.yielding).next().is_some() {
            self.serve_all(now, out);
        }
    }

    /// Forgets the shortages at places that no waiting request may use, and those on nodes that
    /// cannot be used. A request that waits for memory at one of several places keeps the others:
    /// it would be sent from one to the other otherwise, without an end.
    fn forget_unwanted(&mut self) {
        let unwanted = self.short_targets(|target| {
            let facts = self.nodes.get(&target.node);
            let is_usable = facts.is_none_or(|facts| {
                let is_away = matches!(facts.state, NodeState::Down(_) | NodeState::Asleep(_));
                !is_away && facts.may_use(target.backend)
            });
            let is_wanted = self.may_be_used(target) || self.deployments.lacks(target);
            !is_usable || !is_wanted
        });
        self.forget_shortages_of(unwanted);
    }

    /// Forgets all shortages: their places were chosen by a policy that has changed.
    pub(crate) fn forget_shortages(&mut self) {
        self.forget_shortages_of(self.short_targets(|_| true));
    }

    /// The targets that wait for memory, of those that `includes` accepts.
    fn short_targets(&self, includes: impl Fn(&SpawnTarget) -> bool) -> Vec<SpawnTarget> {
        let short = self.targets.iter();
        let short = short.filter(|(_, state)| state.shortage().is_some() && !state.is_spawning());
        let short = short.map(|(target, _)| target);
        short.filter(|target| includes(target)).cloned().collect()
    }

    fn forget_shortages_of(&mut self, targets: Vec<SpawnTarget>) {
        for target in targets {
            if let Some(state) = self.targets.get_mut(&target) {
                state.forget_shortage();
            }
        }
    }

    /// Whether a worker at the target may serve a waiting request.
    fn may_be_used(&self, target: &SpawnTarget) -> bool {
        let mut waiting = self.queue.in_order(&target.model);
        waiting.any(|queued| {
            self.requests
                .get(&queued.id)
                .is_some_and(|request| request.may_use(target))
        })
    }

    fn make_room_at(
        &mut self,
        target: &SpawnTarget,
        yielding: &mut BTreeSet<WorkerId>,
        now: Duration,
        out: &mut Vec<SchedulerEffect>,
    ) {
        let (registry, Some(state)) = (&self.registry, self.targets.get_mut(target)) else {
            return;
        };
        let Some(shortage) = state.shortage().cloned() else {
            return;
        };
        let is_here = |worker: &&WorkerId| {
            registry
                .get(worker)
                .is_some_and(|info| info.hive_id == target.node)
        };
        let still_yielding = self.residency.yielding.iter().filter(is_here).cloned();
        let is_gone = |spawn: &SpawnId| registry.get_spawn(spawn).is_none();
        if state.is_starting() && !state.has_room(is_gone, now) {
            yielding.extend(still_yielding);
            return;
        }
        let since = |time: Duration| now.saturating_sub(time);
        let is_releasing = state.is_releasing(now);
        let pause = if is_releasing { RELEASE_POLL } else { RETRY };
        if state.is_starting() || since(shortage.latest) >= pause {
            yielding.extend(still_yielding);
            state.begin(now);
            let first = self.waiting_for(target).next().cloned();
            if let Some(request) = first {
                let event = Event::Spawns {
                    request,
                    target: target.clone(),
                    places: Vec::new(),
                };
                self.decisions.add(event, now);
            }
            out.push(SchedulerEffect::Spawn(target.clone()));
            return;
        }
        if is_releasing {
            return;
        }
        let missing_bytes = shortage.missing_bytes;
        if let Some(eviction) = state.take_eviction() {
            let freed = &mut self.residency.freed;
            freed.record(&target.node, &eviction, missing_bytes, now);
        }
        let residents = self.residents(target, shortage.since, now);
        match plan(&residents, missing_bytes) {
            Plan::Stop(victims) => {
                for victim in &victims {
                    self.stop(victim.clone(), StopCause::Memory, now, out);
                }
                let expected = residents
                    .into_iter()
                    .filter(|resident| victims.contains(&resident.spawn))
                    .map(|resident| (resident.model, resident.bytes))
                    .collect();
                let eviction = Eviction {
                    missing_bytes,
                    expected,
                };
                if let Some(state) = self.targets.get_mut(target) {
                    state.make_room(victims, eviction, now);
                }
            }
            Plan::Yield(workers) => {
                yielding.extend(workers.into_iter().map(|spawn| spawn.worker));
            }
            Plan::Wait => {}
            Plan::Hopeless => self.spawn_failed(target, &shortage.error, now, out),
        }
    }

    /// The workers of other models whose memory the target can use, for a model that waits since
    /// `waits_since`.
    fn residents(
        &self,
        target: &SpawnTarget,
        waits_since: Duration,
        now: Duration,
    ) -> Vec<Resident> {
        let turn = self.residency.turn(&target.model, self.settings.turn);
        let has_passed = |since: Duration| now.saturating_sub(since) >= turn;
        let in_use = self.spawns_in_use();
        let is_idle = |entry: &WorkerEntry| is_unused(entry, |spawn| in_use.contains(spawn));
        let priority = self.deployments.priority(&target.model);
        let reserved = self.reserved_workers(priority, now);
        let entries = workers_at(&self.registry, &place_of(target), now);
        let others = entries.filter(|entry| {
            let info = &entry.info;
            info.model_id != target.model
                && target.device.is_none_or(|device| device == info.device)
                && !reserved.contains(&info.id)
        });
        others
            .map(|entry| {
                let usage = self.residency.of(&entry.info.id);
                let turn_has_ended = has_passed(waits_since) && has_passed(usage.loaded);
                let is_wanted = self.queue.waiting(&entry.info.model_id) > 0;
                // Beside that, a worker has memory for its computations.
                let expected = match worker_bytes(&entry.info, &self.nodes) {
                    0 => u64::MAX,
                    bytes => bytes.saturating_add(bytes / 4),
                };
                let (node, model) = (&entry.info.hive_id, &entry.info.model_id);
                Resident {
                    spawn: SpawnId::of(&entry.info),
                    model: model.clone(),
                    device: entry.info.device,
                    bytes: self.residency.freed.at_most(node, model, expected, now),
                    last_use: usage.last,
                    state: match entry.info.status {
                        _ if self.registry.is_stopping(&SpawnId::of(&entry.info)) => {
                            ResidentState::Leaving
                        }
                        WorkerStatus::Draining | WorkerStatus::Stopped => ResidentState::Leaving,
                        WorkerStatus::Starting => ResidentState::InUse,
                        _ if is_idle(&entry) && (turn_has_ended || !is_wanted) => {
                            ResidentState::Idle
                        }
                        _ if turn_has_ended => ResidentState::Overdue,
                        _ => ResidentState::InUse,
                    },
                }
            })
            .collect()
    }

    pub(crate) fn records_registration(&mut self, spawn: &SpawnId, now: Duration) {
        self.residency.registered(&spawn.worker, now);
        // Now and then, as each time examines all of them.
        let uses = &mut self.residency.uses;
        if uses.len() > 2 * self.registry.worker_count() {
            uses.retain(|worker, _| self.registry.get(worker).is_some());
        }
    }
}

fn workers_at(
    registry: &WorkerRegistry,
    (node, backend): &(NodeName, Backend),
    now: Duration,
) -> impl Iterator<Item = WorkerEntry> + use<> {
    let filter = WorkerFilter {
        node: Some(node.clone()),
        backend: Some(*backend),
        ..WorkerFilter::default()
    };
    registry.snapshot(&filter, now).into_iter()
}
