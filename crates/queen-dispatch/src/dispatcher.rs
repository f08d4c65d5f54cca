use std::{sync::Arc, time::Duration};

use diagnostics::{Diagnostic, Narration};
use input_validation::{Generation, RequestId, WorkerId};
use queen_contract::{RequestCounts, WorkerEntry};
use scheduler::{NewRequest, Scheduler, SchedulerEvent, SpawnTarget};
use tokio::sync::{mpsc, oneshot};
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter};

use crate::{
    Clock, OpenRequest, WorkerSource,
    actor::{Actor, Message},
};

/// Messages that may wait for the dispatcher; senders wait when it is full.
const MAILBOX_CAPACITY: usize = 1024;

/// A target with a spawn under way or recent failures.
#[derive(Debug, Clone)]
pub struct TargetEntry {
    pub target: SpawnTarget,
    /// A spawn is under way.
    pub starting: bool,
    /// Time until the next spawn may begin.
    pub pause: Duration,
}

/// The state of the dispatcher at one moment.
#[derive(Debug, Clone)]
pub struct DispatcherSnapshot {
    /// Ordered by id.
    pub workers: Vec<WorkerEntry>,
    pub counts: RequestCounts,
    pub targets: Vec<TargetEntry>,
}

/// A handle of the dispatcher. Clones refer to the same one.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    mailbox: mpsc::Sender<Message>,
    clock: Clock,
}

impl Dispatcher {
    /// Starts the dispatcher, which gets its workers from `source`.
    pub fn start(scheduler: Scheduler, clock: Clock, source: Arc<dyn WorkerSource>) -> Self {
        let (sender, mailbox) = mpsc::channel(MAILBOX_CAPACITY);
        let handle = Self {
            mailbox: sender,
            clock,
        };
        let actor = Actor::new(scheduler, source, handle.clone());
        tokio::spawn(actor.run(mailbox));
        handle
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Submits a request. Errors: those of [`Scheduler::submit`].
    pub async fn submit(&self, request: NewRequest) -> Result<OpenRequest, Diagnostic> {
        self.ask(|reply| Message::Submit(request, reply)).await?
    }

    /// Ends a request with this error; has no effect on an id that is not in use.
    pub async fn cancel(&self, id: RequestId, error: Diagnostic) {
        self.event(SchedulerEvent::Cancel(id, error)).await;
    }

    /// Applies a heartbeat. Fails with [`Code::Fenced`](diagnostics::Code::Fenced) if the
    /// worker must exit.
    pub async fn heartbeat(
        &self,
        heartbeat: WorkerHeartbeat,
    ) -> Result<HeartbeatResult, Diagnostic> {
        self.ask(|reply| Message::Heartbeat(Box::new(heartbeat), reply))
            .await?
    }

    /// Resolves with the next heartbeat of this spawn, unless it reports that it is exiting.
    pub async fn next_heartbeat(&self, spawn: SpawnId) -> Result<(), Diagnostic> {
        self.ask(|reply| Message::AwaitHeartbeat(spawn, reply))
            .await
    }

    /// Reports that a spawn makes progress, and sends the narration to the clients that wait
    /// for it.
    pub async fn spawn_progress(&self, target: &SpawnTarget, narration: Narration) {
        self.send(Message::SpawnProgress(target.clone(), narration))
            .await;
    }

    /// Forbids generations of the worker below `lowest` to serve.
    pub async fn fence(&self, worker: WorkerId, lowest: Generation) {
        self.event(SchedulerEvent::Fence(worker, lowest)).await;
    }

    /// Reports that the process of a worker has exited.
    pub async fn worker_exited(&self, spawn: SpawnId) {
        self.event(SchedulerEvent::WorkerExited(spawn)).await;
    }

    /// Accepts no request from now on.
    pub async fn drain(&self) {
        self.event(SchedulerEvent::Drain).await;
    }

    /// Ends every request with this error and accepts no request from now on.
    pub async fn abort(&self, error: Diagnostic) {
        self.event(SchedulerEvent::Abort(error)).await;
    }

    /// Resolves when no request is waiting or running.
    pub async fn idle(&self) -> Result<(), Diagnostic> {
        self.ask(Message::AwaitIdle).await
    }

    /// Returns the current state, with the workers that match the filter.
    pub async fn snapshot(&self, filter: WorkerFilter) -> Result<DispatcherSnapshot, Diagnostic> {
        self.ask(|reply| Message::Snapshot(filter, reply)).await
    }

    /// Returns the workers that match the filter, ordered by id.
    pub async fn workers(&self, filter: WorkerFilter) -> Result<Vec<WorkerEntry>, Diagnostic> {
        Ok(self.snapshot(filter).await?.workers)
    }

    /// Resolves when the dispatcher has stopped, which only a defect makes it do.
    pub async fn stopped(&self) {
        self.mailbox.closed().await;
    }

    async fn event(&self, event: SchedulerEvent) {
        self.send(Message::Event(event)).await;
    }

    pub(crate) async fn send(&self, message: Message) {
        if self.mailbox.send(message).await.is_err() {
            tracing::error!("the dispatcher has stopped");
        }
    }

    /// Sends a message from where nothing can wait.
    pub(crate) fn send_later(&self, message: Message) {
        match self.mailbox.try_send(message) {
            Err(mpsc::error::TrySendError::Full(message)) => {
                let this = self.clone();
                tokio::spawn(async move { this.send(message).await });
            }
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Diagnostic> {
        let (reply, response) = oneshot::channel();
        self.send(message(reply)).await;
        response.await.map_err(|_| dispatcher_stopped())
    }
}

pub(crate) fn dispatcher_stopped() -> Diagnostic {
    Diagnostic::internal("the dispatcher has stopped")
}
