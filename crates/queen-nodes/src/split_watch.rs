//! All parts of a split model, or none: what is left alone is stopped, and a worker that has lost a
//! part is replaced, with new parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{WorkerProcess, WorkerState};
use hive_lifecycle::RunningHive;
use input_validation::{Generation, ModelRef, NodeName, WorkerId};
use queen_contract::{DeployedPart, NodeSpec};
use queen_dispatch::Dispatcher;
use tokio::time::sleep;
use worker_registry::SpawnId;

use crate::{
    Nodes,
    split_parts::{lost_part, part_id},
};

/// How often the parts are looked at.
const WATCH: Duration = Duration::from_secs(2);
/// How often they are looked at after the start of the queen, whether or not a model is to be
/// split: another queen may have left some.
const FIRST_LOOKS: u32 = 30;

/// The worker of a split model, as the queen knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Main {
    worker: WorkerId,
    node: NodeName,
    /// The nodes of its parts, in order.
    others: Vec<NodeName>,
    /// Whether it cannot reach its parts any more.
    is_cut_off: bool,
    /// The first node of a part that the queen does not have any more.
    removed: Option<NodeName>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    /// The worker has lost a part.
    Replace(SpawnId, String),
    /// The worker of the part is gone.
    StopPart(NodeName, SpawnId),
}

/// The processes of the nodes that respond.
type Seen = BTreeMap<NodeName, Vec<WorkerProcess>>;

impl Nodes {
    /// Keeps the parts of split models together from now on.
    pub fn watch_splits(&self, dispatcher: Dispatcher) {
        let nodes = self.clone();
        tokio::spawn(async move {
            let mut first_looks = FIRST_LOOKS;
            loop {
                sleep(WATCH).await;
                first_looks = first_looks.saturating_sub(1);
                if let Err(error) = nodes.look_at_parts(first_looks > 0, &dispatcher).await {
                    tracing::warn!(%error, "the parts of models are not looked at");
                }
            }
        });
    }

    async fn look_at_parts(
        &self,
        whether_or_not: bool,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        for (node, port) in self.splits().take_unneeded() {
            if let Ok(node) = self.get(&node) {
                node.release_port(port).await;
            }
        }
        let deployments = self.state().call(|store| store.deployments()).await?;
        let split: BTreeMap<ModelRef, Vec<NodeName>> = deployments
            .into_iter()
            .filter(|deployment| !deployment.split.is_empty())
            .map(|deployment| (deployment.model, deployment.split))
            .collect();
        if split.is_empty() && !self.splits().had_any() && !whether_or_not {
            return Ok(());
        }
        let (starting, changes) = self.splits().starting();
        let hives = self.responding().await;
        let seen: Seen = hives
            .iter()
            .map(|(node, (_, processes))| (node.clone(), processes.clone()))
            .collect();
        let mains = self.mains(&split, &seen).await?;
        if !self.splits().seen(parts_of(&seen), changes) {
            // What was seen may be of a worker whose start has ended meanwhile.
            return Ok(());
        }
        let all: BTreeSet<NodeName> = self
            .all()
            .iter()
            .filter(|node| node.has_hive())
            .map(|node| node.name().clone())
            .collect();
        let is_complete = all.iter().all(|node| seen.contains_key(node));
        for remedy in remedies(&mains, &seen, &starting, is_complete) {
            self.apply(remedy, &hives, dispatcher).await;
        }
        Ok(())
    }

    async fn responding(&self) -> BTreeMap<NodeName, (RunningHive, Vec<WorkerProcess>)> {
        let nodes = self.all();
        let lists = nodes.iter().map(|node| async move {
            let hive = node.hive_now().ok()?;
            let list = hive.client.workers().await.ok()?;
            Some((node.name().clone(), (hive, list.workers)))
        });
        join_all(lists).await.into_iter().flatten().collect()
    }

    /// The workers of split models, whether or not they run.
    async fn mains(
        &self,
        split: &BTreeMap<ModelRef, Vec<NodeName>>,
        seen: &Seen,
    ) -> Result<Vec<Main>, Diagnostic> {
        let rows = self.state().call(|store| store.workers()).await?;
        let mains = rows.into_iter().filter_map(|row| {
            let (node, others) = split.get(&row.key.model)?.split_first()?;
            if *node != row.key.node {
                return None;
            }
            let is_open = self.splits().is_open(&row.worker_id, row.generation);
            // Another queen has started it. Only what needs no link outlives the queen.
            let is_cut_off = match is_open {
                Some(is_open) => !is_open,
                None => runs(seen, node, &row.worker_id) && !self.is_near(node, others),
            };
            let mut others_now = others.iter();
            let removed = others_now.find(|other| self.get(other).is_err()).cloned();
            Some(Main {
                worker: row.worker_id,
                node: node.clone(),
                removed,
                others: others.to_vec(),
                is_cut_off,
            })
        });
        Ok(mains.collect())
    }

    /// Whether a worker on this node reaches parts on the others without the queen.
    fn is_near(&self, node: &NodeName, others: &[NodeName]) -> bool {
        let spec = |name: &NodeName| self.get(name).ok().map(|node| node.spec().clone());
        let is_near = |spec: &NodeSpec| matches!(spec, NodeSpec::Local | NodeSpec::Direct(_));
        let is_local = spec(node) == Some(NodeSpec::Local);
        is_local
            && others
                .iter()
                .all(|name| spec(name).as_ref().is_some_and(is_near))
    }

    async fn apply(
        &self,
        remedy: Remedy,
        hives: &BTreeMap<NodeName, (RunningHive, Vec<WorkerProcess>)>,
        dispatcher: &Dispatcher,
    ) {
        let result = match remedy {
            Remedy::Replace(spawn, reason) => {
                tracing::warn!(worker = %spawn.worker, %reason, "a split model is started again");
                self.splits().has_reported(&spawn);
                dispatcher.part_lost(spawn.clone(), reason).await;
                let hive = self.spawned_worker(&spawn.worker).await;
                let hive = hive.ok().map(|(hive, _)| hive);
                self.stop_spawn(hive, &spawn, Some(0), dispatcher).await
            }
            Remedy::StopPart(node, part) => {
                let Some((hive, _)) = hives.get(&node) else {
                    return;
                };
                tracing::info!(%node, part = %part.worker, "the worker of a part is gone");
                let stopped = hive
                    .client
                    .stop_worker(&part.worker, part.generation, Some(0));
                stopped.await.map_err(Diagnostic::from)
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, "tried again soon");
        }
    }
}

fn running<'a>(seen: &'a Seen, node: &NodeName, worker: &WorkerId) -> Option<&'a WorkerProcess> {
    let mut processes = seen.get(node)?.iter();
    processes.find(|process| process.worker_id == *worker && process.state == WorkerState::Running)
}

fn runs(seen: &Seen, node: &NodeName, worker: &WorkerId) -> bool {
    running(seen, node, worker).is_some()
}

/// The running parts of each worker.
fn parts_of(seen: &Seen) -> BTreeMap<WorkerId, Vec<DeployedPart>> {
    let mut parts: BTreeMap<WorkerId, Vec<DeployedPart>> = BTreeMap::new();
    for (node, processes) in seen {
        for process in processes {
            if let (Some(of), WorkerState::Running) = (&process.part_of, process.state) {
                parts.entry(of.clone()).or_default().push(DeployedPart {
                    node: node.clone(),
                    device: process.device,
                });
            }
        }
    }
    parts
}

/// What must be done so that each split model has all of its parts, or none. `starting` are the
/// workers whose parts are being started. Nothing is concluded from what was not seen.
fn remedies(
    mains: &[Main],
    seen: &Seen,
    starting: &BTreeSet<WorkerId>,
    is_complete: bool,
) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    for main in mains {
        if starting.contains(&main.worker) {
            continue;
        }
        let Some(process) = running(seen, &main.node, &main.worker) else {
            continue;
        };
        if let Some(reason) = loss(main, process.generation, seen) {
            let spawn = SpawnId {
                worker: main.worker.clone(),
                generation: process.generation,
            };
            remedies.push(Remedy::Replace(spawn, reason));
        }
    }
    for (node, processes) in seen {
        for part in processes {
            let (Some(of), WorkerState::Running) = (&part.part_of, part.state) else {
                continue;
            };
            let is_served = |process: &WorkerProcess| {
                process.worker_id == *of
                    && process.state == WorkerState::Running
                    && process.generation == part.generation
            };
            let is_served = seen.values().flatten().any(is_served);
            if !is_served && is_complete && !starting.contains(of) {
                let part = SpawnId {
                    worker: part.worker_id.clone(),
                    generation: part.generation,
                };
                remedies.push(Remedy::StopPart(node.clone(), part));
            }
        }
    }
    remedies
}

/// Why a running worker must be replaced, if it must.
fn loss(main: &Main, generation: Generation, seen: &Seen) -> Option<String> {
    for (number, node) in (1..).zip(&main.others) {
        let id = part_id(&main.worker, number).ok()?;
        let part = running(seen, node, &id);
        let is_there = part.is_some_and(|part| part.generation == generation);
        if seen.contains_key(node) && !is_there {
            return Some(lost_part(node, &id, generation, seen.get(node)?));
        }
    }
    if let Some(node) = &main.removed {
        return Some(format!("node {node}, which had a part of it, was removed"));
    }
    main.is_cut_off
        .then(|| "its connections with its parts are lost".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(id: &str, generation: u64, state: &str, of: Option<&str>) -> WorkerProcess {
        let mut process = json!({
            "worker_id": id, "generation": generation, "model": "hf:org/big", "device": "CPU-0",
            "port": 1, "pid": 1, "state": state, "started_at": "2026-01-02T03:04:05Z",
            "uptime_seconds": 1, "rss_bytes": 1, "restarts": 0,
        });
        if let Some(of) = of {
            process["part_of"] = json!(of);
        }
        serde_json::from_value(process).unwrap()
    }

    fn main(is_cut_off: bool) -> Main {
        Main {
            worker: "big-0".parse().unwrap(),
            node: "big".parse().unwrap(),
            others: vec!["desk".parse().unwrap()],
            is_cut_off,
            removed: None,
        }
    }

    fn seen(nodes: Vec<(&str, Vec<WorkerProcess>)>) -> Seen {
        let nodes = nodes.into_iter();
        nodes
            .map(|(node, list)| (node.parse().unwrap(), list))
            .collect()
    }

    fn decided(seen: &Seen, is_cut_off: bool, starting: &[&str]) -> Vec<String> {
        let starting = starting.iter().map(|id| id.parse().unwrap()).collect();
        let is_complete = seen.len() == 2;
        let remedies = remedies(&[main(is_cut_off)], seen, &starting, is_complete);
        let describe = |remedy| match remedy {
            Remedy::Replace(spawn, _) => format!("replace {}.{}", spawn.worker, spawn.generation),
            Remedy::StopPart(node, part) => {
                format!("stop {}.{} on {node}", part.worker, part.generation)
            }
        };
        remedies.into_iter().map(describe).collect()
    }

    #[test]
    fn a_worker_with_all_its_parts_is_left_alone_and_any_loss_replaces_it() {
        let worker = || process("big-0", 4, "running", None);
        let part = |generation, state| process("big-0-part1", generation, state, Some("big-0"));
        let with = |part: Vec<WorkerProcess>| seen(vec![("big", vec![worker()]), ("desk", part)]);
        assert!(decided(&with(vec![part(4, "running")]), false, &[]).is_empty());
        for lost in [vec![], vec![part(4, "exited")]] {
            assert_eq!(
                decided(&with(lost.clone()), false, &[]),
                ["replace big-0.4"]
            );
            assert!(decided(&with(lost), false, &["big-0"]).is_empty());
        }
        assert_eq!(
            decided(&with(vec![part(4, "running")]), true, &[]),
            ["replace big-0.4"]
        );
        let mut ended = part(4, "exited");
        ended.last_exit = Some("signal 9".to_owned());
        let lost = remedies(
            &[main(false)],
            &seen(vec![("big", vec![worker()]), ("desk", vec![ended])]),
            &BTreeSet::new(),
            true,
        );
        assert!(
            matches!(&lost[..], [Remedy::Replace(_, reason)]
                if reason == "its part big-0-part1 on node desk has ended: signal 9"),
            "{lost:?}"
        );
        // A part of another generation is none of this worker.
        assert_eq!(
            decided(&with(vec![part(3, "running")]), false, &[]),
            ["replace big-0.4", "stop big-0-part1.3 on desk"]
        );
        let mut alone = main(false);
        alone.removed = Some("desk".parse().unwrap());
        let lost = remedies(
            &[alone],
            &seen(vec![("big", vec![worker()])]),
            &BTreeSet::new(),
            true,
        );
        assert!(
            matches!(&lost[..], [Remedy::Replace(_, reason)]
                if reason == "node desk, which had a part of it, was removed"),
            "{lost:?}"
        );
        // A machine that does not respond proves nothing.
        assert!(decided(&seen(vec![("big", vec![worker()])]), false, &[]).is_empty());
    }

    #[test]
    fn a_part_without_its_worker_is_stopped_unless_one_is_starting_or_may_run() {
        let part = || process("big-0-part1", 4, "running", Some("big-0"));
        let exited = process("big-0", 4, "exited", None);
        let alone = seen(vec![("big", vec![exited]), ("desk", vec![part()])]);
        assert_eq!(decided(&alone, false, &[]), ["stop big-0-part1.4 on desk"]);
        assert!(decided(&alone, false, &["big-0"]).is_empty());
        let unknown = seen(vec![("desk", vec![part()])]);
        assert!(decided(&unknown, false, &[]).is_empty());
        let parts = parts_of(&alone);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts.values().next().unwrap()[0].node.as_str(), "desk");
    }
}
