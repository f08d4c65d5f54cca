use std::{collections::HashMap, sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic, Narration};
use input_validation::RequestId;
use queen_contract::{RequestCounts, WorkerEntry};
use scheduler::{Assignment, Effect, Event, Scheduler, Submission, Target, Wait};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use worker_contract::{WorkerHeartbeat, WorkerStatus};
use worker_registry::{Filter, Heard, Lease};

use crate::{clock::Clock, spawner::Spawner};

/// Messages that may wait for the dispatcher; senders wait when it is full.
const MAILBOX: usize = 1024;
/// Directives that may wait for one request. Narration is left out when few places are
/// left; an order always finds one, because at most two are ever under way.
const DIRECTIVES: usize = 16;
const KEPT_FOR_ORDERS: usize = 4;
/// How often time passes for the scheduler.
const TICK: Duration = Duration::from_millis(200);

/// What the dispatcher tells the relay of a request.
#[derive(Debug)]
pub enum Directive {
    /// For the client, while it waits.
    Narrate(Narration),
    /// Run on this worker.
    Run(Box<Assignment>),
    /// End with this error.
    End(Diagnostic),
}

/// A target and the attempts to have a worker there.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// The target.
    pub target: Target,
    /// A spawn is under way.
    pub starting: bool,
    /// Time until the next attempt may begin.
    pub pause: Duration,
}

/// The dispatcher's state at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Workers, by name.
    pub workers: Vec<WorkerEntry>,
    /// Requests, counted.
    pub counts: RequestCounts,
    /// Attempts to have workers.
    pub targets: Vec<TargetView>,
}

enum Message {
    Submit(
        Submission,
        mpsc::Sender<Directive>,
        oneshot::Sender<Result<(), Diagnostic>>,
    ),
    Event(Event),
    Heartbeat(
        Box<WorkerHeartbeat>,
        oneshot::Sender<Result<Heard, Diagnostic>>,
    ),
    Narrate(Target, Narration),
    Snapshot(Filter, oneshot::Sender<Snapshot>),
    Heard(Lease, oneshot::Sender<()>),
    Idle(oneshot::Sender<()>),
}

/// The one owner of the scheduler's state, reached by messages.
#[derive(Debug, Clone)]
pub struct Dispatcher(mpsc::Sender<Message>);

impl Dispatcher {
    /// Starts the dispatcher; it runs spawns with what `spawner` makes of its handle.
    pub fn start(
        scheduler: Scheduler,
        clock: Clock,
        spawner: impl FnOnce(Self) -> Arc<Spawner>,
    ) -> Self {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let handle = Self(sender);
        let actor = Actor {
            scheduler,
            clock,
            spawner: spawner(handle.clone()),
            handle: handle.clone(),
            requests: HashMap::new(),
            listeners: Vec::new(),
            idle: Vec::new(),
        };
        tokio::spawn(actor.run(mailbox));
        handle
    }

    /// Hands a request in; what is to be done with it comes by the receiver. A request whose
    /// name is taken is refused and was never handed in.
    pub async fn submit(
        &self,
        submission: Submission,
    ) -> Result<mpsc::Receiver<Directive>, Diagnostic> {
        let (sender, directives) = mpsc::channel(DIRECTIVES);
        self.ask(|reply| Message::Submit(submission, sender, reply))
            .await??;
        Ok(directives)
    }

    /// Resolves when the dispatcher is no more.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    /// Tells what happened.
    pub async fn tell(&self, event: Event) {
        self.send(Message::Event(event)).await;
    }

    /// Takes in a heartbeat; [`Code::Fenced`] tells the worker to end.
    pub async fn heartbeat(&self, heartbeat: WorkerHeartbeat) -> Result<Heard, Diagnostic> {
        self.ask(|reply| Message::Heartbeat(Box::new(heartbeat), reply))
            .await?
    }

    /// Tells the clients that wait for a worker at the target.
    pub async fn narrate(&self, target: &Target, narration: Narration) {
        self.send(Message::Narrate(target.clone(), narration)).await;
    }

    /// The state now, its workers narrowed by `filter`.
    pub async fn snapshot(&self, filter: Filter) -> Result<Snapshot, Diagnostic> {
        self.ask(|reply| Message::Snapshot(filter, reply)).await
    }

    /// Resolves with the next heartbeat of this spawn of a worker that serves or loads.
    pub async fn heard(&self, lease: Lease) -> Result<(), Diagnostic> {
        self.ask(|reply| Message::Heard(lease, reply)).await
    }

    /// Resolves when no request is left.
    pub async fn idle(&self) -> Result<(), Diagnostic> {
        self.ask(Message::Idle).await
    }

    async fn send(&self, message: Message) {
        if self.0.send(message).await.is_err() {
            tracing::error!("the dispatcher is gone");
        }
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Diagnostic> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await;
        answer
            .await
            .map_err(|_| Diagnostic::internal("the dispatcher is gone"))
    }
}

struct Actor {
    scheduler: Scheduler,
    clock: Clock,
    spawner: Arc<Spawner>,
    handle: Dispatcher,
    requests: HashMap<RequestId, mpsc::Sender<Directive>>,
    listeners: Vec<(Lease, oneshot::Sender<()>)>,
    idle: Vec<oneshot::Sender<()>>,
}

impl Actor {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = mailbox.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                _ = ticks.tick() => self.event(Event::Tick),
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Submit(submission, directives, reply) => {
                let _ = reply.send(self.submit(submission, directives));
            }
            Message::Event(event) => {
                if let Event::Ended(id, _) = &event {
                    self.requests.remove(id);
                }
                self.event(event);
            }
            Message::Heartbeat(heartbeat, reply) => {
                let _ = reply.send(self.heartbeat(*heartbeat));
            }
            Message::Narrate(target, narration) => {
                for id in self.scheduler.waiting_for(&target) {
                    self.direct(id, Directive::Narrate(narration.clone()));
                }
            }
            Message::Snapshot(filter, reply) => {
                let _ = reply.send(self.snapshot(&filter));
            }
            Message::Heard(lease, listener) => {
                self.listeners.retain(|(_, old)| !old.is_closed());
                self.listeners.push((lease, listener));
            }
            Message::Idle(reply) => self.idle.push(reply),
        }
        let counts = self.scheduler.counts();
        if counts.waiting + counts.running == 0 {
            for waiting in self.idle.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    fn submit(
        &mut self,
        submission: Submission,
        directives: mpsc::Sender<Directive>,
    ) -> Result<(), Diagnostic> {
        let id = submission.id.clone();
        if self.requests.contains_key(&id) {
            return Err(Diagnostic::new(
                Code::InvalidRequest,
                format!("a request named {id} is under way"),
            )
            .param("request_id")
            .hint("give every request a name of its own"));
        }
        self.requests.insert(id, directives);
        self.event(Event::Submit(submission));
        Ok(())
    }

    fn heartbeat(&mut self, heartbeat: WorkerHeartbeat) -> Result<Heard, Diagnostic> {
        let worker = &heartbeat.worker;
        let lease = Lease {
            worker: worker.id.clone(),
            generation: worker.generation,
        };
        let (status, model) = (worker.status, worker.model_id.clone());
        let (heard, effects) = self.scheduler.heartbeat(heartbeat, self.clock.now());
        match &heard {
            Ok(Heard::Registered) => {
                tracing::info!(worker = %lease.worker, generation = lease.generation.0, %model, "worker registered");
            }
            Ok(Heard::Stopped) => tracing::info!(worker = %lease.worker, "worker said goodbye"),
            Ok(_) => {}
            Err(error) => tracing::warn!(worker = %lease.worker, %error, "worker fenced"),
        }
        let lives = matches!(
            status,
            WorkerStatus::Starting | WorkerStatus::Ready | WorkerStatus::Busy
        );
        if heard.is_ok() && lives {
            for (_, listener) in self.listeners.extract_if(.., |(l, _)| *l == lease) {
                let _ = listener.send(());
            }
        }
        self.perform(effects);
        heard
    }

    fn event(&mut self, event: Event) {
        let effects = self.scheduler.handle(event, self.clock.now());
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Assign(id, assignment) => self.direct(&id, Directive::Run(assignment)),
                Effect::Waits(id, wait) => {
                    self.direct(&id, Directive::Narrate(waiting(wait)));
                }
                Effect::Stop(id, error) => self.direct(&id, Directive::End(error)),
                Effect::Fail(id, error) => {
                    self.direct(&id, Directive::End(error));
                    self.requests.remove(&id);
                }
                Effect::Spawn(target) => {
                    let spawner = Arc::clone(&self.spawner);
                    let dispatcher = self.handle.clone();
                    tokio::spawn(async move {
                        let event = match spawner.ensure(&target).await {
                            Ok(lease) => Event::Spawned(target, lease),
                            Err(error) => Event::SpawnFailed(target, error),
                        };
                        dispatcher.tell(event).await;
                    });
                }
                Effect::Forgotten(lease) => {
                    tracing::warn!(worker = %lease.worker, generation = lease.generation.0, "worker silent for too long, forgotten");
                }
            }
        }
    }

    fn direct(&self, id: &RequestId, directive: Directive) {
        let Some(sender) = self.requests.get(id) else {
            return;
        };
        let narration = matches!(directive, Directive::Narrate(_));
        if narration && sender.capacity() <= KEPT_FOR_ORDERS {
            return;
        }
        // A relay that is gone reports its request's end by itself.
        let _ = sender.try_send(directive);
    }

    fn snapshot(&self, filter: &Filter) -> Snapshot {
        let now = self.clock.now();
        Snapshot {
            workers: self.scheduler.registry().snapshot(filter, now),
            counts: self.scheduler.counts(),
            targets: self
                .scheduler
                .targets()
                .map(|(target, state)| TargetView {
                    target: target.clone(),
                    starting: state.is_starting(),
                    pause: state.pause(now),
                })
                .collect(),
        }
    }
}

fn waiting(wait: Wait) -> Narration {
    match wait {
        Wait::Busy { waiting } => Narration::info(
            "queen",
            "wait",
            format!("all workers are busy; requests waiting: {waiting}"),
        ),
        Wait::Loading => Narration::info("queen", "wait", "waiting for a worker to load the model"),
        Wait::Backoff { left } => Narration::warn(
            "queen",
            "wait",
            format!(
                "the last start failed; the next attempt is in {:.0} s",
                left.as_secs_f64().ceil()
            ),
        ),
    }
}
