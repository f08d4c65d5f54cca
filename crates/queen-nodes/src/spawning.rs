use std::{pin::pin, time::Duration};

use diagnostics::{Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::{
    JobEvent, Progress, SpawnRequest, SpawnResponse, SplitRole, WorkerProcess, WorkerState,
};
use hive_lifecycle::RunningHive;
use input_validation::{EngineName, Generation, ModelRef};
use jiff::Timestamp;
use queen_contract::{Availability, DeploymentSpec, WorkerEntry};
use queen_dispatch::Dispatcher;
use queen_store::{WorkerKey, WorkerRow};
use rest_client::CallError;
use scheduler::{SleepEvent, SpawnTarget};
use tokio::time::{Instant, sleep, timeout};
use worker_contract::HEARTBEAT_SECONDS;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Node, Nodes, errors, sleep_calls::Waking};

/// A running worker registers within two heartbeats, or it is replaced.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(2 * HEARTBEAT_SECONDS + 1);
/// How often the hive is queried whether such a worker is still running.
const PROCESS_POLL: Duration = Duration::from_millis(250);
/// Longest wait for a worker that is being stopped; a longer drain is cut short.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Maximum number of times that a spawn is repeated because its hive was lost.
const HIVE_LOSSES: u32 = 2;

pub(crate) enum SpawnError {
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

/// Which engine a worker has.
pub(crate) enum EngineWish {
    /// That which it had before.
    Keep,
    /// From now on this one, or that which its hive chooses.
    Set(Option<EngineName>),
}

/// One spawn on one node.
pub(crate) struct Spawning<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) node: &'a Node,
    pub(crate) target: &'a SpawnTarget,
    pub(crate) dispatcher: &'a Dispatcher,
    pub(crate) engine: EngineWish,
}

impl Spawning<'_> {
    pub(crate) async fn run(&self) -> Result<SpawnId, Diagnostic> {
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

    /// Wakes the node if it is asleep, which may take some time.
    async fn wake(&self) -> Result<(), Diagnostic> {
        let node = self.nodes.get(self.node.name())?;
        let mut waking = Waking::new(self.nodes, &node, SleepEvent::Needed);
        while let Some(message) = waking.next().await? {
            self.narrate(Narration::info("queen", "wake", message))
                .await;
        }
        Ok(())
    }

    /// What is wanted of the workers of the model.
    async fn wanted(&self) -> Result<DeploymentSpec, Diagnostic> {
        let model = self.target.model.clone();
        let deployments = self.nodes.state().call(|store| store.deployments()).await?;
        let mut deployments = deployments.into_iter();
        let wanted = deployments.find(|deployment| deployment.model == model);
        Ok(wanted.unwrap_or_else(|| DeploymentSpec::of(model)))
    }

    async fn attempt(&self) -> Result<SpawnId, SpawnError> {
        self.wake().await?;
        let hive = self.node.hive_soon().await?;
        self.pull(&hive).await?;
        let spawned = hive.client.workers().await?.workers;
        let key = WorkerKey {
            model: self.target.model.clone(),
            node: self.target.node.clone(),
            device: self.device(&hive, &spawned).await?,
        };
        let state = self.nodes.state();
        let row = state
            .call(move |store| store.worker_for(&key, Timestamp::now()))
            .await?;
        let registered = self.dispatcher.workers(WorkerFilter::default()).await?;
        let wanted = self.wanted().await?;
        let engine = match &self.engine {
            EngineWish::Set(engine) => engine.clone(),
            EngineWish::Keep => wanted.engine.clone().or_else(|| row.engine.clone()),
        };
        if let Some(running) = running_spawn(&row, &spawned)
            && has_engine(&running, &spawned, engine.as_ref())
            && self.can_serve(&hive, &running, &registered).await
        {
            return Ok(running);
        }
        let highest = highest_generation(&spawned, &registered);
        let worker = row.worker_id.clone();
        let generation = state
            .call(move |store| store.next_generation(&worker, highest))
            .await?;
        let result = self
            .start(&hive, &row, generation, &wanted, engine.clone())
            .await;
        // That of a deployment is not kept after it.
        if let EngineWish::Set(engine) = &self.engine
            && result.is_ok()
            && *engine != row.engine
        {
            let (worker, engine) = (row.worker_id.clone(), engine.clone());
            state
                .call(move |store| store.set_engine(&worker, engine.as_ref()))
                .await?;
        }
        let listed = self.nodes.catalog().models_of(self.node.name());
        if result.is_ok() && !listed.contains(&self.target.model) {
            // Where the files are decides about the next placement.
            self.nodes.models().await;
        }
        if matches!(self.target.model, ModelRef::File(_)) {
            // What is known of the model must be that of the files that were loaded.
            self.nodes.described_model(&self.target.model).await;
        }
        self.record(&row, &result).await?;
        result
    }

    /// Records how a spawn ended. A worker that never served and was refused for
    /// its input is forgotten.
    async fn record(
        &self,
        row: &WorkerRow,
        result: &Result<SpawnId, SpawnError>,
    ) -> Result<(), Diagnostic> {
        let state = self.nodes.state();
        let worker = row.worker_id.clone();
        let never_served = row.generation == Generation(0);
        let error = match result {
            Ok(_) => None,
            Err(SpawnError::Final(error)) if never_served && error.code.http_status() < 500 => {
                return state.call(move |store| store.forget_worker(&worker)).await;
            }
            Err(SpawnError::HiveLost(error) | SpawnError::Final(error)) => {
                Some(error.message.clone())
            }
        };
        state
            .call(move |store| store.set_last_error(&worker, error.as_deref()))
            .await
    }

    /// Starts the worker, and first the parts that other machines compute of its model.
    async fn start(
        &self,
        hive: &RunningHive,
        row: &WorkerRow,
        generation: Generation,
        wanted: &DeploymentSpec,
        engine: Option<EngineName>,
    ) -> Result<SpawnId, SpawnError> {
        let spawn = (row, generation);
        if wanted.split.first() != Some(&self.target.node) {
            self.nodes.splits().forget(&row.worker_id);
            return self.spawn(hive, spawn, wanted, engine, None).await;
        }
        let engine = engine.or_else(|| wanted.engine.clone());
        let (role, parts) = self.start_parts(hive, spawn, wanted).await?;
        let result = self.spawn(hive, spawn, wanted, engine, Some(role)).await;
        self.parts_started(parts, spawn, wanted, result.is_ok())
            .await;
        result
    }

    async fn spawn(
        &self,
        hive: &RunningHive,
        (row, generation): (&WorkerRow, Generation),
        wanted: &DeploymentSpec,
        engine: Option<EngineName>,
        split: Option<SplitRole>,
    ) -> Result<SpawnId, SpawnError> {
        let worker = &row.worker_id;
        let SpawnTarget { model, node, .. } = self.target;
        tracing::info!(%worker, generation = generation.0, %model, "spawning a worker");
        let device = row.key.device;
        let message = format!("starting worker {worker} for {model} on {device} of {node}");
        self.narrate(Narration::info("queen", "spawn", message))
            .await;
        let request = SpawnRequest {
            worker_id: worker.clone(),
            generation,
            model: model.clone(),
            device,
            engine,
            queen_url: self.node.link().queen_url().await?,
            context_length: wanted.context_length,
            slots: wanted.slots,
            threads: None,
            wait_ready: true,
            split,
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
                    let what = format!("worker {worker}");
                    let narration = narrate_progress(&what, &progress);
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
                JobEvent::Error(error) => {
                    return Err(SpawnError::Final(errors::on_target(error, self.target)));
                }
                JobEvent::Cancelled {} => return Err(errors::spawn_cancelled(worker).into()),
            }
        }
    }

    /// Returns whether a running worker can serve, now or soon. If not, its process has exited or
    /// must be replaced.
    async fn can_serve(
        &self,
        hive: &RunningHive,
        spawn: &SpawnId,
        registered: &[WorkerEntry],
    ) -> bool {
        let known = registered
            .iter()
            .find(|worker| SpawnId::of(&worker.info) == *spawn);
        match known.map(|worker| worker.availability) {
            Some(Availability::Stalled) => {
                let message = format!("worker {} has stalled; replacing it", spawn.worker);
                self.narrate(Narration::warn("queen", "replace", message))
                    .await;
                false
            }
            Some(Availability::Stopping) => {
                let message = format!("worker {} is being stopped; waiting for it", spawn.worker);
                self.narrate(Narration::info("queen", "wait", message))
                    .await;
                let exited = async {
                    while self.runs(hive, spawn).await {
                        sleep(PROCESS_POLL).await;
                    }
                };
                let _ = timeout(STOP_LIMIT, exited).await;
                false
            }
            _ => self.registers(hive, spawn).await,
        }
    }

    async fn runs(&self, hive: &RunningHive, spawn: &SpawnId) -> bool {
        hive.client.worker(&spawn.worker).await.is_ok_and(|worker| {
            worker.generation == spawn.generation && worker.state == WorkerState::Running
        })
    }

    /// Returns whether a running worker registers soon. Returns early if its process exits.
    async fn registers(&self, hive: &RunningHive, spawn: &SpawnId) -> bool {
        let deadline = Instant::now() + REGISTRATION_LIMIT;
        let mut heartbeat = pin!(self.dispatcher.next_heartbeat(spawn.clone()));
        while Instant::now() < deadline {
            if let Ok(received) = timeout(PROCESS_POLL, heartbeat.as_mut()).await {
                return received.is_ok();
            }
            if !self.runs(hive, spawn).await {
                return false;
            }
        }
        tracing::warn!(worker = %spawn.worker, "the worker is running but sends no heartbeat; replacing it");
        false
    }

    pub(crate) async fn narrate(&self, narration: Narration) {
        self.dispatcher.spawn_progress(self.target, narration).await;
    }
}

fn highest_generation(spawned: &[WorkerProcess], registered: &[WorkerEntry]) -> Generation {
    let registered = registered.iter().map(|worker| worker.info.generation);
    let spawned = spawned.iter().map(|worker| worker.generation);
    spawned.chain(registered).max().unwrap_or(Generation(0))
}

/// The last spawn of the worker, if its process is running.
fn running_spawn(row: &WorkerRow, spawned: &[WorkerProcess]) -> Option<SpawnId> {
    let running = spawned.iter().any(|worker| {
        worker.worker_id == row.worker_id
            && worker.generation == row.generation
            && worker.state == WorkerState::Running
    });
    running.then(|| SpawnId {
        worker: row.worker_id.clone(),
        generation: row.generation,
    })
}

/// Whether a running worker uses the engine that was named, if one was.
fn has_engine(running: &SpawnId, spawned: &[WorkerProcess], named: Option<&EngineName>) -> bool {
    let Some(named) = named else {
        return true;
    };
    let mut spawned = spawned.iter();
    let process = spawned.find(|process| process.worker_id == running.worker);
    let engine = process.and_then(|process| process.engine.as_ref());
    engine.is_some_and(|decision| decision.engine == named.as_str())
}

/// `what` is the worker or the model that progresses.
pub(crate) fn narrate_progress(what: &str, progress: &Progress) -> Narration {
    let Progress {
        phase, done, unit, ..
    } = progress;
    let of_unit = |amount: u64| match unit.as_str() {
        "bytes" => bytes(amount),
        unit => format!("{amount} {unit}"),
    };
    let message = match progress.total {
        Some(total) if total > 0 => {
            let percent = *done as f64 * 100.0 / total as f64;
            format!("{what}: {phase} {percent:.0} % of {}", of_unit(total))
        }
        _ => format!("{what}: {phase} {}", of_unit(*done)),
    };
    Narration::info("hive", phase, message)
}

/// Formats a number of bytes in the unit that suits it.
fn bytes(bytes: u64) -> String {
    let unit = |bits: u32| bytes as f64 / (1_u64 << bits) as f64;
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", unit(10)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", unit(20)),
        _ => format!("{:.1} GiB", unit(30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_one_prefix_and_readable_units() {
        let progress = |done, total, unit: &str| Progress {
            phase: "load".into(),
            done,
            total,
            unit: unit.into(),
            rate: None,
            eta_seconds: None,
            item: None,
            sha256: None,
        };
        for (progress, expected) in [
            (
                progress(31 << 20, Some(100 << 20), "bytes"),
                "worker w-0: load 31 % of 100.0 MiB",
            ),
            (progress(3 << 29, None, "bytes"), "worker w-0: load 1.5 GiB"),
            (
                progress(3, Some(12), "tensors"),
                "worker w-0: load 25 % of 12 tensors",
            ),
            (progress(0, Some(0), "bytes"), "worker w-0: load 0 B"),
        ] {
            let narration = narrate_progress("worker w-0", &progress);
            assert_eq!(narration.message, expected);
            assert_eq!(narration.actor, "hive");
        }
    }
}
