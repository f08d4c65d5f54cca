//! Hives: the real state machines of starts and stops, and a model of the checks before a start.

use std::{collections::BTreeMap, time::Duration};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::{Code, Diagnostic};
use input_validation::{DeviceId, WorkerId};
use worker_contract::{API_VERSION, LoadProgress};
use worker_lifecycle::{
    StartLimits,
    decisions::{
        Admission, Existing, Exit, StartEffect, StartEvent, StartSequence, StopEffect, StopEvent,
        StopSequence, admit,
    },
};

use crate::{
    Bug,
    fault::FaultKind,
    message::{
        Event, HiveCall, JobItem, Listed, Number, ProcessIndex, Reply, SpawnOrder, ToHive,
        ToProcess, ToQueen,
    },
    promise::Promise,
    world::World,
    world::network::Way,
    world::process::{BOOT, Process, Stage},
    world::stops::{POLL, Stop, stop_limits},
};

/// The last spawn of a worker, as its record says.
#[derive(Debug, Clone)]
struct Record {
    process: ProcessIndex,
    model: usize,
    device: DeviceId,
}

#[derive(Debug)]
enum JobStage {
    /// Another spawn of the worker is stopping its older process.
    Locked,
    Stopping(ProcessIndex, StopSequence, Option<Duration>),
    Starting(ProcessIndex, StartSequence),
}

/// A spawn.
#[derive(Debug)]
struct Job {
    order: SpawnOrder,
    stage: JobStage,
    abandoned: bool,
    arrives: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Hive {
    pub(crate) is_down: bool,
    /// Number of its process, from 0.
    pub(crate) run: u32,
    records: BTreeMap<WorkerId, Record>,
    jobs: BTreeMap<Number, Job>,
    pub(super) stops: BTreeMap<Number, Stop>,
}

impl World<'_> {
    pub(crate) fn hive_event(&mut self, node: usize, message: ToHive) {
        if !self.is_powered(node) {
            return;
        }
        if self.hives[node].is_down {
            match message {
                ToHive::Call(call, _) => self.reply(node, call, Reply::Refused),
                ToHive::Spawn(job, _) => self.job_item(node, job, JobItem::Reset),
                ToHive::Abandon(_) => {}
            }
            return;
        }
        match message {
            ToHive::Call(call, HiveCall::Ping) => {
                let free = self.free_memory(node);
                self.reply(node, call, Reply::Pong(free));
            }
            ToHive::Call(call, HiveCall::Workers) => {
                let free = self.free_memory(node);
                let records = self.hives[node].records.values();
                let listed = records.map(|record| {
                    let process = &self.processes[record.process];
                    Listed {
                        spawn: process.spawn.clone(),
                        model: record.model,
                        device: record.device,
                        running: !process.is_dead(),
                    }
                });
                let reply = Reply::Workers(listed.collect(), free);
                self.reply(node, call, reply);
            }
            ToHive::Call(call, HiveCall::Worker(id)) => {
                let record = self.hives[node].records.get(&id);
                let found = record.map(|record| {
                    let process = &self.processes[record.process];
                    (process.spawn.generation, !process.is_dead())
                });
                self.reply(node, call, Reply::Worker(found));
            }
            // The second copy of a call.
            ToHive::Call(call, HiveCall::Stop(..))
                if self.hives[node].stops.contains_key(&call) => {}
            ToHive::Call(call, HiveCall::Stop(spawn, drains)) => {
                let record = self.hives[node].records.get(&spawn.worker);
                let process = record.map(|record| record.process).filter(|index| {
                    let process = &self.processes[*index];
                    !process.is_dead() && process.spawn.generation == spawn.generation
                });
                match process {
                    None => self.reply(node, call, Reply::Stopped),
                    Some(process) => {
                        let sequence = StopSequence::new(stop_limits(drains));
                        let stop = Stop {
                            process,
                            sequence,
                            until: None,
                        };
                        self.hives[node].stops.insert(call, stop);
                        self.step_stop(node, call, StopEvent::Begin);
                    }
                }
            }
            ToHive::Spawn(job, order) => self.begin_job(node, job, order),
            ToHive::Abandon(job) => {
                if let Some(job) = self.hives[node].jobs.get_mut(&job) {
                    job.abandoned = true;
                }
            }
        }
    }

    /// The free memory as the machine measures it: of the main memory, then of each GPU.
    pub(crate) fn free_memory(&self, node: usize) -> Vec<u64> {
        let plan = &self.plan.nodes[node];
        let ram = (DeviceId::Cpu(0), plan.ram_bytes);
        let gpus = plan.gpu_bytes.iter().enumerate();
        let gpus = gpus.map(|(index, bytes)| (DeviceId::Gpu(index as u16), *bytes));
        let free = |(device, bytes): (DeviceId, u64)| {
            let here = self.processes_of(node, device);
            let used: u64 = here.map(Process::allocated).sum();
            bytes.saturating_sub(used)
        };
        std::iter::once(ram).chain(gpus).map(free).collect()
    }

    /// Subtracts what the workers that are loading, and those of admitted spawns, will need.
    fn reserve_for_loading(&self, node: usize, free: &mut [u64]) {
        for (index, free) in free.iter_mut().enumerate() {
            let device = match index {
                0 => DeviceId::Cpu(0),
                gpu => DeviceId::Gpu(gpu as u16 - 1),
            };
            let here = self.processes_of(node, device);
            let loading: u64 = here
                .map(|process| process.bytes - process.allocated())
                .sum();
            let jobs = self.hives[node].jobs.values();
            let admitted = jobs.filter(|job| {
                job.order.device == device && !matches!(job.stage, JobStage::Starting(..))
            });
            // The older process of the worker makes way.
            let admitted = admitted.map(|job| {
                let bytes = self.plan.models[job.order.model].bytes;
                let older = self.hives[node].records.get(&job.order.spawn.worker);
                let freed = older.map_or(0, |older| self.processes[older.process].allocated());
                bytes.saturating_sub(freed)
            });
            let pending = loading + admitted.sum::<u64>();
            *free = free.saturating_sub(pending);
        }
    }

    fn processes_of(&self, node: usize, device: DeviceId) -> impl Iterator<Item = &Process> {
        let records = self.hives[node].records.values();
        records
            .map(|record| &self.processes[record.process])
            .filter(move |process| process.device == device && !process.is_dead())
    }

    fn begin_job(&mut self, node: usize, number: Number, order: SpawnOrder) {
        if let Err(error) = self.check_machine(node, &order) {
            return self.job_item(node, number, JobItem::Failed(Box::new(error)));
        }
        let job = Job {
            order,
            stage: JobStage::Locked,
            abandoned: false,
            arrives: Duration::ZERO,
        };
        self.hives[node].jobs.insert(number, job);
        self.make_way(node, number);
    }

    /// The checks before a start, as far as they concern memory and disk.
    fn check_machine(&mut self, node: usize, order: &SpawnOrder) -> Result<(), Diagnostic> {
        if self.node_has(node, FaultKind::FullDisk) {
            return Err(Diagnostic::new(Code::InsufficientDisk, "the disk is full"));
        }
        if self.planted(Bug::NoMemoryCheck) {
            return Ok(());
        }
        let need = self.plan.models[order.model].bytes;
        let mut free = self.free_memory(node);
        if !self.planted(Bug::ForgetLoading) {
            self.reserve_for_loading(node, &mut free);
        }
        let record = self.hives[node].records.get(&order.spawn.worker);
        let own = record.map(|record| &self.processes[record.process]);
        let freed = own.map_or(0, Process::allocated);
        let (available, code) = match order.device {
            DeviceId::Cpu(_) => (free[0] + freed, Code::InsufficientRam),
            // How much a process has of a GPU's memory is not known.
            DeviceId::Gpu(_) if own.is_some_and(|own| !own.is_dead()) => return Ok(()),
            DeviceId::Gpu(index) => {
                let free = free.get(1 + usize::from(index));
                (free.copied().unwrap_or(0), Code::InsufficientVram)
            }
        };
        if need <= available {
            return Ok(());
        }
        Err(Diagnostic::new(code, "too little memory is free")
            .detail("need_bytes", need)
            .detail("available_bytes", available))
    }

    /// Stops an older process of the worker, unless another spawn does that already, and then
    /// starts the new one.
    fn make_way(&mut self, node: usize, number: Number) {
        let hive = &self.hives[node];
        let Some(job) = hive.jobs.get(&number) else {
            return;
        };
        let spawn = job.order.spawn.clone();
        let is_locked = hive.jobs.iter().any(|(other, job)| {
            *other != number
                && job.order.spawn.worker == spawn.worker
                && matches!(job.stage, JobStage::Stopping(..))
        });
        if is_locked {
            return self.job_continues(node, number, self.now + POLL);
        }
        let record = hive.records.get(&spawn.worker);
        let existing = record.map(|record| {
            let process = &self.processes[record.process];
            Existing {
                generation: process.spawn.generation,
                running: (!process.is_dead()).then_some(ProcessIdentity {
                    pid: record.process as u32 + 1,
                    start_time: 0,
                }),
            }
        });
        match admit(&spawn.worker, spawn.generation, existing) {
            Err(error) => self.fail_job(node, number, error),
            Ok(Admission::Supersede(process)) if !self.planted(Bug::NoSupersede) => {
                let process = process.pid as usize - 1;
                let sequence = StopSequence::new(stop_limits(false));
                if let Some(job) = self.hives[node].jobs.get_mut(&number) {
                    job.stage = JobStage::Stopping(process, sequence, None);
                }
                self.step_job_stop(node, number, StopEvent::Begin);
            }
            Ok(_) => self.start_process(node, number),
        }
    }

    fn start_process(&mut self, node: usize, number: Number) {
        let Some(job) = self.hives[node].jobs.get(&number) else {
            return;
        };
        let SpawnOrder {
            spawn,
            model,
            device,
        } = job.order.clone();
        let bytes = self.plan.models[model].bytes;
        let index = self.processes.len();
        let limits = (self.plan.slots, self.plan.blocks);
        let (place, now) = ((node, model, device), self.now);
        let process = Process::new(spawn.clone(), place, bytes, limits, now);
        self.check_start(&process);
        self.processes.push(process);
        let record = Record {
            process: index,
            model,
            device,
        };
        let hive = &mut self.hives[node];
        hive.records.insert(spawn.worker, record);
        if let Some(job) = hive.jobs.get_mut(&number) {
            job.stage =
                JobStage::Starting(index, StartSequence::new(StartLimits::default(), bytes));
        }
        self.at(now + BOOT, Event::Process(index, ToProcess::Load));
        self.job_continues(node, number, now + POLL);
    }

    fn check_start(&mut self, new: &Process) {
        let live = self.processes.iter();
        let live = live.filter(|p| p.node == new.node && !p.is_dead());
        let (mut twice, mut bytes) = (false, new.bytes);
        for process in live {
            twice |= process.spawn.worker == new.spawn.worker;
            if process.device == new.device {
                bytes += process.bytes;
            }
        }
        let plan = &self.plan.nodes[new.node];
        let most = match new.device {
            DeviceId::Cpu(_) => plan.ram_bytes,
            DeviceId::Gpu(index) => plan.gpu_bytes[usize::from(index)],
        };
        let worker = &new.spawn.worker;
        if twice {
            self.violate(
                Promise::OneProcess,
                format!("worker {worker} has two processes"),
            );
        }
        if bytes > most {
            self.violate(
                Promise::Memory,
                format!("with worker {worker}, the workers need {bytes} bytes of {most}"),
            );
        }
    }

    fn job_continues(&mut self, node: usize, number: Number, at: Duration) {
        let run = self.hives[node].run;
        self.at(at, Event::Job(node, number, run));
    }

    pub(crate) fn continue_job(&mut self, node: usize, number: Number, run: u32) {
        let hive = &mut self.hives[node];
        if hive.run != run || hive.is_down {
            return;
        }
        let Some(job) = hive.jobs.get_mut(&number) else {
            return;
        };
        match &job.stage {
            JobStage::Locked => self.make_way(node, number),
            JobStage::Stopping(process, _, until) => {
                let (process, until) = (*process, *until);
                if self.processes[process].is_dead() {
                    self.step_job_stop(node, number, StopEvent::Exited);
                } else if until.is_some_and(|until| until <= self.now) {
                    self.step_job_stop(node, number, StopEvent::Timeout);
                } else {
                    self.job_continues(node, number, self.now + POLL);
                }
            }
            JobStage::Starting(..) => self.poll_start(node, number),
        }
    }

    fn step_job_stop(&mut self, node: usize, number: Number, event: StopEvent) {
        let now = self.now;
        let Some(job) = self.hives[node].jobs.get_mut(&number) else {
            return;
        };
        let JobStage::Stopping(process, sequence, until) = &mut job.stage else {
            return;
        };
        let process = *process;
        let (mut done, mut gave_up, mut requested) = (false, false, None);
        let mut signals = Vec::new();
        for effect in sequence.step(event, now) {
            match effect {
                StopEffect::RequestShutdown => {
                    requested = Some(self.processes[process].frozen_until <= now);
                }
                StopEffect::Signal(signal) => signals.push(signal),
                StopEffect::WaitUntil(time) => *until = Some(time),
                StopEffect::Done => done = true,
                StopEffect::GiveUp => gave_up = true,
            }
        }
        for signal in signals {
            self.signal(process, signal);
        }
        if let Some(responds) = requested {
            let event = if responds {
                StopEvent::Requested
            } else {
                StopEvent::RequestFailed
            };
            return self.step_job_stop(node, number, event);
        }
        if done {
            self.start_process(node, number);
        } else if gave_up {
            let error = Diagnostic::new(Code::WorkerStartFailed, "the older process does not exit");
            self.fail_job(node, number, error);
        } else {
            self.job_continues(node, number, now + POLL);
        }
    }

    fn poll_start(&mut self, node: usize, number: Number) {
        let now = self.now;
        let Some(job) = self.hives[node].jobs.get_mut(&number) else {
            return;
        };
        let JobStage::Starting(index, sequence) = &mut job.stage else {
            return;
        };
        let process = &self.processes[*index];
        let age = now.saturating_sub(process.started);
        let event = match process.stage {
            Stage::Dead => StartEvent::Exited(Exit::Unknown),
            _ if job.abandoned => StartEvent::Cancel,
            _ if process.frozen_until > now => StartEvent::NoResponse,
            Stage::Loading if age < BOOT => StartEvent::NoResponse,
            Stage::Loading if age < BOOT + POLL => StartEvent::Listening(API_VERSION),
            Stage::Loading => StartEvent::Loading(LoadProgress {
                done: process.loaded,
                total: 1_000_000,
            }),
            Stage::Ready | Stage::Draining => StartEvent::Ready,
        };
        let (index, spawn) = (*index, process.spawn.clone());
        let effects = sequence.step(event, age);
        for effect in effects {
            match effect {
                StartEffect::Up | StartEffect::Progress(_) => {
                    self.job_item(node, number, JobItem::Progress);
                }
                StartEffect::Ready => {
                    self.job_item(node, number, JobItem::Done(spawn));
                    self.hives[node].jobs.remove(&number);
                    return;
                }
                StartEffect::NextPort => {}
                StartEffect::Fail(failure) => {
                    self.signal(index, Signal::Kill);
                    let message = format!("the start failed: {failure:?}");
                    let error = Diagnostic::new(Code::WorkerStartFailed, message);
                    return self.fail_job(node, number, error);
                }
            }
        }
        self.job_continues(node, number, now + POLL);
    }

    fn fail_job(&mut self, node: usize, number: Number, error: Diagnostic) {
        self.job_item(node, number, JobItem::Failed(Box::new(error)));
        self.hives[node].jobs.remove(&number);
    }

    fn job_item(&mut self, node: usize, number: Number, item: JobItem) {
        let job = self.hives[node].jobs.get(&number);
        let before = job.map_or(Duration::ZERO, |job| job.arrives);
        let event = Event::Queen(ToQueen::Job(number, item));
        let arrives = self.stream(node, Way::From, before, event);
        if let Some(job) = self.hives[node].jobs.get_mut(&number) {
            job.arrives = arrives;
        }
    }

    /// The hive dies. Its workers outlive it.
    pub(crate) fn crash_hive(&mut self, node: usize, powered: bool) {
        let hive = &mut self.hives[node];
        hive.is_down = true;
        hive.run += 1;
        let jobs: Vec<(Number, Duration)> = hive
            .jobs
            .iter()
            .map(|(number, job)| (*number, job.arrives))
            .collect();
        let stops: Vec<Number> = hive.stops.keys().copied().collect();
        hive.jobs.clear();
        hive.stops.clear();
        if !powered {
            return;
        }
        for (job, before) in jobs {
            self.stream(
                node,
                Way::From,
                before,
                Event::Queen(ToQueen::Job(job, JobItem::Reset)),
            );
        }
        for stop in stops {
            self.reply(node, stop, Reply::Refused);
        }
    }
}
