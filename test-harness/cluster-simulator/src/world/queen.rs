//! The queen: the real scheduler with its registry and queue, and a model of what executes its
//! decisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use input_validation::{Generation, WorkerId};
use scheduler::{
    NodeMap, Scheduler, SchedulerEffect, SchedulerEvent, SchedulerSettings, SpawnTarget,
};
use worker_contract::WorkerHeartbeat;
use worker_registry::SpawnId;

use crate::{
    Bug,
    deployment_plan::WantedWorkers,
    message::{Event, HiveCall, Number, ProcessIndex, Purpose, ToHive, ToProcess, ToQueen},
    promise::Promise,
    world::World,
    world::calls::Call,
    world::network::Way,
    world::relay::Phase,
    world::spawning::SpawnTask,
    world::views::View,
};

/// How often the scheduler receives a tick.
pub(crate) const TICK: Duration = Duration::from_millis(200);

pub(crate) struct Queen {
    pub(crate) is_down: bool,
    /// Number of its process.
    pub(crate) run: u32,
    pub(crate) started: Duration,
    pub(crate) scheduler: Scheduler,
    pub(crate) views: Vec<View>,
    pub(crate) calls: BTreeMap<Number, Call>,
    pub(crate) tasks: BTreeMap<Number, SpawnTask>,
    pub(crate) tasks_by_target: BTreeMap<SpawnTarget, Number>,
    /// Since when a target is starting without a spawn task.
    pub(crate) starting: BTreeMap<SpawnTarget, Duration>,
    /// Requests that run on each process since it registered.
    pub(crate) load: BTreeMap<ProcessIndex, u32>,
    pub(super) nodes: NodeMap,
    pub(super) memory_compared: Duration,
    /// On its disk: the last generation of each worker.
    pub(crate) generations: BTreeMap<WorkerId, Generation>,
    /// On its disk: what is deployed, by the index of the model.
    pub(crate) deployed: BTreeMap<usize, WantedWorkers>,
    /// On its disk: the lowest generation of each worker that may serve.
    pub(crate) fences: BTreeMap<WorkerId, u64>,
}

impl Queen {
    pub(crate) fn new(nodes: usize, settings: SchedulerSettings) -> Self {
        Self {
            is_down: false,
            run: 0,
            started: Duration::ZERO,
            scheduler: Scheduler::new(settings),
            views: vec![View::default(); nodes],
            calls: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tasks_by_target: BTreeMap::new(),
            starting: BTreeMap::new(),
            load: BTreeMap::new(),
            nodes: NodeMap::new(),
            memory_compared: Duration::ZERO,
            generations: BTreeMap::new(),
            deployed: BTreeMap::new(),
            fences: BTreeMap::new(),
        }
    }
}

impl World<'_> {
    /// The time of the queen's clock.
    pub(crate) fn queen_now(&self) -> Duration {
        self.now.saturating_sub(self.queen.started)
    }

    pub(crate) fn start_queen(&mut self) {
        let mut settings = SchedulerSettings {
            queue_limit: self.plan.queue_limit,
            ..SchedulerSettings::default()
        };
        if self.bug == Some(Bug::NoQueueLimit) {
            settings.queue_limit = usize::MAX;
        }
        let now = self.now;
        let queen = &mut self.queen;
        queen.is_down = false;
        queen.run += 1;
        queen.started = now;
        queen.scheduler = Scheduler::new(settings);
        queen.nodes = NodeMap::new();
        for view in &mut queen.views {
            *view = View::unknown_since(now);
        }
        let run = queen.run;
        let fences = queen.fences.clone();
        for (worker, lowest) in fences {
            self.scheduler_event(SchedulerEvent::Fence(worker, Generation(lowest)));
        }
        if !self.queen.deployed.is_empty() && self.bug != Some(Bug::ForgetDeployments) {
            let deployments = self.deployment_map();
            self.scheduler_event(SchedulerEvent::Deployments(deployments, BTreeSet::new()));
        }
        self.update_policy();
        self.update_nodes();
        self.at(now, Event::Poll(run));
        self.at(now + TICK, Event::Tick(run));
    }

    pub(crate) fn crash_queen(&mut self) {
        let queen = &mut self.queen;
        queen.is_down = true;
        queen.calls.clear();
        queen.starting.clear();
        queen.load.clear();
        queen.tasks_by_target.clear();
        let tasks = std::mem::take(&mut queen.tasks);
        for (_, task) in tasks {
            if let Some(job) = task.job() {
                self.ask_hive(task.node, ToHive::Abandon(job));
            }
        }
        self.waiting = 0;
        self.running = 0;
        for index in 0..self.requests.len() {
            let phase = std::mem::replace(&mut self.requests[index].phase, Phase::Ended);
            match phase {
                Phase::Future => self.requests[index].phase = Phase::Future,
                Phase::Ended => {}
                Phase::Running(attempt) => {
                    self.close(&attempt);
                    self.end_for_client(index, scheduler::RequestOutcome::Failed);
                }
                Phase::Waiting | Phase::Reporting(..) | Phase::Cancelling(..) => {
                    self.end_for_client(index, scheduler::RequestOutcome::Failed);
                }
            }
        }
    }

    pub(crate) fn queen_event(&mut self, message: ToQueen) {
        if self.queen.is_down {
            return;
        }
        match message {
            ToQueen::Heartbeat(process, heartbeat) => self.heartbeat(process, *heartbeat),
            ToQueen::Reply(call, reply) => self.answered(call, &reply),
            ToQueen::Stream(request, connection, item) => {
                self.stream_event(request, connection, item);
            }
            ToQueen::Job(job, item) => self.job_event(job, item),
        }
    }

    pub(crate) fn tick(&mut self, run: u32) {
        if self.queen.run != run || self.queen.is_down {
            return;
        }
        if self.bug == Some(Bug::KeepDead) {
            self.revive_dead();
        }
        if !self.planted(Bug::NoTicks) {
            self.scheduler_event(SchedulerEvent::Tick);
        }
        self.check_tick();
        self.at(self.now + TICK, Event::Tick(run));
    }

    /// A planted bug: the workers that are gone send heartbeats.
    fn revive_dead(&mut self) {
        let filter = worker_registry::WorkerFilter::default();
        let now = self.queen_now();
        let entries = self.queen.scheduler.registry().snapshot(&filter, now);
        for entry in entries {
            let process = entry.info.pid as usize - 1;
            if self.processes[process].is_dead() {
                let heartbeat = WorkerHeartbeat {
                    worker: entry.info,
                    timestamp: jiff::Timestamp::UNIX_EPOCH,
                    sequence: now.as_millis() as u64 + 1_000_000,
                };
                self.heartbeat(process, heartbeat);
            }
        }
    }

    fn heartbeat(&mut self, process: ProcessIndex, mut heartbeat: WorkerHeartbeat) {
        let number = heartbeat.sequence;
        let (id, node) = (heartbeat.worker.id.clone(), self.processes[process].node);
        let lowest = self.queen.fences.get(&id).copied().unwrap_or(0);
        if heartbeat.worker.generation.0 < lowest && self.planted(Bug::AcceptFenced) {
            heartbeat.worker.generation = Generation(lowest);
        }
        let generation = heartbeat.worker.generation;
        let true_generation = self.processes[process].spawn.generation.0;
        let now = self.queen_now();
        let (result, effects) = self.queen.scheduler.heartbeat(heartbeat, now);
        if result.is_ok() && true_generation < lowest {
            let message = format!("a heartbeat of worker {id} was accepted, but it is fenced");
            self.violate(Promise::Fence, message);
        }
        match &result {
            Ok(worker_registry::HeartbeatResult::Registered) => {
                // The registry counts the requests since the registration.
                self.queen.load.insert(process, 0);
                self.raise_fence(&id, generation.0);
            }
            Ok(worker_registry::HeartbeatResult::Deregistered) => {
                self.raise_fence(&id, generation.0 + 1);
            }
            _ => {}
        }
        if result.is_ok() {
            self.heartbeat_for_tasks(&id, generation);
        }
        let reply = ToProcess::HeartbeatReply {
            number,
            fenced: result.is_err(),
        };
        self.execute(effects);
        self.send(node, Way::To, Event::Process(process, reply));
    }

    /// A user has a worker stopped or replaced.
    pub(crate) fn user_stops(&mut self, process: ProcessIndex, amount: u32) {
        let spawn = self.processes[process].spawn.clone();
        let node = self.processes[process].node;
        let is_unknown = amount.is_multiple_of(4);
        if !is_unknown && !self.queen.views[node].has_hive() {
            return;
        }
        self.scheduler_event(if amount.is_multiple_of(2) {
            SchedulerEvent::Replacing(spawn.clone())
        } else {
            SchedulerEvent::Stopping(spawn.clone())
        });
        if is_unknown {
            self.stopped(&spawn);
        } else {
            let call = HiveCall::Stop(spawn.clone(), true);
            self.call_hive(node, call, Purpose::Stop(spawn), Duration::from_secs(60));
        }
    }

    fn raise_fence(&mut self, worker: &WorkerId, lowest: u64) {
        let fence = self.queen.fences.entry(worker.clone()).or_insert(lowest);
        *fence = (*fence).max(lowest);
    }

    /// A worker was stopped, or could not be: it must not serve any more.
    pub(super) fn stopped(&mut self, spawn: &SpawnId) {
        let lowest = spawn.generation.0 + 1;
        self.raise_fence(&spawn.worker, lowest);
        self.scheduler_event(SchedulerEvent::Fence(
            spawn.worker.clone(),
            Generation(lowest),
        ));
    }

    pub(crate) fn scheduler_event(&mut self, event: SchedulerEvent) {
        let now = self.queen_now();
        let effects = self.queen.scheduler.handle(event, now);
        // The simulated links keep nothing for a port.
        self.queen.scheduler.take_freed_ports();
        self.execute(effects);
    }

    pub(crate) fn execute(&mut self, effects: Vec<SchedulerEffect>) {
        for effect in effects {
            match effect {
                SchedulerEffect::Assign(id, mut assignment) => {
                    let Some(index) = index_of(id.as_str()) else {
                        continue;
                    };
                    if self.planted(Bug::WrongWorker) {
                        let filter = worker_registry::WorkerFilter::default();
                        let now = self.queen_now();
                        let others = self.queen.scheduler.registry().snapshot(&filter, now);
                        if let Some(other) = others.into_iter().next() {
                            assignment.worker = other.info;
                        }
                    }
                    self.assign(index, &assignment);
                    if self.planted(Bug::DoubleAssign) {
                        self.assign(index, &assignment);
                    }
                }
                SchedulerEffect::Fail(id, _) => {
                    if let Some(index) = index_of(id.as_str()) {
                        self.failed_by_scheduler(index);
                    }
                }
                SchedulerEffect::Stop(id, _) => {
                    if let Some(index) = index_of(id.as_str()) {
                        self.interrupt(index, scheduler::RequestOutcome::Failed);
                    }
                }
                SchedulerEffect::Spawn(target) => {
                    self.check_spawn_policy(&target);
                    self.begin_task(target.clone());
                    if self.planted(Bug::DoubleSpawn) {
                        self.begin_task(target);
                    }
                }
                SchedulerEffect::AbandonSpawn(target) => self.abandon_task(&target),
                SchedulerEffect::StopWorker(..) if self.planted(Bug::DropStop) => {}
                SchedulerEffect::StopWorker(spawn, cause) => {
                    let info = self.queen.scheduler.registry().get_spawn(&spawn);
                    let node = info.map(|info| self.processes[info.pid as usize - 1].node);
                    match node.filter(|node| self.queen.views[*node].has_hive()) {
                        Some(node) => {
                            let drains = cause != scheduler::StopCause::Stalled;
                            let call = HiveCall::Stop(spawn.clone(), drains);
                            self.call_hive(
                                node,
                                call,
                                Purpose::Stop(spawn),
                                Duration::from_secs(60),
                            );
                        }
                        None => self.stopped(&spawn),
                    }
                }
                SchedulerEffect::CheckProcess(spawn) => self.check_process(spawn),
                SchedulerEffect::Waiting(..)
                | SchedulerEffect::WorkerExpired(_)
                | SchedulerEffect::PolicyFailed { .. } => {}
            }
        }
    }

    pub(crate) fn check_task_is_only_one(&mut self, target: &SpawnTarget) {
        if self.queen.tasks_by_target.contains_key(target) {
            let message = format!("two spawns of {} on {}", target.model, target.node);
            self.violate(Promise::Spawns, message);
        }
    }
}

fn index_of(id: &str) -> Option<usize> {
    id.strip_prefix('r')?.parse().ok()
}
