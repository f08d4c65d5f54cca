//! A model of how the queen has a hive spawn a worker: it finds one that runs already, or chooses a
//! device and a generation, and follows the start.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, DeviceId, Generation, WorkerId};
use queen_contract::Availability;
use scheduler::{SchedulerEvent, SpawnTarget};
use worker_registry::{SpawnId, WorkerFilter};

use crate::{
    Bug,
    message::Purpose,
    message::{Event, HiveCall, JobItem, Listed, Number, Reply, SpawnOrder, ToHive},
    world::World,
};

/// Longest wait for a hive.
const HIVE_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for a response of a hive.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// A running worker registers within this time, or it is replaced.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(11);
/// Longest wait for a worker that is being stopped.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Longest silence of a spawn.
const EVENT_LIMIT: Duration = Duration::from_secs(300);
/// How often a task looks again.
const POLL: Duration = Duration::from_millis(250);
/// Maximum number of times that a spawn is repeated because its hive was lost.
const HIVE_LOSSES: u32 = 2;

#[derive(Debug, Clone)]
enum Stage {
    /// Waits until the hive responds.
    Hive {
        until: Duration,
    },
    /// Asked the hive for its workers.
    Listing,
    /// A running worker must register.
    Registering {
        spawn: SpawnId,
        until: Duration,
    },
    /// A worker that is being stopped must exit.
    Exiting {
        spawn: SpawnId,
        until: Duration,
    },
    Spawning {
        job: Number,
        heard: Duration,
    },
}

/// A spawn at a target.
#[derive(Debug, Clone)]
pub(crate) struct SpawnTask {
    target: SpawnTarget,
    pub(crate) node: usize,
    model: usize,
    losses: u32,
    stage: Stage,
    /// From the last list of the hive.
    listed: Vec<Listed>,
    free: Vec<u64>,
}

impl SpawnTask {
    pub(crate) fn job(&self) -> Option<Number> {
        match self.stage {
            Stage::Spawning { job, .. } => Some(job),
            _ => None,
        }
    }
}

impl World<'_> {
    pub(crate) fn begin_task(&mut self, target: SpawnTarget) {
        self.check_task_is_only_one(&target);
        let node = self
            .names
            .nodes
            .iter()
            .position(|name| *name == target.node);
        let model = self
            .names
            .models
            .iter()
            .position(|name| *name == target.model);
        let (Some(node), Some(model)) = (node, model) else {
            return;
        };
        let number = self.number();
        let task = SpawnTask {
            target: target.clone(),
            node,
            model,
            losses: 0,
            stage: Stage::Hive {
                until: self.now + HIVE_LIMIT,
            },
            listed: Vec::new(),
            free: Vec::new(),
        };
        self.queen.tasks.insert(number, task);
        self.queen.tasks_by_target.insert(target, number);
        self.at(self.now, Event::Task(number));
    }

    pub(crate) fn abandon_task(&mut self, target: &SpawnTarget) {
        let Some(number) = self.queen.tasks_by_target.remove(target) else {
            return;
        };
        if let Some(task) = self.queen.tasks.remove(&number)
            && let Some(job) = task.job()
        {
            self.ask_hive(task.node, ToHive::Abandon(job));
        }
    }

    /// A task continues: it waits for something that can be seen, or for too long.
    pub(crate) fn continue_task(&mut self, number: Number) {
        let now = self.now;
        let Some(task) = self.queen.tasks.get_mut(&number) else {
            return;
        };
        let node = task.node;
        let has_hive = self.queen.views[node].has_hive();
        match task.stage.clone() {
            Stage::Hive { .. } if has_hive => {
                task.stage = Stage::Listing;
                self.call_hive(node, HiveCall::Workers, Purpose::Task(number), CALL_LIMIT);
                return;
            }
            Stage::Hive { until } if until <= now => {
                let error = Diagnostic::new(Code::HiveUnreachable, "the hive does not respond");
                return self.end_task(number, Err(error));
            }
            Stage::Registering { until, .. } if until <= now => return self.spawn_now(number),
            Stage::Exiting { until, .. } if until <= now => return self.spawn_now(number),
            Stage::Registering { spawn, .. } | Stage::Exiting { spawn, .. } if has_hive => {
                let call = HiveCall::Worker(spawn.worker);
                self.call_hive(node, call, Purpose::Task(number), CALL_LIMIT);
                return;
            }
            Stage::Spawning { heard, .. } if now.saturating_sub(heard) >= EVENT_LIMIT => {
                let error = Diagnostic::new(Code::HiveUnreachable, "the spawn is silent");
                return self.end_task(number, Err(error));
            }
            Stage::Listing => return,
            Stage::Spawning { heard, .. } => {
                return self.at(heard + EVENT_LIMIT, Event::Task(number));
            }
            _ => {}
        }
        self.at(now + POLL, Event::Task(number));
    }

    pub(crate) fn task_answered(&mut self, number: Number, reply: &Reply) {
        let Some(task) = self.queen.tasks.get_mut(&number) else {
            return;
        };
        match (task.stage.clone(), reply) {
            (Stage::Listing, Reply::Workers(listed, free)) => {
                task.listed.clone_from(listed);
                task.free.clone_from(free);
                self.choose(number);
            }
            (Stage::Listing, _) => self.hive_lost(number),
            (Stage::Registering { spawn, .. } | Stage::Exiting { spawn, .. }, reply) => {
                let runs = matches!(reply, Reply::Worker(Some((generation, true))) if *generation == spawn.generation);
                if runs {
                    self.at(self.now + POLL, Event::Task(number));
                } else {
                    self.spawn_now(number);
                }
            }
            _ => {}
        }
    }

    fn worker_of(&self, task: &SpawnTask) -> (WorkerId, DeviceId) {
        let running = task.listed.iter();
        let mut running = running.filter(|listed| listed.running && listed.model == task.model);
        let device = if let Some(device) = task.target.device {
            device
        } else if task.target.backend == Backend::Cpu {
            DeviceId::Cpu(0)
        } else {
            let known = running.find(|listed| matches!(listed.device, DeviceId::Gpu(_)));
            known.map_or_else(|| freest(&task.free), |listed| listed.device)
        };
        (self.names.worker(task.model, task.node, device), device)
    }

    /// Decides whether a worker runs already that can serve.
    fn choose(&mut self, number: Number) {
        let Some(task) = self.queen.tasks.get(&number).cloned() else {
            return;
        };
        let (worker, _) = self.worker_of(&task);
        let generation = self.queen.generations.get(&worker).copied();
        let running = task.listed.iter().find(|listed| {
            listed.running
                && listed.spawn.worker == worker
                && Some(listed.spawn.generation) == generation
        });
        let Some(spawn) = running.map(|listed| listed.spawn.clone()) else {
            return self.spawn_now(number);
        };
        let filter = WorkerFilter::default();
        let now = self.queen_now();
        let entries = self.queen.scheduler.registry().snapshot(&filter, now);
        let known = entries
            .iter()
            .find(|entry| SpawnId::of(&entry.info) == spawn);
        let stage = match known.map(|entry| entry.availability) {
            Some(Availability::Stalled) => return self.spawn_now(number),
            Some(Availability::Stopping) => Stage::Exiting {
                spawn,
                until: self.now + STOP_LIMIT,
            },
            _ => Stage::Registering {
                spawn,
                until: self.now + REGISTRATION_LIMIT,
            },
        };
        if let Some(task) = self.queen.tasks.get_mut(&number) {
            task.stage = stage;
        }
        self.at(self.now + POLL, Event::Task(number));
    }

    /// A heartbeat of a worker that a task waits for.
    pub(crate) fn heartbeat_for_tasks(&mut self, worker: &WorkerId, generation: Generation) {
        let waits = |task: &SpawnTask| match &task.stage {
            Stage::Registering { spawn, .. } => {
                spawn.worker == *worker && spawn.generation == generation
            }
            _ => false,
        };
        let found = self.queen.tasks.iter().find(|(_, task)| waits(task));
        if let Some(number) = found.map(|(number, _)| *number) {
            let spawn = SpawnId {
                worker: worker.clone(),
                generation,
            };
            self.end_task(number, Ok(spawn));
        }
    }

    fn spawn_now(&mut self, number: Number) {
        let Some(task) = self.queen.tasks.get(&number).cloned() else {
            return;
        };
        let (worker, device) = self.worker_of(&task);
        let filter = WorkerFilter::default();
        let now = self.queen_now();
        let registered = self.queen.scheduler.registry().matching(&filter, now);
        let registered = registered.map(|(info, _)| info.generation);
        let listed = task.listed.iter().map(|listed| listed.spawn.generation);
        let stored = self.queen.generations.get(&worker).copied();
        let highest = registered.chain(listed).chain(stored).max();
        let generation = Generation(highest.map_or(0, |highest| highest.0) + 1);
        self.queen.generations.insert(worker.clone(), generation);
        let job = self.number();
        let now = self.now;
        if let Some(task) = self.queen.tasks.get_mut(&number) {
            task.stage = Stage::Spawning { job, heard: now };
        }
        let order = SpawnOrder {
            spawn: SpawnId { worker, generation },
            model: task.model,
            device,
        };
        self.ask_hive(task.node, ToHive::Spawn(job, order));
        self.at(now + EVENT_LIMIT, Event::Task(number));
    }

    pub(crate) fn job_event(&mut self, job: Number, item: JobItem) {
        let now = self.now;
        let mut tasks = self.queen.tasks.iter_mut();
        let Some((number, task)) = tasks.find(|(_, task)| task.job() == Some(job)) else {
            return;
        };
        let number = *number;
        match item {
            JobItem::Progress => {
                task.stage = Stage::Spawning { job, heard: now };
                let target = task.target.clone();
                self.scheduler_event(SchedulerEvent::SpawnProgress(target));
            }
            JobItem::Done(spawn) => self.end_task(number, Ok(spawn)),
            JobItem::Failed(error) => self.end_task(number, Err(*error)),
            JobItem::Reset => self.hive_lost(number),
        }
    }

    pub(crate) fn hive_lost_for_tasks(&mut self, node: usize) {
        let tasks = self.queen.tasks.iter();
        let lost = tasks.filter(|(_, task)| task.node == node && task.job().is_some());
        let lost: Vec<Number> = lost.map(|(number, _)| *number).collect();
        for number in lost {
            self.hive_lost(number);
        }
    }

    fn hive_lost(&mut self, number: Number) {
        let now = self.now;
        let Some(task) = self.queen.tasks.get_mut(&number) else {
            return;
        };
        if task.losses >= HIVE_LOSSES {
            let error = Diagnostic::new(Code::HiveUnreachable, "the hive was lost");
            return self.end_task(number, Err(error));
        }
        task.losses += 1;
        task.stage = Stage::Hive {
            until: now + HIVE_LIMIT,
        };
        // The loss is noticed after a moment.
        self.at(now + Duration::from_secs(1), Event::Task(number));
    }

    fn end_task(&mut self, number: Number, result: Result<SpawnId, Diagnostic>) {
        let Some(task) = self.queen.tasks.remove(&number) else {
            return;
        };
        self.queen.tasks_by_target.remove(&task.target);
        if self.planted(Bug::DropSpawned) {
            return;
        }
        self.scheduler_event(match result {
            Ok(spawn) => SchedulerEvent::Spawned(task.target, spawn),
            Err(error) => SchedulerEvent::SpawnFailed(task.target, error),
        });
    }
}

/// The GPU with the most free memory.
fn freest(free: &[u64]) -> DeviceId {
    let gpus = free.iter().skip(1).enumerate();
    let best = gpus.max_by_key(|(index, free)| (**free, std::cmp::Reverse(*index)));
    DeviceId::Gpu(best.map_or(0, |(index, _)| index as u16))
}
