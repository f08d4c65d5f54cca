//! The one loop that runs a request on workers until it has finished.

use std::pin::Pin;

use diagnostics::{Code, Diagnostic, Narration};
use queen_contract::{Assigned, InferEvent};
use queen_dispatch::{Directive, Notice, OpenRequest, Order};
use scheduler::{Assignment, AttemptFailure, RequestOutcome};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};
use worker_contract::WorkerClient;

use crate::{Relay, errors};

/// Why a request ends before its work is done.
#[derive(Debug)]
pub(crate) enum Interrupt {
    ClientDisconnected,
    /// The dispatcher ended it.
    Ended(Diagnostic),
    DeadlinePassed,
}

/// How an attempt on one worker ended.
#[derive(Debug)]
pub enum AttemptEnd<T> {
    Completed(T),
    /// The worker refused the request as invalid: no other worker would accept it.
    Rejected(Diagnostic),
    /// Another worker may complete it.
    Failed(AttemptFailure),
}

/// How a request ended without a result.
#[derive(Debug)]
pub(crate) enum Failure {
    Rejected(Diagnostic),
    Interrupted(Interrupt),
}

impl From<Interrupt> for Failure {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

/// A worker that a request was assigned to.
pub(crate) struct AssignedWorker {
    pub(crate) client: WorkerClient,
    pub(crate) assigned: Assigned,
    /// Number of workers that the request was assigned to so far, including this one.
    pub(crate) number: u32,
}

/// What a request has workers do.
pub(crate) trait Work {
    type Output;

    /// Runs one attempt. Every wait must be interruptible: see
    /// [`Supervision::unless_interrupted`].
    async fn attempt(
        &mut self,
        worker: &AssignedWorker,
        supervision: &mut Supervision,
    ) -> Result<AttemptEnd<Self::Output>, Interrupt>;

    /// Reports to the client what happens while it waits.
    fn notify(&mut self, notice: Notice);
}

/// Everything that can end a request from outside.
pub(crate) struct Supervision {
    request: OpenRequest,
    deadline: Pin<Box<Sleep>>,
    /// Closed when the client has disconnected.
    client: Option<mpsc::Sender<InferEvent>>,
}

impl Supervision {
    pub(crate) fn new(
        request: OpenRequest,
        deadline: Instant,
        client: Option<mpsc::Sender<InferEvent>>,
    ) -> Self {
        Self {
            request,
            deadline: Box::pin(sleep_until(deadline)),
            client,
        }
    }

    /// Awaits `work` unless the request is interrupted first.
    pub(crate) async fn unless_interrupted<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            error = self.request.ended() => Err(Interrupt::Ended(error)),
            done = work => Ok(done),
            () = disconnected(self.client.as_ref()) => Err(Interrupt::ClientDisconnected),
            () = &mut self.deadline => Err(Interrupt::DeadlinePassed),
        }
    }

    /// Waits for a worker and passes on notices in the meantime.
    async fn next_assignment(
        &mut self,
        mut notify: impl FnMut(Notice),
    ) -> Result<Box<Assignment>, Interrupt> {
        loop {
            tokio::select! {
                directive = self.request.next() => match directive {
                    Directive::Notice(notice) => notify(notice),
                    Directive::Order(Order::Run(assignment)) => return Ok(assignment),
                    Directive::Order(Order::End(error)) => return Err(Interrupt::Ended(error)),
                },
                () = disconnected(self.client.as_ref()) => return Err(Interrupt::ClientDisconnected),
                () = &mut self.deadline => return Err(Interrupt::DeadlinePassed),
            }
        }
    }
}

async fn disconnected(client: Option<&mpsc::Sender<InferEvent>>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}

/// Runs the work of a request until it has finished, and reports the outcome.
pub(crate) async fn run<W: Work>(
    relay: &Relay,
    mut supervision: Supervision,
    work: &mut W,
) -> Result<W::Output, Failure> {
    let result = run_attempts(relay, &mut supervision, work).await;
    let outcome = match &result {
        Ok(_) => RequestOutcome::Completed,
        Err(Failure::Interrupted(Interrupt::ClientDisconnected)) => RequestOutcome::Cancelled,
        Err(Failure::Interrupted(Interrupt::Ended(error))) if error.code == Code::Cancelled => {
            RequestOutcome::Cancelled
        }
        Err(_) => RequestOutcome::Failed,
    };
    tracing::debug!(?outcome, "request finished");
    supervision.request.finish(outcome).await;
    result
}

async fn run_attempts<W: Work>(
    relay: &Relay,
    supervision: &mut Supervision,
    work: &mut W,
) -> Result<W::Output, Failure> {
    let submitted = Instant::now();
    loop {
        let assignment = supervision
            .next_assignment(|notice| work.notify(notice))
            .await?;
        if assignment.number == 1 {
            relay.metrics.first_assignment(submitted.elapsed());
        } else {
            relay.metrics.reassignment();
        }
        let failure = match attempt(relay, &assignment, supervision, work).await? {
            AttemptEnd::Completed(output) => return Ok(output),
            AttemptEnd::Rejected(error) => return Err(Failure::Rejected(error)),
            AttemptEnd::Failed(failure) => failure,
        };
        report_failure(relay, &assignment, failure, supervision, work).await;
    }
}

async fn attempt<W: Work>(
    relay: &Relay,
    assignment: &Assignment,
    supervision: &mut Supervision,
    work: &mut W,
) -> Result<AttemptEnd<W::Output>, Interrupt> {
    let assigned = Assigned {
        worker: assignment.worker.id.clone(),
        node: assignment.worker.hive_id.clone(),
        device: assignment.worker.device,
        attempt: assignment.attempt,
    };
    let connecting = relay.workers.connect(&assignment.worker);
    let client = match supervision.unless_interrupted(connecting).await? {
        Ok(client) => client,
        Err(error) => {
            let error = errors::connection_lost(&error, &assigned, 0);
            return Ok(AttemptEnd::Failed(AttemptFailure::Link(error)));
        }
    };
    let worker = AssignedWorker {
        client,
        assigned,
        number: assignment.number,
    };
    work.attempt(&worker, supervision).await
}

/// Reports a failed attempt to the dispatcher, which assigns the next worker. A broken
/// connection is a crash if the worker's process has exited. A worker that has lost a part of its
/// model fails for that reason, whatever it says itself.
async fn report_failure<W: Work>(
    relay: &Relay,
    assignment: &Assignment,
    failure: AttemptFailure,
    supervision: &mut Supervision,
    work: &mut W,
) {
    let failure = match failure {
        AttemptFailure::Link(error) => match relay.workers.exit(&assignment.worker).await {
            Some(exit) => {
                AttemptFailure::Crashed(errors::crashed(error, &assignment.worker.id, &exit))
            }
            None => AttemptFailure::Link(error),
        },
        failure => failure,
    };
    let failure = match failure {
        AttemptFailure::Crashed(error) => {
            AttemptFailure::Crashed(of_lost_part(relay, assignment, error).await)
        }
        AttemptFailure::Fault(error) => {
            AttemptFailure::Fault(of_lost_part(relay, assignment, error).await)
        }
        failure => failure,
    };
    if let AttemptFailure::Link(error)
    | AttemptFailure::Crashed(error)
    | AttemptFailure::Stalled(error)
    | AttemptFailure::Fault(error) = &failure
    {
        tracing::warn!(worker = %assignment.worker.id, %error, "attempt failed");
        let message = format!("{error}; trying another worker");
        let narration = Narration::warn("queen", "move", message);
        work.notify(Notice::Narration(narration));
    }
    supervision.request.attempt_failed(failure).await;
}

/// The error with the part of the worker's model that was lost as its reason, if one was.
async fn of_lost_part(relay: &Relay, assignment: &Assignment, error: Diagnostic) -> Diagnostic {
    match relay.workers.lost_part(&assignment.worker).await {
        Some(part) => errors::part_lost(error, &assignment.worker, &part),
        None => error,
    }
}
