use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use daemon_shell::Token;
use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{EngineEntry, EngineSource, HiveShutdownRequest, WorkerProcess, WorkerState};
use hive_lifecycle::{HiveHost, HiveState, HiveSupervisor, RunningHive};
use input_validation::{Backend, DeviceId, NodeName};
use node_link::{Attention, Link};
use queen_contract::{
    GpuYield, HiveService, NodeEntry, NodePower, NodeSpec, NodeStatus, SleepCall,
};
use scheduler::{DeviceYield, NodeSleep};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use worker_contract::WorkerClient;

use crate::errors;

/// Longest wait for a hive that is starting or restarting.
const HIVE_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the supervisor to notice that a hive is down. A hive that is up after this
/// time was only temporarily out of reach.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// The parts of a node.
pub struct NodeConfig {
    pub name: NodeName,
    pub spec: NodeSpec,
    pub link: Arc<dyn Link>,
    /// The secret shared by the queen and the node's hive and workers.
    pub token: Arc<Token>,
    /// Where the node's hive runs; `None` if the queen does not manage one. Workers of such a
    /// node can serve but cannot be spawned or stopped.
    pub hive: Option<Arc<dyn HiveHost>>,
}

/// A node of the queen.
#[derive(Debug)]
pub struct Node {
    name: NodeName,
    spec: NodeSpec,
    link: Arc<dyn Link>,
    token: Arc<Token>,
    hive: Option<HiveSupervisor>,
    /// State and capabilities, as shown to users.
    entry: Mutex<NodeEntry>,
    /// Worker programs on the node, as its hive reported them last.
    worker_binaries: Mutex<Vec<String>>,
    /// Backends on which other engines than rbee's compute there.
    engine_backends: Mutex<Vec<Backend>>,
    /// Whether its GPUs are left to other programs.
    yields: Mutex<BTreeMap<DeviceId, DeviceYield>>,
    /// Whether it sleeps.
    sleep: watch::Sender<NodeSleep>,
    /// How it was last put to sleep.
    sleep_call: Mutex<SleepCall>,
    /// Why it was not put to sleep, or not woken.
    sleep_failure: Mutex<Option<Diagnostic>>,
    created: Instant,
}

impl Node {
    /// Creates the node and starts to supervise its hive. `known` is the
    /// entry that an earlier run of the queen stored.
    pub(crate) fn new(config: NodeConfig, known: Option<NodeEntry>, wake_limit: Duration) -> Self {
        let unknown = NodeEntry {
            name: config.name.clone(),
            spec: config.spec.clone(),
            hive_url: None,
            hive_version: None,
            hive_service: None,
            status: NodeStatus::Unknown,
            devices: Vec::new(),
            last_connected: None,
            last_error: None,
            gpu_yield: GpuYield::default(),
            yielded: Vec::new(),
            power: NodePower::default(),
        };
        let entry = known.unwrap_or(unknown);
        let asleep = entry.power.asleep.map(|asleep| asleep.cause);
        let node = Self {
            name: config.name,
            spec: config.spec,
            link: config.link,
            token: config.token,
            hive: config.hive.map(HiveSupervisor::start),
            entry: Mutex::new(entry),
            worker_binaries: Mutex::default(),
            engine_backends: Mutex::default(),
            yields: Mutex::default(),
            sleep: watch::Sender::new(NodeSleep::new(asleep, wake_limit)),
            sleep_call: Mutex::default(),
            sleep_failure: Mutex::default(),
            created: Instant::now(),
        };
        if matches!(node.entry().gpu_yield, GpuYield::Now(_)) {
            // Nothing is started there before its hive responds.
            node.decide_yields(&BTreeSet::new());
        }
        let known = node.known_use(false);
        node.change_sleep(|sleep| sleep.set_known(known));
        if asleep.is_some() && node.may_sleep() {
            // It is no loss that its hive does not respond.
            let reason = node.asleep_error();
            node.set_hive_attention(Attention::Rare, Some(reason));
            node.link.set_attention(Attention::Rare);
        }
        node
    }

    pub fn name(&self) -> &NodeName {
        &self.name
    }

    pub(crate) fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    pub(crate) fn link(&self) -> &dyn Link {
        &*self.link
    }

    pub fn token(&self) -> &Arc<Token> {
        &self.token
    }

    /// Returns the node's state and capabilities.
    pub fn entry(&self) -> NodeEntry {
        self.entry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn update_entry(&self, update: impl FnOnce(&mut NodeEntry)) {
        // Read before the entry is locked: whoever reads them may read the entry.
        let sleep = self.sleep().status();
        let by_hive = self.hive_state().map(|state| match &*state.borrow() {
            HiveState::Up(_) => NodeStatus::Reachable,
            HiveState::Down(_) => NodeStatus::Unreachable,
            HiveState::Starting => NodeStatus::Unknown,
        });
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut entry);
        let slept = matches!(
            entry.status,
            NodeStatus::Suspending | NodeStatus::Asleep | NodeStatus::Waking
        );
        // A node that sleeps does not respond, which is no failure.
        match sleep {
            Some(status) => entry.status = status,
            None if slept => entry.status = by_hive.unwrap_or(NodeStatus::Unknown),
            None => {}
        }
    }

    /// Whether the node sleeps.
    pub(crate) fn sleep(&self) -> NodeSleep {
        *self.sleep.borrow()
    }

    /// Whether the node sleeps, now and from now on.
    pub(crate) fn sleep_changes(&self) -> watch::Receiver<NodeSleep> {
        self.sleep.subscribe()
    }

    /// Changes whether the node sleeps. Those who wait for it are notified of another stage.
    pub(crate) fn change_sleep<T>(&self, change: impl FnOnce(&mut NodeSleep) -> T) -> Option<T> {
        let mut result = None;
        self.sleep.send_if_modified(|sleep| {
            let before = sleep.stage();
            result = Some(change(sleep));
            before != sleep.stage()
        });
        result
    }

    /// How eagerly the hive is looked for; see [`HiveSupervisor::set_attention`].
    pub(crate) fn set_hive_attention(&self, attention: Attention, reason: Option<Diagnostic>) {
        if let Some(supervisor) = &self.hive {
            supervisor.set_attention(attention, reason);
        }
    }

    /// How a user last wanted it to be put to sleep.
    pub(crate) fn sleep_call(&self) -> SleepCall {
        *self
            .sleep_call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_sleep_call(&self, call: SleepCall) {
        *self
            .sleep_call
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = call;
    }

    /// Why it was not put to sleep, or not woken, at the last attempt.
    pub(crate) fn sleep_failure(&self) -> Option<Diagnostic> {
        let failure = self.sleep_failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_sleep_failure(&self, error: Diagnostic) {
        self.update_entry(|entry| entry.last_error = Some(error.message.clone()));
        let failure = self.sleep_failure.lock();
        *failure.unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn clear_sleep_failure(&self) {
        let failure = self.sleep_failure.lock();
        *failure.unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn yields(&self) -> MutexGuard<'_, BTreeMap<DeviceId, DeviceYield>> {
        self.yields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since this value was created.
    pub(crate) fn age(&self) -> Duration {
        self.created.elapsed()
    }

    pub(crate) fn worker_binaries(&self) -> Vec<String> {
        let known = self.worker_binaries.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_worker_binaries(&self, programs: Vec<String>) {
        let known = self.worker_binaries.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = programs;
    }

    /// Returns whether another engine than rbee's computes on a backend.
    pub(crate) fn has_engine(&self, backend: Backend) -> bool {
        let known = self.engine_backends.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&backend)
    }

    pub(crate) fn set_engines(&self, engines: &[EngineEntry]) {
        let others = engines
            .iter()
            .filter(|engine| engine.source != EngineSource::BuiltIn && engine.problem.is_none())
            // Those without formats serve no models.
            .filter(|engine| !engine.formats.is_empty());
        let backends = others.flat_map(|engine| engine.backends.iter().copied());
        let known = self.engine_backends.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = backends.collect();
    }

    /// Returns whether the queen manages a hive on the node.
    pub(crate) fn has_hive(&self) -> bool {
        self.hive.is_some()
    }

    /// Returns the state of the hive, now and from now on.
    pub(crate) fn hive_state(&self) -> Option<watch::Receiver<HiveState>> {
        self.hive.as_ref().map(HiveSupervisor::state)
    }

    /// Returns the hive if it responds now.
    pub(crate) fn hive_now(&self) -> Result<RunningHive, Diagnostic> {
        let state = self
            .hive_state()
            .ok_or_else(|| errors::no_hive(&self.name))?;
        let current = state.borrow().clone();
        match current {
            HiveState::Up(hive) => Ok(hive),
            HiveState::Down(_) if self.sleep().status().is_some() => Err(self.asleep_error()),
            HiveState::Down(error) => Err(error),
            HiveState::Starting => Err(errors::hive_starting()),
        }
    }

    /// Who keeps the hive running, if that is known.
    pub(crate) fn hive_service(&self) -> Option<HiveService> {
        self.hive.as_ref().and_then(HiveSupervisor::service)
    }

    /// Whether the queen starts the hive of the node, and therefore stops it.
    pub(crate) fn starts_hive(&self) -> bool {
        self.hive.as_ref().is_some_and(HiveSupervisor::starts_hive)
    }

    /// Returns why the node cannot be used, if waiting a short time does not help.
    pub(crate) fn failure<'a>(&self, state: &'a HiveState) -> Option<&'a Diagnostic> {
        match state {
            HiveState::Down(error) if !self.starts_hive() => Some(error),
            state => state.cannot_start(),
        }
    }

    /// Returns the hive; waits for one that is starting or restarting.
    pub(crate) async fn hive_soon(&self) -> Result<RunningHive, Diagnostic> {
        let mut state = self
            .hive_state()
            .ok_or_else(|| errors::no_hive(&self.name))?;
        let settled = state
            .wait_for(|state| matches!(state, HiveState::Up(_)) || self.failure(state).is_some());
        let _ = timeout(HIVE_LIMIT, settled).await;
        let current = state.borrow().clone();
        match current {
            HiveState::Up(hive) => Ok(hive),
            HiveState::Down(_) if self.sleep().status().is_some() => Err(self.asleep_error()),
            HiveState::Down(error) => Err(error),
            HiveState::Starting => Err(errors::hive_did_not_start()),
        }
    }

    /// Waits until the hive responds, or cannot be started. A hive that was replaced a moment ago
    /// may still count as up.
    pub(crate) async fn hive_responds(&self) {
        let Some(mut state) = self.hive_state() else {
            return;
        };
        loop {
            let current = state.borrow_and_update().clone();
            match current {
                HiveState::Up(hive) if hive.client.health().await.is_ok() => return,
                current if self.failure(&current).is_some() => return,
                _ => {}
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the supervisor has noticed that the hive is down. A call may fail a moment
    /// earlier, and another one made at once would go to the same dead hive.
    pub(crate) async fn hive_loss_noticed(&self) {
        if let Some(mut state) = self.hive_state() {
            let down = state.wait_for(|state| !matches!(state, HiveState::Up(_)));
            let _ = timeout(LOSS_NOTICED_WITHIN, down).await;
        }
    }

    /// Ends the supervision of the hive, so that it is not restarted.
    pub(crate) fn release_hive(&self) {
        if let Some(supervisor) = &self.hive {
            supervisor.release();
        }
    }

    /// Stops the workers `spawned` and the hive, which must have been released. A hive that the
    /// queen does not start keeps running, because the queen could not start it again.
    pub(crate) async fn stop_hive(
        &self,
        hive: &RunningHive,
        spawned: &[WorkerProcess],
        drain_seconds: Option<u64>,
    ) -> Result<(), Diagnostic> {
        match &self.hive {
            Some(supervisor) if supervisor.starts_hive() => {
                let request = HiveShutdownRequest {
                    stop_workers: true,
                    drain_seconds,
                };
                supervisor.stop(hive, &request).await
            }
            Some(_) => {
                let running = spawned
                    .iter()
                    .filter(|worker| worker.state == WorkerState::Running);
                let stops = running.map(|worker| {
                    let (id, generation) = (&worker.worker_id, worker.generation);
                    hive.client.stop_worker(id, generation, drain_seconds)
                });
                let stopped: Result<Vec<()>, _> = join_all(stops).await.into_iter().collect();
                stopped.map(drop).map_err(Diagnostic::from)
            }
            None => Err(errors::no_hive(&self.name)),
        }
    }

    /// Releases what the link keeps for the port of a worker that has ended.
    pub(crate) async fn release_port(&self, port: u16) {
        self.link.release(port).await;
    }

    /// Returns a client for the worker that listens on this port of the node.
    pub(crate) async fn worker_client(&self, port: u16) -> Result<WorkerClient, Diagnostic> {
        let endpoint = self.link.endpoint(port).await?;
        let token = Some(self.token.expose().to_owned());
        Ok(WorkerClient::with_http(
            &endpoint.base,
            token,
            endpoint.http,
        ))
    }
}
