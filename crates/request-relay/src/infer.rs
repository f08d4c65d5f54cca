use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use input_validation::RequestId;
use queen_contract::{Assigned, InferEvent, Priority};
use queen_dispatch::Notice;
use request_queue::{ClientKey, Deadline};
use rest_client::CallError;
use scheduler::{NewRequest, WorkerRequirements};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::Instrument as _;
use worker_contract::{EndEvent, InferRequest, StreamEvent, UNKNOWN_TOKEN};

use crate::{
    Relay, RelayMetrics,
    attempts::{self, AssignedWorker, AttemptEnd, Failure, Interrupt, Supervision, Work},
    errors, prompt,
    stall::{self, Silence, unless_silent},
    verdict::{Progress, judge_call, judge_error},
};

/// Events that a slow client may leave unread before the worker is not read either.
const UNREAD_EVENTS: usize = 32;
/// A worker ends a request at its deadline itself; this is for one that does not.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// A worker may end a request this much earlier than its deadline: clocks differ a little.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// Longest wait for a worker to confirm a cancellation.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);
/// Characters of the client's request id in the id that a second worker receives; the rest
/// is for the attempt's number.
const ID_PREFIX_CHARS: usize = 110;

/// A request for a completion.
#[derive(Debug)]
pub struct InferJob {
    pub requirements: WorkerRequirements,
    pub request: InferRequest,
    pub priority: Priority,
    pub client: ClientKey,
    pub deadline: Deadline,
    /// Headers to forward to the worker.
    pub headers: HeaderMap,
}

impl Relay {
    /// Starts a request. Its events arrive at the receiver, the terminal one last; dropping
    /// the receiver cancels the request.
    pub(crate) fn start(&self, job: InferJob) -> mpsc::Receiver<InferEvent> {
        let (sender, events) = mpsc::channel(UNREAD_EVENTS + 1);
        let span = tracing::info_span!("request", id = %job.request.request_id, model = %job.requirements.model);
        tokio::spawn(run(self.clone(), job, sender).instrument(span));
        events
    }
}

async fn run(relay: Relay, job: InferJob, client: mpsc::Sender<InferEvent>) {
    let submitted = Instant::now();
    let id = job.request.request_id.clone();
    // A slot for the terminal event, which the client then receives however slowly it reads.
    let Ok(terminal) = client.clone().try_reserve_owned() else {
        return;
    };
    let new = NewRequest {
        id: id.clone(),
        requirements: job.requirements.clone(),
        priority: job.priority,
        client: job.client,
        deadline: job.deadline,
        prompt: prompt::prefixes(&job.request.input),
    };
    let last = match relay.dispatcher.submit(new).await {
        Ok(open) => {
            let deadline = relay.dispatcher.clock().instant(job.deadline);
            let latest = deadline + DEADLINE_GRACE;
            let supervision = Supervision::new(open, latest, Some(client.clone()));
            let mut work = InferWork {
                client,
                request: job.request,
                headers: job.headers,
                metrics: relay.metrics.clone(),
                worker_silence: relay.worker_silence,
                submitted,
                deadline,
                seed: None,
                tokens: Vec::new(),
            };
            match attempts::run(&relay, supervision, &mut work).await {
                Ok(end) => Ok(end),
                Err(Failure::Interrupted(Interrupt::ClientDisconnected)) => return,
                Err(Failure::Rejected(error) | Failure::Interrupted(Interrupt::Ended(error))) => {
                    Err(error)
                }
                Err(Failure::Interrupted(Interrupt::DeadlinePassed)) => {
                    Err(errors::deadline_passed(work.tokens.len()))
                }
            }
        }
        Err(error) => Err(error),
    };
    // The outcome has been reported: the client may use its id again from here on.
    let last = match last {
        Ok(end) => StreamEvent::End(end),
        Err(error) => StreamEvent::Error(error.correlation_id(id.as_str())),
    };
    terminal.send(InferEvent::Worker(last));
}

struct InferWork {
    client: mpsc::Sender<InferEvent>,
    request: InferRequest,
    headers: HeaderMap,
    metrics: RelayMetrics,
    worker_silence: Duration,
    submitted: Instant,
    deadline: Instant,
    /// The seed that the first worker used; later workers continue with it.
    seed: Option<u64>,
    /// Tokens that were sent to the client.
    tokens: Vec<u32>,
}

impl Work for InferWork {
    type Output = EndEvent;

    /// Runs the request on one worker, and cancels it there if it is interrupted.
    async fn attempt(
        &mut self,
        worker: &AssignedWorker,
        supervision: &mut Supervision,
    ) -> Result<AttemptEnd<EndEvent>, Interrupt> {
        let request = self.request_for(worker);
        let end = self.stream(worker, &request, supervision).await;
        if end.is_err() {
            // The worker notices the dropped stream; this makes sure that its slot is free
            // before the request is reported as finished.
            let _ = timeout(CANCEL_LIMIT, worker.client.cancel(&request.request_id)).await;
        }
        Ok(match end? {
            // Another worker could not continue after tokens that have no ids.
            AttemptEnd::Failed(failure) if self.tokens.contains(&UNKNOWN_TOKEN) => {
                AttemptEnd::Rejected(failure.into_error())
            }
            end => end,
        })
    }

    fn notify(&mut self, notice: Notice) {
        let event = match notice {
            Notice::Narration(narration) => InferEvent::Narration(narration),
            Notice::Waiting(waiting) => InferEvent::Waiting(waiting),
        };
        // A client that reads slowly misses it.
        let _ = self.client.try_send(event);
    }
}

impl InferWork {
    /// The client's request, continued after the tokens that earlier workers produced.
    fn request_for(&self, worker: &AssignedWorker) -> InferRequest {
        let mut request = self.request.clone();
        request.stream = true;
        if worker.number > 1 {
            // An earlier worker may still know the client's id, so each worker gets its own.
            request.request_id = attempt_id(&request.request_id, worker.number);
        }
        if self.seed.is_some() {
            request.sampling.seed = self.seed;
        }
        request.continue_from.extend_from_slice(&self.tokens);
        request
    }

    async fn stream(
        &mut self,
        worker: &AssignedWorker,
        request: &InferRequest,
        supervision: &mut Supervision,
    ) -> Result<AttemptEnd<EndEvent>, Interrupt> {
        let (client, assigned) = (&worker.client, &worker.assigned);
        self.send(InferEvent::Assigned(assigned.clone()), supervision)
            .await?;
        let before = self.tokens.len();
        let opening = client.infer_stream(request, self.headers.clone());
        let silence = self.worker_silence;
        let opened = unless_silent(client, opening, silence, supervision).await?;
        let mut events = match opened {
            Err(silence) => return Ok(self.silent(silence, assigned)),
            Ok(Err(error)) => return Ok(judge_call(error, assigned, self.progress(before))),
            Ok(Ok(events)) => std::pin::pin!(events),
        };
        loop {
            let next = next_event(&mut events);
            match unless_silent(client, next, silence, supervision).await? {
                Err(silence) => return Ok(self.silent(silence, assigned)),
                Ok(Err(error)) => return Ok(judge_call(error, assigned, self.progress(before))),
                Ok(Ok(StreamEvent::Error(error))) => {
                    return Ok(judge_error(error, assigned, self.progress(before)));
                }
                Ok(Ok(StreamEvent::End(end))) => return Ok(AttemptEnd::Completed(end)),
                Ok(Ok(event)) => self.forward(event, supervision).await?,
            }
        }
    }

    /// Sends an event of a worker to the client, which sees one uninterrupted response.
    async fn forward(
        &mut self,
        event: StreamEvent,
        supervision: &mut Supervision,
    ) -> Result<(), Interrupt> {
        let event = match event {
            StreamEvent::Started(_) if self.seed.is_some() => return Ok(()),
            StreamEvent::Started(mut started) => {
                self.seed = Some(started.seed);
                started.request_id = self.request.request_id.clone();
                StreamEvent::Started(started)
            }
            StreamEvent::Token(token) => {
                if self.tokens.is_empty() {
                    self.metrics.first_token(self.submitted.elapsed());
                }
                self.metrics.token();
                self.tokens.push(token.id);
                StreamEvent::Token(token)
            }
            event => event,
        };
        self.send(InferEvent::Worker(event), supervision).await
    }

    /// Sends an event to the client; waits for a slow one.
    async fn send(
        &self,
        event: InferEvent,
        supervision: &mut Supervision,
    ) -> Result<(), Interrupt> {
        let event = match self.client.try_send(event) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Interrupt::ClientDisconnected),
            Err(mpsc::error::TrySendError::Full(event)) => event,
        };
        let sent = supervision.unless_interrupted(self.client.send(event));
        sent.await?.map_err(|_| Interrupt::ClientDisconnected)
    }

    fn silent(&self, silence: Silence, assigned: &Assigned) -> AttemptEnd<EndEvent> {
        stall::failure(silence, assigned, self.worker_silence, self.tokens.len())
    }

    fn progress(&self, before: usize) -> Progress {
        Progress {
            tokens: self.tokens.len(),
            before,
            has_time: Instant::now() + CLOCK_TOLERANCE < self.deadline,
        }
    }
}

async fn next_event<S>(events: &mut Pin<&mut S>) -> Result<StreamEvent, CallError>
where
    S: Stream<Item = Result<StreamEvent, CallError>>,
{
    match events.next().await {
        Some(event) => event,
        None => Err(CallError::Link(errors::stream_ended_early())),
    }
}

fn attempt_id(id: &RequestId, number: u32) -> RequestId {
    let prefix: String = id.as_str().chars().take(ID_PREFIX_CHARS).collect();
    format!("{prefix}-{number}")
        .parse()
        .unwrap_or_else(|_| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_its_own_valid_id() {
        let id = |id: &str, number| attempt_id(&id.parse().unwrap(), number).to_string();
        assert_eq!(id("r1", 2), "r1-2");
        assert_eq!(id("r1", 13), "r1-13");
        let longest = "x".repeat(128);
        assert_eq!(id(&longest, 2), format!("{}-2", "x".repeat(110)));
        let last = id(&longest, u32::MAX);
        assert_eq!(last, format!("{}-{}", "x".repeat(110), u32::MAX));
    }
}
