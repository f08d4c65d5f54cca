use std::{collections::HashMap, sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use input_validation::RequestId;
use queen_contract::PolicyFailureEntry;
use scheduler::{
    NewRequest, PolicyState, Scheduler, SchedulerEffect, SchedulerEvent, SpawnTarget, StopCause,
};
use scheduling_policy::Policy;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};
use worker_contract::{WorkerHeartbeat, WorkerStatus};
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter};

use crate::{
    Clock, Dispatcher, DispatcherSnapshot, Notice, OpenRequest, Order, TargetEntry, WorkerSource,
    message::{DryRun, Message, PolicyReport, SpawnAttempt},
    open_request::{Acceptance, Recipient, Report, Reported},
    waiting::describe,
};

/// How often the scheduler receives a tick.
const TICK: Duration = Duration::from_millis(200);

/// Capacity of each of the dispatcher's two channels; senders wait while one is full.
const MAILBOX_CAPACITY: usize = 1024;

impl Dispatcher {
    /// Starts the dispatcher, which gets its workers from `source`.
    pub fn start(scheduler: Scheduler, clock: Clock, source: Arc<dyn WorkerSource>) -> Self {
        let (messages, mailbox) = mpsc::channel(MAILBOX_CAPACITY);
        let (reports, reported) = mpsc::channel(MAILBOX_CAPACITY);
        let handle = Self::new(messages, clock);
        let actor = Actor {
            scheduler,
            source,
            handle: handle.clone(),
            reports,
            requests: HashMap::new(),
            spawns: HashMap::new(),
            next_number: 0,
            heartbeat_listeners: Vec::new(),
            idle_listeners: Vec::new(),
        };
        tokio::spawn(actor.run(mailbox, reported));
        handle
    }
}

struct Actor {
    scheduler: Scheduler,
    source: Arc<dyn WorkerSource>,
    handle: Dispatcher,
    /// For open requests.
    reports: mpsc::Sender<Report>,
    requests: HashMap<RequestId, Recipient>,
    spawns: HashMap<SpawnTarget, (SpawnAttempt, AbortHandle)>,
    /// Numbers acceptances and spawn attempts.
    next_number: u64,
    heartbeat_listeners: Vec<(SpawnId, oneshot::Sender<()>)>,
    idle_listeners: Vec<oneshot::Sender<()>>,
}

impl Actor {
    async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<Message>,
        mut reports: mpsc::Receiver<Report>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = mailbox.recv() => match message {
                    Some(message) => {
                        // A client may use an id again as soon as its response has ended, so
                        // reports that were sent before this message are applied before it.
                        while let Ok(report) = reports.try_recv() {
                            self.reported(report);
                        }
                        self.handle(message);
                    }
                    None => return,
                },
                Some(report) = reports.recv() => self.reported(report),
                _ = ticks.tick() => self.event(SchedulerEvent::Tick),
            }
            self.release_ports();
            self.notify_idle();
        }
    }

    fn release_ports(&mut self) {
        for (node, port) in self.scheduler.take_freed_ports() {
            let source = Arc::clone(&self.source);
            tokio::spawn(async move { source.release_port(&node, port).await });
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Submit(request, reply) => {
                let _ = reply.send(self.submit(request));
            }
            Message::Event(event) => self.event(event),
            Message::Heartbeat(heartbeat, reply) => {
                let _ = reply.send(self.heartbeat(*heartbeat));
            }
            Message::AwaitHeartbeat(spawn, listener) => {
                self.heartbeat_listeners.retain(|(_, l)| !l.is_closed());
                self.heartbeat_listeners.push((spawn, listener));
            }
            Message::SpawnProgress(target, narration) => {
                for id in self.scheduler.waiting_for(&target) {
                    if let Some(recipient) = self.requests.get(id) {
                        recipient.notify(Notice::Narration(narration.clone()));
                    }
                }
                self.event(SchedulerEvent::SpawnProgress(target));
            }
            Message::SpawnEnded(target, attempt, result) => {
                self.spawn_ended(target, attempt, result);
            }
            Message::Snapshot(filter, reply) => {
                let _ = reply.send(self.snapshot(&filter));
            }
            Message::Decisions(about, limit, reply) => {
                let clock = self.handle.clock();
                let decisions = self
                    .scheduler
                    .decisions(about.as_deref(), limit, |at| clock.wall_time(at));
                let _ = reply.send(decisions);
            }
            Message::PolicyState(reply) => {
                let clock = self.handle.clock();
                let PolicyState {
                    failures,
                    suspended,
                    last_failure,
                } = self.scheduler.policy_state().clone();
                let _ = reply.send(PolicyReport {
                    failures,
                    suspended,
                    last_failure: last_failure.map(|(at, failure)| PolicyFailureEntry {
                        time: clock.wall_time(at),
                        message: failure.to_string(),
                    }),
                });
            }
            Message::DryRun(request, policy, reply) => {
                let _ = reply.send(self.dry_run(&request, policy));
            }
            Message::AwaitIdle(reply) => self.idle_listeners.push(reply),
            Message::NodesInUse(reply) => {
                let now = self.handle.clock().now();
                let _ = reply.send(self.scheduler.nodes_in_use(now));
            }
        }
    }

    fn reported(&mut self, report: Report) {
        let Report {
            id,
            acceptance,
            what,
        } = report;
        let recipient = self.requests.get(&id);
        if recipient.is_none_or(|recipient| recipient.acceptance != acceptance) {
            return;
        }
        match what {
            Reported::AttemptFailed(failure) => {
                self.event(SchedulerEvent::AttemptFailed(id, failure));
            }
            Reported::Finished(outcome) => {
                self.requests.remove(&id);
                self.event(SchedulerEvent::Finished(id, outcome));
            }
        }
    }

    fn notify_idle(&mut self) {
        let counts = self.scheduler.counts();
        if counts.waiting + counts.running == 0 {
            for listener in self.idle_listeners.drain(..) {
                let _ = listener.send(());
            }
        }
    }

    fn submit(&mut self, request: NewRequest) -> Result<OpenRequest, Diagnostic> {
        let id = request.id.clone();
        let now = self.handle.clock().now();
        let effects = self.scheduler.submit(request, now)?;
        let acceptance = Acceptance(self.number());
        let (open, recipient) = OpenRequest::new(id.clone(), acceptance, self.reports.clone());
        self.requests.insert(id, recipient);
        self.execute(effects);
        Ok(open)
    }

    fn heartbeat(&mut self, heartbeat: WorkerHeartbeat) -> Result<HeartbeatResult, Diagnostic> {
        let spawn = SpawnId::of(&heartbeat.worker);
        let (status, model) = (heartbeat.worker.status, heartbeat.worker.model_id.clone());
        let (result, effects) = self
            .scheduler
            .heartbeat(heartbeat, self.handle.clock().now());
        let SpawnId { worker, generation } = &spawn;
        match &result {
            Ok(HeartbeatResult::Registered) => {
                tracing::info!(%worker, generation = generation.0, %model, "worker registered");
            }
            Ok(HeartbeatResult::Deregistered) => tracing::info!(%worker, "worker is exiting"),
            Ok(HeartbeatResult::Refreshed | HeartbeatResult::OutOfOrder) => {}
            Err(error) => tracing::warn!(%worker, %error, "worker fenced"),
        }
        let serves = matches!(
            status,
            WorkerStatus::Starting | WorkerStatus::Ready | WorkerStatus::Busy
        );
        if result.is_ok() && serves {
            let listeners = self
                .heartbeat_listeners
                .extract_if(.., |(s, _)| *s == spawn);
            for (_, listener) in listeners {
                let _ = listener.send(());
            }
        }
        self.execute(effects);
        result
    }

    fn event(&mut self, event: SchedulerEvent) {
        let effects = self.scheduler.handle(event, self.handle.clock().now());
        self.execute(effects);
    }

    fn execute(&mut self, effects: Vec<SchedulerEffect>) {
        for effect in effects {
            match effect {
                SchedulerEffect::Assign(id, assignment) => {
                    self.order(&id, Order::Run(assignment));
                }
                SchedulerEffect::Waiting(id, waiting) => {
                    if let Some(recipient) = self.requests.get(&id) {
                        recipient.notify(Notice::Waiting(describe(waiting)));
                    }
                }
                SchedulerEffect::Stop(id, error) => self.order(&id, Order::End(error)),
                SchedulerEffect::Fail(id, error) => {
                    self.order(&id, Order::End(error));
                    self.requests.remove(&id);
                }
                SchedulerEffect::Spawn(target) => self.spawn(target),
                SchedulerEffect::AbandonSpawn(target) => {
                    if let Some((_, task)) = self.spawns.remove(&target) {
                        task.abort();
                    }
                }
                SchedulerEffect::CheckProcess(spawn) => self.check_process(spawn),
                SchedulerEffect::StopWorker(spawn, cause) => self.stop(spawn, cause),
                SchedulerEffect::WorkerExpired(SpawnId { worker, generation }) => {
                    tracing::warn!(%worker, generation = generation.0, "worker removed: no heartbeat for too long");
                }
                SchedulerEffect::PolicyFailed { failure, suspended } => {
                    let consequence = if suspended {
                        "it failed too often in a row and is not run until its file changes"
                    } else {
                        "the default decides where it fails; its further failures are only counted"
                    };
                    tracing::warn!(%failure, "the policy failed: {consequence}");
                }
            }
        }
    }

    fn order(&self, id: &RequestId, order: Order) {
        if let Some(recipient) = self.requests.get(id) {
            recipient.order(order);
        }
    }

    fn spawn(&mut self, target: SpawnTarget) {
        let attempt = SpawnAttempt(self.number());
        let task = tokio::spawn({
            let (source, handle) = (Arc::clone(&self.source), self.handle.clone());
            let target = target.clone();
            async move { source.provide(&target, &handle).await }
        });
        self.spawns
            .insert(target.clone(), (attempt, task.abort_handle()));
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let result = match task.await {
                Ok(result) => result,
                // The spawn was abandoned.
                Err(error) if error.is_cancelled() => return,
                Err(error) => Err(Diagnostic::internal(format!(
                    "the task that spawns a worker failed: {error}"
                ))),
            };
            handle
                .send(Message::SpawnEnded(target, attempt, result))
                .await;
        });
    }

    fn check_process(&self, spawn: SpawnId) {
        let (source, handle) = (Arc::clone(&self.source), self.handle.clone());
        tokio::spawn(async move {
            if source.has_exited(&spawn).await {
                tracing::warn!(worker = %spawn.worker, "the process of a worker has exited");
                handle
                    .send(Message::Event(SchedulerEvent::Exited(spawn)))
                    .await;
            }
        });
    }

    fn stop(&self, spawn: SpawnId, cause: StopCause) {
        let (source, handle) = (Arc::clone(&self.source), self.handle.clone());
        tokio::spawn(async move {
            let worker = &spawn.worker;
            match cause {
                StopCause::Idle => tracing::info!(%worker, "stopping the worker of an idle model"),
                StopCause::Surplus => {
                    tracing::info!(%worker, "stopping a worker that its deployment does not need");
                }
                StopCause::Memory => {
                    tracing::info!(%worker, "stopping a worker: another model needs its memory");
                }
                StopCause::Yield => {
                    tracing::info!(%worker, "stopping a worker: its GPU is left to other programs");
                }
                StopCause::Sleep => {
                    tracing::info!(%worker, "stopping a worker: its node is put to sleep");
                }
                StopCause::Return => {
                    tracing::info!(%worker, "stopping a worker: a GPU is used again in its place");
                }
                StopCause::Stalled => tracing::warn!(%worker, "stopping a stalled worker"),
            }
            if let Err(error) = source.stop(&spawn, cause, &handle).await {
                tracing::warn!(%worker, %error, "a worker was not stopped");
            }
        });
    }

    fn spawn_ended(
        &mut self,
        target: SpawnTarget,
        attempt: SpawnAttempt,
        result: Result<SpawnId, Diagnostic>,
    ) {
        if self.spawns.get(&target).is_none_or(|(a, _)| *a != attempt) {
            return;
        }
        self.spawns.remove(&target);
        self.event(match result {
            Ok(spawn) => SchedulerEvent::Spawned(target, spawn),
            Err(error) => SchedulerEvent::SpawnFailed(target, error),
        });
    }

    fn snapshot(&self, filter: &WorkerFilter) -> DispatcherSnapshot {
        let now = self.handle.clock().now();
        DispatcherSnapshot {
            workers: self.scheduler.registry().snapshot(filter, now),
            counts: self.scheduler.counts(),
            shortfalls: self
                .scheduler
                .shortfalls()
                .map(|(model, shortfall)| (model.clone(), shortfall.clone()))
                .collect(),
            queues: self.scheduler.queues(now),
            unloads: self
                .scheduler
                .unloads(now)
                .map(|(model, remaining)| (model.clone(), remaining))
                .collect(),
            targets: self
                .scheduler
                .targets()
                .map(|(target, state)| TargetEntry {
                    target: target.clone(),
                    starting: state.is_starting(),
                    pause: state.pause(now),
                })
                .collect(),
        }
    }

    /// What would be decided for a request, without a policy and with this one, or else with the
    /// one in use.
    fn dry_run(
        &self,
        request: &NewRequest,
        policy: Option<Arc<Policy>>,
    ) -> Result<DryRun, Diagnostic> {
        let clock = self.handle.clock();
        let run = |policy| {
            let time = |at| clock.wall_time(at);
            self.scheduler
                .dry_run(request.clone(), policy, clock.now(), time)
        };
        let policy = policy.or_else(|| self.scheduler.policy());
        Ok(DryRun {
            default: run(None)?,
            policy: policy.map(|policy| run(Some(policy))).transpose()?,
        })
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
