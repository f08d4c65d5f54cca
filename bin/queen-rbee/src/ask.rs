//! Asks a worker something that has one answer (tokens, embeddings): waits for a worker, asks
//! another when it is lost, and ends exactly once.

use std::{sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use input_validation::RequestId;
use queen_contract::Assigned;
use rest_client::CallError;
use scheduler::{Assignment, Event, Outcome, Submission, Want};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use worker_contract::WorkerClient;

use crate::{
    app::App,
    dispatcher::Directive,
    upstream::{Progress, Verdict, judge_call, post_mortem, worker_client},
};

/// Who asks, and until when.
#[derive(Debug)]
pub struct Question {
    /// Its name.
    pub id: RequestId,
    /// What it needs.
    pub want: Want,
    /// When its answer is worth nothing any more.
    pub deadline: Instant,
}

/// Where an answer came from.
#[derive(Debug)]
pub struct Origin {
    /// The question's name.
    pub id: RequestId,
    /// Who gave it.
    pub worker: Assigned,
    /// How long the worker was waited for, loading included.
    pub waited: Duration,
}

/// Asks by `call`, whose answer changes nothing at the worker, so that it may be asked again.
/// Dropping the future ends the question.
pub async fn ask<T, F>(
    app: &Arc<App>,
    question: Question,
    call: impl Fn(WorkerClient) -> F,
) -> Result<(T, Origin), Diagnostic>
where
    F: Future<Output = Result<T, CallError>>,
{
    let submission = Submission {
        id: question.id.clone(),
        want: question.want,
        deadline: app.clock.at(question.deadline),
    };
    let directives = app.dispatcher.submit(submission).await?;
    let mut open = Open {
        app: Arc::clone(app),
        id: Some(question.id.clone()),
    };
    let asked = attempts(app, &question.id, question.deadline, directives, call).await;
    let outcome = match &asked {
        Ok(_) => Outcome::Completed,
        Err(error) if error.code == Code::Cancelled => Outcome::Cancelled,
        Err(_) => Outcome::Failed,
    };
    if let Some(id) = open.id.take() {
        app.metrics.ended(outcome);
        app.dispatcher.tell(Event::Ended(id, outcome)).await;
    }
    asked.map_err(|error| error.correlated(question.id.as_str()))
}

/// Reports the end of a question whose asker is gone, so that its slot is not lost.
struct Open {
    app: Arc<App>,
    id: Option<RequestId>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.app.metrics.ended(Outcome::Cancelled);
            let dispatcher = self.app.dispatcher.clone();
            tokio::spawn(async move {
                dispatcher.tell(Event::Ended(id, Outcome::Cancelled)).await;
            });
        }
    }
}

async fn attempts<T, F>(
    app: &Arc<App>,
    id: &RequestId,
    deadline: Instant,
    mut directives: mpsc::Receiver<Directive>,
    call: impl Fn(WorkerClient) -> F,
) -> Result<(T, Origin), Diagnostic>
where
    F: Future<Output = Result<T, CallError>>,
{
    let arrived = Instant::now();
    let mut too_late = std::pin::pin!(sleep_until(deadline));
    loop {
        let assignment = tokio::select! {
            order = order(&mut directives) => order?,
            () = &mut too_late => return Err(expired()),
        };
        let waited = arrived.elapsed();
        let worker = assigned(&assignment);
        let answer = tokio::select! {
            biased;
            error = told_to_end(&mut directives) => return Err(error),
            answer = call(worker_client(app, &assignment)) => answer,
            () = &mut too_late => return Err(expired()),
        };
        let error = match answer {
            Ok(value) => {
                let id = id.clone();
                return Ok((value, Origin { id, worker, waited }));
            }
            Err(error) => error,
        };
        match judge_call(error, &worker, Progress::default()) {
            Verdict::Refuse(error) => return Err(error),
            Verdict::Move(lost) => {
                let (lost, gone) = post_mortem(app, &assignment, lost).await;
                app.dispatcher.tell(Event::Lost(id.clone(), lost)).await;
                if let Some(lease) = gone {
                    app.dispatcher.tell(Event::Gone(lease)).await;
                }
            }
        }
    }
}

async fn order(directives: &mut mpsc::Receiver<Directive>) -> Result<Box<Assignment>, Diagnostic> {
    loop {
        match directives.recv().await {
            Some(Directive::Run(assignment)) => return Ok(assignment),
            Some(Directive::End(error)) => return Err(error),
            Some(Directive::Narrate(_)) => {}
            None => return Err(Diagnostic::internal("the dispatcher is gone")),
        }
    }
}

/// While a worker is asked, the only order is to end.
async fn told_to_end(directives: &mut mpsc::Receiver<Directive>) -> Diagnostic {
    loop {
        if let Err(error) = order(directives).await {
            return error;
        }
    }
}

fn assigned(assignment: &Assignment) -> Assigned {
    Assigned {
        worker: assignment.worker.id.clone(),
        node: assignment.worker.hive_id.clone(),
        device: assignment.worker.device,
        attempt: assignment.attempt,
    }
}

fn expired() -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        "the deadline passed before the answer was there",
    )
    .hint("allow more time, or ask for less at once")
}
