use std::{collections::BTreeSet, sync::Arc, time::Duration};

use diagnostics::{Diagnostic, Narration};
use input_validation::{Generation, ModelRef, NodeName, RequestId, WorkerId};
use queen_contract::{Decision, WorkerEntry};
use scheduler::{DeploymentMap, NewRequest, NodeMap, SchedulerEvent, SpawnTarget};
use scheduling_policy::Policy;
use tokio::sync::{mpsc, oneshot};
use worker_contract::WorkerHeartbeat;
use worker_registry::{HeartbeatResult, SpawnId, WorkerFilter};

use crate::{
    Clock, DispatcherSnapshot, DryRun, OpenRequest, PolicyReport, message::Message,
    open_request::dispatcher_stopped,
};

/// A handle of the dispatcher. Clones refer to the same one.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    mailbox: mpsc::Sender<Message>,
    clock: Clock,
}

impl Dispatcher {
    pub(crate) fn new(mailbox: mpsc::Sender<Message>, clock: Clock) -> Self {
        Self { mailbox, clock }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Submits a request. Errors: those of
    /// [`Scheduler::submit`](scheduler::Scheduler::submit).
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

    /// Reports which nodes there are now, and their state.
    pub async fn nodes(&self, nodes: NodeMap) {
        self.event(SchedulerEvent::Nodes(nodes)).await;
    }

    /// Reports which deployments there are now. Earlier failures of the models in `renewed` are
    /// forgotten.
    pub async fn deployments(&self, deployments: DeploymentMap, renewed: BTreeSet<ModelRef>) {
        self.event(SchedulerEvent::Deployments(deployments, renewed))
            .await;
    }

    /// Reports that a user has this worker stopped: no worker is spawned for its requests.
    pub async fn stopping(&self, worker: SpawnId) {
        self.event(SchedulerEvent::Stopping(worker)).await;
    }

    /// Reports that a user has this worker replaced: a new one is spawned for its requests.
    pub async fn replacing(&self, worker: SpawnId) {
        self.event(SchedulerEvent::Replacing(worker)).await;
    }

    /// Replaces a worker that has lost a part of its model; `reason` says which, and how.
    pub async fn part_lost(&self, worker: SpawnId, reason: String) {
        self.event(SchedulerEvent::PartLost(worker, reason)).await;
    }

    /// Forbids generations of the worker below `lowest` to serve.
    pub async fn fence(&self, worker: WorkerId, lowest: Generation) {
        self.event(SchedulerEvent::Fence(worker, lowest)).await;
    }

    /// Stops the workers of a model when no request has used it for `limit`; `None`: never.
    pub async fn keep_loaded(&self, model: ModelRef, limit: Option<Duration>) {
        self.event(SchedulerEvent::KeepLoaded(model, limit)).await;
    }

    /// Decides by this policy from now on; `None`: by the default.
    pub async fn set_policy(&self, policy: Option<Arc<Policy>>) {
        self.event(SchedulerEvent::Policy(policy)).await;
    }

    /// Returns how the policy in use does.
    pub async fn policy_report(&self) -> Result<PolicyReport, Diagnostic> {
        self.ask(Message::PolicyState).await
    }

    /// Returns what would be decided for a request now, without a policy and with this one, or else
    /// with the one in use. Nothing changes. Errors: those of [`submit`](Self::submit).
    pub async fn dry_run(
        &self,
        request: NewRequest,
        policy: Option<Arc<Policy>>,
    ) -> Result<DryRun, Diagnostic> {
        self.ask(|reply| Message::DryRun(Box::new(request), policy, reply))
            .await?
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

    /// Returns the nodes that have something to do.
    pub async fn nodes_in_use(&self) -> Result<BTreeSet<NodeName>, Diagnostic> {
        self.ask(Message::NodesInUse).await
    }

    /// Returns the current state, with the workers that match the filter.
    pub async fn snapshot(&self, filter: WorkerFilter) -> Result<DispatcherSnapshot, Diagnostic> {
        self.ask(|reply| Message::Snapshot(filter, reply)).await
    }

    /// Returns the latest `limit` decisions, the oldest first: all of them, or those about a
    /// request, a worker or a model.
    pub async fn decisions(
        &self,
        about: Option<String>,
        limit: usize,
    ) -> Result<Vec<Decision>, Diagnostic> {
        self.ask(|reply| Message::Decisions(about, limit, reply))
            .await
    }

    /// Returns the workers that match the filter, ordered by id.
    pub async fn workers(&self, filter: WorkerFilter) -> Result<Vec<WorkerEntry>, Diagnostic> {
        Ok(self.snapshot(filter).await?.workers)
    }

    /// Resolves when the dispatcher has stopped, which happens only if its task panics.
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

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Diagnostic> {
        let (reply, response) = oneshot::channel();
        self.send(message(reply)).await;
        response.await.map_err(|_| dispatcher_stopped())
    }
}
