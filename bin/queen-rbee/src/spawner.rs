use std::time::Duration;

use diagnostics::{Code, Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::{JobEvent, Progress, SpawnRequest, SpawnResponse, WorkerState};
use hive_lifecycle::{HiveState, RunningHive};
use input_validation::{Backend, DeviceId, Generation};
use jiff::Timestamp;
use queen_store::{DeploymentRow, Place};
use rest_client::CallError;
use scheduler::Target;
use state_files::Home;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use worker_contract::HEARTBEAT_SECONDS;
use worker_registry::{Filter, Lease};

use crate::{app::no_hive, dispatcher::Dispatcher, store::StoreHandle};

/// A hive that is being started (again) is waited for this long.
const HIVE_WITHIN: Duration = Duration::from_secs(20);
/// A worker that runs already is heard within two of its heartbeats, or it is replaced.
const HEARD_WITHIN: Duration = Duration::from_secs(2 * HEARTBEAT_SECONDS + 1);
/// Meanwhile the hive is asked this often whether it still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A hive that is lost and still counts as up after this time was only out of reach.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// How often a spawn is tried again because the hive went away during it.
const HIVE_LOSSES: u32 = 2;

/// Gets workers: the ones that run already, else new ones from the hive.
#[derive(Debug)]
pub struct Spawner {
    /// How the local hive is; absent without one.
    pub hive: Option<watch::Receiver<HiveState>>,
    /// Nodes and deployments.
    pub store: StoreHandle,
    /// Where workers send their heartbeats.
    pub queen_url: String,
    /// Whom to narrate to.
    pub dispatcher: Dispatcher,
}

enum Failure {
    /// The hive went away; it may come back.
    Hive(Diagnostic),
    /// The worker cannot be had.
    Final(Diagnostic),
}

impl From<Diagnostic> for Failure {
    fn from(error: Diagnostic) -> Self {
        Self::Final(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Link(error) => Self::Hive(error),
            CallError::Answer(_, error) => Self::Final(error),
        }
    }
}

impl Spawner {
    /// Gets a worker for the target; its heartbeat has come or is about to.
    pub async fn ensure(&self, target: &Target) -> Result<Lease, Diagnostic> {
        let mut losses = 0;
        loop {
            match self.attempt(target).await {
                Ok(lease) => return Ok(lease),
                Err(Failure::Final(error)) => {
                    tracing::warn!(model = %target.model, code = %error.code, %error, "no worker");
                    return Err(error);
                }
                Err(Failure::Hive(error)) if losses >= HIVE_LOSSES => return Err(error),
                Err(Failure::Hive(error)) => {
                    losses += 1;
                    tracing::warn!(%error, "the hive went away during a spawn");
                    self.narrate(
                        target,
                        Narration::warn("queen", "hive", "the hive went away; trying again"),
                    )
                    .await;
                    self.hive_loss_noticed().await;
                }
            }
        }
    }

    async fn attempt(&self, target: &Target) -> Result<Lease, Failure> {
        let hive = self.hive().await?;
        let device = self.device(&hive, target).await?;
        let place = Place {
            model: target.model.clone(),
            node: target.node.clone(),
            device,
        };
        let row = self
            .store
            .call(move |store| store.deploy(&place, Timestamp::now()))
            .await?;
        let listed = hive.client.workers().await?.workers;
        let running = listed.iter().any(|w| {
            w.worker_id == row.worker_id
                && w.generation == row.generation
                && w.state == WorkerState::Running
        });
        if running {
            let lease = Lease {
                worker: row.worker_id.clone(),
                generation: row.generation,
            };
            if self.is_heard(&hive, &lease).await {
                return Ok(lease);
            }
        }
        let seen = self.highest_generation(&listed).await?;
        let worker = row.worker_id.clone();
        let generation = self
            .store
            .call(move |store| store.next_generation(&worker, seen))
            .await?;
        let spawned = self.spawn(&hive, target, &row, generation).await;
        self.remember(&row, &spawned).await?;
        spawned
    }

    /// Writes down how a spawn ended. What was refused for good and never served is no
    /// deployment.
    async fn remember(
        &self,
        row: &DeploymentRow,
        spawned: &Result<Lease, Failure>,
    ) -> Result<(), Diagnostic> {
        let worker = row.worker_id.clone();
        let never_served = row.generation == Generation(0);
        let error = match spawned {
            Ok(_) => None,
            Err(Failure::Final(error)) if never_served && error.code.http_status() < 500 => {
                return self.store.call(move |s| s.undeploy(&worker)).await;
            }
            Err(Failure::Hive(error) | Failure::Final(error)) => Some(error.message.clone()),
        };
        self.store
            .call(move |store| store.set_last_error(&worker, error.as_deref()))
            .await
    }

    async fn spawn(
        &self,
        hive: &RunningHive,
        target: &Target,
        row: &DeploymentRow,
        generation: Generation,
    ) -> Result<Lease, Failure> {
        let worker = &row.worker_id;
        tracing::info!(%worker, generation = generation.0, model = %target.model, "spawning");
        let message = format!(
            "starting worker {worker} for {} on {} of {}",
            target.model, row.place.device, target.node
        );
        self.narrate(target, Narration::info("queen", "spawn", message))
            .await;
        let request = SpawnRequest {
            worker_id: worker.clone(),
            generation,
            model: target.model.clone(),
            device: row.place.device,
            queen_url: self.queen_url.clone(),
            context_length: None,
            slots: None,
            threads: None,
            wait_ready: true,
        };
        let mut events = std::pin::pin!(hive.client.spawn_events(&request).await?);
        while let Some(event) = events.next().await {
            match event? {
                JobEvent::Narration(narration) => self.narrate(target, narration).await,
                JobEvent::Progress(progress) => {
                    self.narrate(target, progress_told(worker.as_str(), &progress))
                        .await;
                }
                JobEvent::Result(value) => {
                    let spawned: SpawnResponse = serde_json::from_value(value).map_err(|e| {
                        Diagnostic::new(
                            Code::HiveBadResponse,
                            format!("the hive's answer to a spawn cannot be read: {e}"),
                        )
                    })?;
                    return Ok(Lease {
                        worker: spawned.worker_id,
                        generation: spawned.generation,
                    });
                }
                JobEvent::Error(error) => return Err(Failure::Final(error)),
                JobEvent::Cancelled {} => {
                    return Err(Failure::Final(Diagnostic::new(
                        Code::WorkerStartFailed,
                        format!("the start of worker {worker} was cancelled"),
                    )));
                }
            }
        }
        Err(Failure::Hive(Diagnostic::new(
            Code::HiveUnreachable,
            "the hive's stream ended before its result",
        )))
    }

    /// A call may fail a moment before the hive's end is known; without waiting for that the
    /// next attempt would call the dead one again.
    async fn hive_loss_noticed(&self) {
        if let Some(mut state) = self.hive.clone() {
            let down = state.wait_for(|state| !matches!(state, HiveState::Up(_)));
            let _ = timeout(LOSS_NOTICED_WITHIN, down).await;
        }
    }

    /// The hive, waited for when it is being started.
    async fn hive(&self) -> Result<RunningHive, Diagnostic> {
        let mut state = self.hive.clone().ok_or_else(no_hive)?;
        let settled = state
            .wait_for(|state| matches!(state, HiveState::Up(_)) || state.cannot_start().is_some());
        let _ = timeout(HIVE_WITHIN, settled).await;
        match &*state.borrow() {
            HiveState::Up(hive) => Ok(hive.clone()),
            HiveState::Down(error) => Err(error.clone()),
            HiveState::Starting => Err(Diagnostic::new(
                Code::HiveUnreachable,
                "the hive does not come up",
            )
            .hint(format!("see `{}` in rbee's home", Home::HIVE_LOG))),
        }
    }

    async fn device(&self, hive: &RunningHive, target: &Target) -> Result<DeviceId, Failure> {
        if target.backend == Backend::Cpu {
            return Ok(DeviceId::Cpu(0));
        }
        let devices = hive.client.capabilities().await?.devices;
        if let Some(device) = devices.iter().find(|d| d.backend == target.backend) {
            return Ok(device.id);
        }
        let mut there: Vec<String> = devices.iter().map(|d| d.backend.to_string()).collect();
        there.dedup();
        Err(Failure::Final(
            Diagnostic::new(
                Code::BackendUnavailable,
                format!(
                    "node {} has no {} device; it has: {}",
                    target.node,
                    target.backend,
                    there.join(", ")
                ),
            )
            .hint("choose one that it has, for instance `--backend cpu`")
            .param("backend"),
        ))
    }

    /// Whether the worker, whose process runs, tells so itself before long. Ends early when
    /// the process does.
    async fn is_heard(&self, hive: &RunningHive, lease: &Lease) -> bool {
        let deadline = Instant::now() + HEARD_WITHIN;
        let mut heard = std::pin::pin!(self.dispatcher.heard(lease.clone()));
        while Instant::now() < deadline {
            if let Ok(heard) = timeout(LOOK_EVERY, heard.as_mut()).await {
                return heard.is_ok();
            }
            let runs = hive.client.worker(&lease.worker).await.is_ok_and(|worker| {
                worker.generation == lease.generation && worker.state == WorkerState::Running
            });
            if !runs {
                return false;
            }
        }
        tracing::warn!(worker = %lease.worker, "the worker runs but is not heard; replacing it");
        false
    }

    async fn highest_generation(
        &self,
        listed: &[hive_contract::WorkerEntry],
    ) -> Result<Generation, Diagnostic> {
        let heard = self.dispatcher.snapshot(Filter::default()).await?.workers;
        Ok(listed
            .iter()
            .map(|worker| worker.generation)
            .chain(heard.into_iter().map(|worker| worker.info.generation))
            .max()
            .unwrap_or(Generation(0)))
    }

    async fn narrate(&self, target: &Target, narration: Narration) {
        self.dispatcher.narrate(target, narration).await;
    }
}

fn progress_told(worker: &str, progress: &Progress) -> Narration {
    let unit = &progress.unit;
    let message = match progress.total {
        Some(total) if total > 0 => {
            let percent = progress.done as f64 * 100.0 / total as f64;
            format!(
                "worker {worker}: {} {percent:.0} % of {total} {unit}",
                progress.phase
            )
        }
        _ => format!(
            "worker {worker}: {} {} {unit}",
            progress.phase, progress.done
        ),
    };
    Narration::info("worker", &progress.phase, message)
}
