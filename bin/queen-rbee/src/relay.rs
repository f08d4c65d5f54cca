//! Carries one request: waits for a worker, streams from it to the client, moves to another
//! worker when it is lost, and ends it exactly once.

use std::{pin::Pin, sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic, Narration};
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use input_validation::RequestId;
use queen_contract::{Assigned, InferEvent};
use rest_client::CallError;
use scheduler::{Assignment, Event, Lost, Outcome, Submission, Want};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tracing::Instrument as _;
use worker_contract::{InferRequest, StreamEvent, WorkerClient};

use crate::{
    app::App,
    dispatcher::Directive,
    upstream::{Progress, Verdict, judge_answer, judge_call, post_mortem, stalled, worker_client},
};

/// Events that a slow client may leave untaken; then the worker is not read either.
const UNTAKEN: usize = 32;
/// Longest wait for a silent worker to tell whether it computes.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// The worker ends a request at its deadline itself; this is for one that does not.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for the worker to confirm a cancel.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// A request to be carried.
#[derive(Debug)]
pub struct Job {
    /// What it needs.
    pub want: Want,
    /// The request itself.
    pub request: InferRequest,
    /// When it is worth nothing any more.
    pub deadline: Instant,
    /// Headers to pass on to the worker.
    pub headers: HeaderMap,
}

/// Starts carrying a request. Its events come by the receiver, the terminal one last;
/// dropping the receiver cancels the request.
pub fn start(app: Arc<App>, job: Job) -> mpsc::Receiver<InferEvent> {
    let (out, events) = mpsc::channel(UNTAKEN + 1);
    let span =
        tracing::info_span!("request", id = %job.request.request_id, model = %job.want.model);
    tokio::spawn(carry(app, job, out).instrument(span));
    events
}

/// Why the work on a request ends before its answer does.
enum Halt {
    /// The client is gone.
    ClientGone,
    /// The dispatcher said so.
    Told(Diagnostic),
    /// The deadline is over.
    TooLate,
}

/// How an attempt on one worker ended.
enum Attempt {
    Over(Outcome),
    Lost(Lost),
}

async fn carry(app: Arc<App>, job: Job, out: mpsc::Sender<InferEvent>) {
    let arrived = Instant::now();
    let id = job.request.request_id.clone();
    let submission = Submission {
        id: id.clone(),
        want: job.want.clone(),
        deadline: app.clock.at(job.deadline),
    };
    let directives = match app.dispatcher.submit(submission).await {
        Ok(directives) => directives,
        Err(error) => {
            let error = StreamEvent::Error(error.correlated(id.as_str()));
            let _ = out.try_send(InferEvent::Worker(error));
            return;
        }
    };
    let mut report = Report {
        app: Arc::clone(&app),
        id: Some(id),
    };
    let mut relay = Relay {
        client: Client {
            last: out.clone().try_reserve_owned().ok(),
            out,
            directives,
            deadline: Box::pin(sleep_until(job.deadline + DEADLINE_GRACE)),
        },
        app: Arc::clone(&app),
        job,
        arrived,
        attempts: 0,
        seed: None,
        tokens: Vec::new(),
    };
    let outcome = match relay.run().await {
        Ok(outcome) => outcome,
        Err(halt) => relay.halted(halt),
    };
    app.metrics.ended(outcome);
    tracing::debug!(?outcome, tokens = relay.tokens.len(), "request ended");
    if let Some(id) = report.id.take() {
        app.dispatcher.tell(Event::Ended(id, outcome)).await;
    }
}

/// Reports the end of a request whose relay broke, so that its slot is not lost.
struct Report {
    app: Arc<App>,
    id: Option<RequestId>,
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let dispatcher = self.app.dispatcher.clone();
            tokio::spawn(async move { dispatcher.tell(Event::Ended(id, Outcome::Failed)).await });
        }
    }
}

/// The way to the client, watched for everything that ends the request.
struct Client {
    out: mpsc::Sender<InferEvent>,
    /// A place for the terminal event, however slow the client is.
    last: Option<mpsc::OwnedPermit<InferEvent>>,
    directives: mpsc::Receiver<Directive>,
    deadline: Pin<Box<Sleep>>,
}

impl Client {
    /// Awaits `work`, unless the request is halted first.
    async fn unless_halted<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Halt> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                directive = self.directives.recv() => match directive {
                    Some(Directive::End(error)) => return Err(Halt::Told(error)),
                    Some(_) => {}
                    None => return Err(Halt::Told(Diagnostic::internal("the dispatcher is gone"))),
                },
                done = &mut work => return Ok(done),
                () = self.out.closed() => return Err(Halt::ClientGone),
                () = &mut self.deadline => return Err(Halt::TooLate),
            }
        }
    }

    /// Waits for the next order, passing narration on.
    async fn order(&mut self) -> Result<Box<Assignment>, Halt> {
        loop {
            tokio::select! {
                directive = self.directives.recv() => match directive {
                    Some(Directive::Run(assignment)) => return Ok(assignment),
                    Some(Directive::End(error)) => return Err(Halt::Told(error)),
                    Some(Directive::Narrate(narration)) => self.mention(narration),
                    None => return Err(Halt::Told(Diagnostic::internal("the dispatcher is gone"))),
                },
                () = self.out.closed() => return Err(Halt::ClientGone),
                () = &mut self.deadline => return Err(Halt::TooLate),
            }
        }
    }

    /// Sends an event; a slow client is waited for.
    async fn send(&mut self, event: InferEvent) -> Result<(), Halt> {
        let event = match self.out.try_send(event) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Halt::ClientGone),
            Err(mpsc::error::TrySendError::Full(event)) => event,
        };
        let out = self.out.clone();
        match self.unless_halted(out.reserve()).await? {
            Ok(place) => {
                place.send(event);
                Ok(())
            }
            Err(_) => Err(Halt::ClientGone),
        }
    }

    /// Tells something that may be left out when the client is slow.
    fn mention(&self, narration: Narration) {
        let _ = self.out.try_send(InferEvent::Narration(narration));
    }
}

struct Relay {
    client: Client,
    app: Arc<App>,
    job: Job,
    arrived: Instant,
    /// Workers that it was given to, refusals included.
    attempts: u32,
    /// The seed of the first worker, once it started: the next goes on with it.
    seed: Option<u64>,
    /// Tokens that the client has.
    tokens: Vec<u32>,
}

impl Relay {
    async fn run(&mut self) -> Result<Outcome, Halt> {
        loop {
            let assignment = self.client.order().await?;
            self.attempts += 1;
            if self.attempts == 1 {
                self.app.metrics.assigned(self.arrived.elapsed());
            } else {
                self.app.metrics.moved();
            }
            match self.run_on(&assignment).await? {
                Attempt::Over(outcome) => return Ok(outcome),
                Attempt::Lost(lost) => self.lost(&assignment, lost).await,
            }
        }
    }

    async fn lost(&mut self, assignment: &Assignment, lost: Lost) {
        let (lost, gone) = post_mortem(&self.app, assignment, lost).await;
        if let Lost::Link(error) | Lost::Fault(error) = &lost {
            tracing::warn!(worker = %assignment.worker.id, %error, "worker lost");
            let message = format!("{error}; going on elsewhere");
            self.client
                .mention(Narration::warn("queen", "move", message));
        }
        let id = self.job.request.request_id.clone();
        self.app.dispatcher.tell(Event::Lost(id, lost)).await;
        if let Some(lease) = gone {
            self.app.dispatcher.tell(Event::Gone(lease)).await;
        }
    }

    /// Runs the request on one worker. When it is halted there, the worker is told.
    async fn run_on(&mut self, assignment: &Assignment) -> Result<Attempt, Halt> {
        let worker = worker_client(&self.app, assignment);
        let request = self.upstream_request();
        let ran = self.stream_from(&worker, &request, assignment).await;
        if ran.is_err() {
            // The stream is dropped by now, which the worker notices; this makes sure that
            // the slot is free when the end is reported.
            let _ = timeout(CANCEL_LIMIT, worker.cancel(&request.request_id)).await;
        }
        ran
    }

    async fn stream_from(
        &mut self,
        worker: &WorkerClient,
        request: &InferRequest,
        assignment: &Assignment,
    ) -> Result<Attempt, Halt> {
        let assigned = Assigned {
            worker: assignment.worker.id.clone(),
            node: assignment.worker.hive_id.clone(),
            device: assignment.worker.device,
            attempt: assignment.attempt,
        };
        self.client
            .send(InferEvent::Assigned(assigned.clone()))
            .await?;
        let before = self.tokens.len();
        let opening = worker.infer_stream(request, self.job.headers.clone());
        let Some(opened) = self.of_worker(worker, opening).await? else {
            return Ok(self.stalled(&assigned));
        };
        let events = match opened {
            Ok(events) => events,
            Err(error) => {
                let verdict = judge_call(error, &assigned, self.progress(before));
                return self.judged(verdict).await;
            }
        };
        let mut events = std::pin::pin!(events);
        loop {
            let next = self.of_worker(worker, next_event(&mut events)).await?;
            let Some(next) = next else {
                return Ok(self.stalled(&assigned));
            };
            let verdict = match next {
                Ok(StreamEvent::Error(error)) => {
                    judge_answer(error, &assigned, self.progress(before))
                }
                Ok(event) => match self.pass_on(event).await? {
                    Some(outcome) => return Ok(Attempt::Over(outcome)),
                    None => continue,
                },
                Err(error) => judge_call(error, &assigned, self.progress(before)),
            };
            return self.judged(verdict).await;
        }
    }

    /// Awaits what a worker gives; `None` when it gives nothing and its engine stands still.
    async fn of_worker<T>(
        &mut self,
        worker: &WorkerClient,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Halt> {
        let patience = self.app.worker_silence;
        let mut work = std::pin::pin!(work);
        let mut more = patience;
        loop {
            let given = timeout(more, work.as_mut());
            if let Ok(given) = self.client.unless_halted(given).await? {
                return Ok(Some(given));
            }
            match self.client.unless_halted(still(worker, patience)).await? {
                Some(rest) => more = rest,
                None => return Ok(None),
            }
        }
    }

    fn progress(&self, before: usize) -> Progress {
        Progress {
            tokens: self.tokens.len(),
            before,
        }
    }

    /// Sends an event of the worker to the client, who sees one undisturbed answer.
    async fn pass_on(&mut self, event: StreamEvent) -> Result<Option<Outcome>, Halt> {
        let event = match event {
            StreamEvent::Started(_) if self.seed.is_some() => return Ok(None),
            StreamEvent::Started(mut started) => {
                self.seed = Some(started.seed);
                started.request_id = self.job.request.request_id.clone();
                StreamEvent::Started(started)
            }
            StreamEvent::Token(token) => {
                if self.tokens.is_empty() {
                    self.app.metrics.first_token(self.arrived.elapsed());
                }
                self.app.metrics.token();
                self.tokens.push(token.id);
                StreamEvent::Token(token)
            }
            event => event,
        };
        let over = matches!(event, StreamEvent::End(_)).then_some(Outcome::Completed);
        self.client.send(InferEvent::Worker(event)).await?;
        Ok(over)
    }

    async fn judged(&mut self, verdict: Verdict) -> Result<Attempt, Halt> {
        match verdict {
            Verdict::Move(lost) => Ok(Attempt::Lost(lost)),
            Verdict::Refuse(error) => {
                let error = InferEvent::Worker(StreamEvent::Error(self.correlated(error)));
                self.client.send(error).await?;
                Ok(Attempt::Over(Outcome::Failed))
            }
        }
    }

    fn stalled(&self, assigned: &Assigned) -> Attempt {
        let seconds = self.app.worker_silence.as_secs();
        Attempt::Lost(stalled(assigned, seconds, self.tokens.len()))
    }

    /// The request for the next worker: the same, from where the last one was lost.
    fn upstream_request(&self) -> InferRequest {
        let mut request = self.job.request.clone();
        request.stream = true;
        if self.attempts > 1 {
            // The lost worker may still know the old name.
            let short: String = request.request_id.as_str().chars().take(110).collect();
            if let Ok(name) = format!("{short}-{}", self.attempts).parse() {
                request.request_id = name;
            }
        }
        if self.seed.is_some() {
            request.sampling.seed = self.seed;
        }
        request.continue_from.extend_from_slice(&self.tokens);
        request
    }

    /// Tells the client, if there is one, why its request ends.
    fn halted(&mut self, halt: Halt) -> Outcome {
        let error = match halt {
            Halt::ClientGone => return Outcome::Cancelled,
            Halt::Told(error) => error,
            Halt::TooLate => Diagnostic::new(
                Code::DeadlineExceeded,
                format!("the deadline passed after {} tokens", self.tokens.len()),
            )
            .hint("allow more time, or ask for fewer tokens"),
        };
        let outcome = match error.code {
            Code::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed,
        };
        if let Some(place) = self.client.last.take() {
            place.send(InferEvent::Worker(StreamEvent::Error(
                self.correlated(error),
            )));
        }
        outcome
    }

    fn correlated(&self, error: Diagnostic) -> Diagnostic {
        error.correlated(self.job.request.request_id.as_str())
    }
}

/// How much longer a worker that gives nothing is waited for: its engine may compute a long
/// prompt, of this request or of one before it. `None` when it finished no step for so long.
async fn still(worker: &WorkerClient, patience: Duration) -> Option<Duration> {
    let info = timeout(LOOK_LIMIT, worker.info()).await.ok()?.ok()?;
    let since = Duration::from_millis(info.last_step_ms?);
    patience.checked_sub(since).filter(|more| !more.is_zero())
}

async fn next_event<S>(events: &mut Pin<&mut S>) -> Result<StreamEvent, CallError>
where
    S: Stream<Item = Result<StreamEvent, CallError>>,
{
    match events.next().await {
        Some(event) => event,
        None => Err(CallError::Link(Diagnostic::new(
            Code::WorkerLinkLost,
            "its stream ended without an end event",
        ))),
    }
}
