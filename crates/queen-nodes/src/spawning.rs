use std::{pin::pin, time::Duration};

use diagnostics::{Diagnostic, Narration};
use futures_util::{StreamExt as _, future::BoxFuture};
use hive_contract::{JobEvent, Progress, SpawnRequest, SpawnResponse, WorkerProcess, WorkerState};
use hive_lifecycle::RunningHive;
use input_validation::{Backend, DeviceId, Generation};
use jiff::Timestamp;
use queen_dispatch::{Dispatcher, WorkerSource};
use queen_store::{DeploymentKey, DeploymentRow};
use rest_client::CallError;
use scheduler::SpawnTarget;
use tokio::time::{Instant, timeout};
use worker_contract::HEARTBEAT_SECONDS;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Node, Nodes, errors};

/// A running worker registers within two heartbeats, or it is replaced.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(2 * HEARTBEAT_SECONDS + 1);
/// How often the hive is queried whether such a worker is still running.
const PROCESS_POLL: Duration = Duration::from_millis(250);
/// Maximum number of times that a spawn is repeated because its hive was lost.
const HIVE_LOSSES: u32 = 2;

enum SpawnError {
    /// The hive was lost; it may be restarted.
    HiveLost(Diagnostic),
    Final(Diagnostic),
}

impl From<Diagnostic> for SpawnError {
    fn from(error: Diagnostic) -> Self {
        Self::Final(error)
    }
}

impl From<CallError> for SpawnError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Link(error) => Self::HiveLost(error),
            CallError::Response(_, error) => Self::Final(error),
        }
    }
}

impl WorkerSource for Nodes {
    fn provide<'a>(
        &'a self,
        target: &'a SpawnTarget,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<SpawnId, Diagnostic>> {
        Box::pin(async move {
            let node = self.get(&target.node)?;
            let spawning = Spawning {
                nodes: self,
                node: &node,
                target,
                dispatcher,
            };
            let spawned = spawning.run().await;
            if let Err(error) = &spawned {
                tracing::warn!(model = %target.model, code = %error.code, %error, "no worker available");
            }
            spawned
        })
    }

    fn unload<'a>(
        &'a self,
        worker: &'a SpawnId,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(self.stop_worker(&worker.worker, None, dispatcher))
    }
}

/// One spawn on one node.
struct Spawning<'a> {
    nodes: &'a Nodes,
    node: &'a Node,
    target: &'a SpawnTarget,
    dispatcher: &'a Dispatcher,
}

impl Spawning<'_> {
    async fn run(&self) -> Result<SpawnId, Diagnostic> {
        let mut losses = 0;
        loop {
            match self.attempt().await {
                Ok(spawn) => return Ok(spawn),
                Err(SpawnError::Final(error)) => return Err(error),
                Err(SpawnError::HiveLost(error)) if losses >= HIVE_LOSSES => return Err(error),
                Err(SpawnError::HiveLost(error)) => {
                    losses += 1;
                    tracing::warn!(%error, "the hive was lost during a spawn");
                    let message = "the hive was lost; trying again";
                    self.narrate(Narration::warn("queen", "hive", message))
                        .await;
                    self.node.hive_loss_noticed().await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<SpawnId, SpawnError> {
        let hive = self.node.hive_soon().await?;
        let key = DeploymentKey {
            model: self.target.model.clone(),
            node: self.target.node.clone(),
            device: self.device(&hive).await?,
        };
        let state = self.nodes.state();
        let deployment = state
            .call(move |store| store.deploy(&key, Timestamp::now()))
            .await?;
        let spawned = hive.client.workers().await?.workers;
        if let Some(running) = running_spawn(&deployment, &spawned)
            && self.registers(&hive, &running).await
        {
            return Ok(running);
        }
        let highest = self.highest_generation(&spawned).await?;
        let worker = deployment.worker_id.clone();
        let generation = state
            .call(move |store| store.next_generation(&worker, highest))
            .await?;
        let result = self.spawn(&hive, &deployment, generation).await;
        self.record(&deployment, &result).await?;
        result
    }

    /// Records how a spawn ended. A deployment that never served and was refused for its
    /// input is deleted.
    async fn record(
        &self,
        deployment: &DeploymentRow,
        result: &Result<SpawnId, SpawnError>,
    ) -> Result<(), Diagnostic> {
        let state = self.nodes.state();
        let worker = deployment.worker_id.clone();
        let never_served = deployment.generation == Generation(0);
        let error = match result {
            Ok(_) => None,
            Err(SpawnError::Final(error)) if never_served && error.code.http_status() < 500 => {
                return state.call(move |store| store.undeploy(&worker)).await;
            }
            Err(SpawnError::HiveLost(error) | SpawnError::Final(error)) => {
                Some(error.message.clone())
            }
        };
        state
            .call(move |store| store.set_last_error(&worker, error.as_deref()))
            .await
    }

    async fn spawn(
        &self,
        hive: &RunningHive,
        deployment: &DeploymentRow,
        generation: Generation,
    ) -> Result<SpawnId, SpawnError> {
        let worker = &deployment.worker_id;
        let SpawnTarget { model, node, .. } = self.target;
        tracing::info!(%worker, generation = generation.0, %model, "spawning a worker");
        let device = deployment.key.device;
        let message = format!("starting worker {worker} for {model} on {device} of {node}");
        self.narrate(Narration::info("queen", "spawn", message))
            .await;
        let request = SpawnRequest {
            worker_id: worker.clone(),
            generation,
            model: model.clone(),
            device,
            queen_url: self.node.link().queen_url().await?,
            context_length: None,
            slots: None,
            threads: None,
            wait_ready: true,
        };
        let limit = self.nodes.limits().spawn_event;
        let mut events = pin!(hive.client.spawn_events(&request).await?);
        loop {
            let event = match timeout(limit, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(SpawnError::HiveLost(errors::spawn_stream_ended())),
                Err(_) => return Err(errors::spawn_stream_silent(limit).into()),
            };
            match event? {
                JobEvent::Narration(narration) => self.narrate(narration).await,
                JobEvent::Progress(progress) => {
                    let narration = narrate_progress(worker.as_str(), &progress);
                    self.narrate(narration).await;
                }
                JobEvent::Result(value) => {
                    let spawned: SpawnResponse = serde_json::from_value(value)
                        .map_err(|e| errors::unreadable_spawn_result(&e))?;
                    return Ok(SpawnId {
                        worker: spawned.worker_id,
                        generation: spawned.generation,
                    });
                }
                JobEvent::Error(error) => return Err(SpawnError::Final(error)),
                JobEvent::Cancelled {} => return Err(errors::spawn_cancelled(worker).into()),
            }
        }
    }

    async fn device(&self, hive: &RunningHive) -> Result<DeviceId, SpawnError> {
        if self.target.backend == Backend::Cpu {
            return Ok(DeviceId::Cpu(0));
        }
        let devices = hive.client.capabilities().await?.devices;
        match devices.iter().find(|d| d.backend == self.target.backend) {
            Some(device) => Ok(device.id),
            None => Err(errors::no_such_device(self.target, &devices).into()),
        }
    }

    /// Returns whether a running worker registers soon. Returns early if its process exits.
    async fn registers(&self, hive: &RunningHive, spawn: &SpawnId) -> bool {
        let deadline = Instant::now() + REGISTRATION_LIMIT;
        let mut heartbeat = pin!(self.dispatcher.next_heartbeat(spawn.clone()));
        while Instant::now() < deadline {
            if let Ok(received) = timeout(PROCESS_POLL, heartbeat.as_mut()).await {
                return received.is_ok();
            }
            let runs = hive.client.worker(&spawn.worker).await.is_ok_and(|worker| {
                worker.generation == spawn.generation && worker.state == WorkerState::Running
            });
            if !runs {
                return false;
            }
        }
        tracing::warn!(worker = %spawn.worker, "the worker is running but sends no heartbeat; replacing it");
        false
    }

    async fn highest_generation(
        &self,
        spawned: &[WorkerProcess],
    ) -> Result<Generation, Diagnostic> {
        let registered = self.dispatcher.workers(WorkerFilter::default()).await?;
        let registered = registered.into_iter().map(|worker| worker.info.generation);
        let spawned = spawned.iter().map(|worker| worker.generation);
        Ok(spawned.chain(registered).max().unwrap_or(Generation(0)))
    }

    async fn narrate(&self, narration: Narration) {
        self.dispatcher.spawn_progress(self.target, narration).await;
    }
}

/// The last spawn of the deployment's worker, if its process is running.
fn running_spawn(deployment: &DeploymentRow, spawned: &[WorkerProcess]) -> Option<SpawnId> {
    let running = spawned.iter().any(|worker| {
        worker.worker_id == deployment.worker_id
            && worker.generation == deployment.generation
            && worker.state == WorkerState::Running
    });
    running.then(|| SpawnId {
        worker: deployment.worker_id.clone(),
        generation: deployment.generation,
    })
}

/// Formats an amount for display, bytes in a unit that keeps the number short.
fn amount(count: u64, unit: &str) -> String {
    let is_bytes = unit == "bytes";
    match count {
        1_000_000_000.. if is_bytes => format!("{:.1} GB", count as f64 / 1e9),
        1_000_000.. if is_bytes => format!("{:.0} MB", count as f64 / 1e6),
        1_000.. if is_bytes => format!("{:.0} kB", count as f64 / 1e3),
        _ => format!("{count} {unit}"),
    }
}

fn narrate_progress(worker: &str, progress: &Progress) -> Narration {
    let Progress {
        phase, done, unit, ..
    } = progress;
    let message = match progress.total {
        Some(total) if total > 0 => {
            let percent = *done as f64 * 100.0 / total as f64;
            let total = amount(total, unit);
            format!("worker {worker}: {phase} {percent:.0} % of {total}")
        }
        _ => format!("worker {worker}: {phase} {}", amount(*done, unit)),
    };
    Narration::info("worker", phase, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_bytes_is_short() {
        for (done, total, message) in [
            (
                1_500_000_000,
                Some(4_831_838_208),
                "worker w-1: load 31 % of 4.8 GB",
            ),
            (1_000_000, Some(2_500_000), "worker w-1: load 40 % of 2 MB"),
            (3_400, None, "worker w-1: load 3 kB"),
            (12, Some(0), "worker w-1: load 12 bytes"),
        ] {
            let progress = Progress {
                phase: "load".to_owned(),
                done,
                total,
                unit: "bytes".to_owned(),
                rate: None,
                eta_seconds: None,
            };
            assert_eq!(narrate_progress("w-1", &progress).message, message);
        }
    }
}
