use std::{
    iter,
    pin::Pin,
    task::{Context, Poll},
};

use diagnostics::Diagnostic;
use futures_util::{
    Stream, StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use queen_contract::InferEvent;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use worker_contract::{InferInput, InferRequest, StreamEvent};

use crate::{InferJob, Relay, errors, groups::Group};

/// An event and the index of its choice.
pub type ChoiceEvent = (u32, InferEvent);

/// The events of all choices of a request. An error of one choice ends all; dropping the
/// stream cancels all.
pub struct Choices {
    running: SelectAll<BoxStream<'static, ChoiceEvent>>,
    /// The choices after the first, until they start.
    pending: Option<(Relay, Vec<InferJob>)>,
    /// Lets the request be cancelled by its id; only if it has several choices.
    group: Option<Group>,
}

impl Relay {
    /// Starts a request for `choices` completions of its input, and of each further input. The
    /// choices of an input follow those of the one before it.
    ///
    /// The choices after the first start when the first produces output: by then its worker
    /// has computed the prompt, and the others find it in the cache.
    pub fn infer(
        &self,
        mut job: InferJob,
        choices: u32,
        further_inputs: Vec<InferInput>,
    ) -> Result<Choices, Diagnostic> {
        let several = choices > 1 || !further_inputs.is_empty();
        if several && job.request.sampling.seed.is_none() {
            // All choices derive from the seed that is reported to the client.
            job.request.sampling.seed = Some(draw_seed()?);
        }
        let id = job.request.request_id.clone();
        let others = iter::once(job.request.input.clone())
            .chain(further_inputs)
            .flat_map(|input| iter::repeat_n(input, choices as usize))
            .zip(0..)
            .skip(1)
            .map(|(input, choice)| {
                Ok(InferJob {
                    requirements: job.requirements.clone(),
                    request: InferRequest {
                        input,
                        ..job.request.for_choice(choice)?
                    },
                    priority: job.priority,
                    client: job.client,
                    deadline: job.deadline,
                    headers: job.headers.clone(),
                })
            })
            .collect::<Result<Vec<_>, Diagnostic>>()?;
        let mut running = SelectAll::new();
        running.push(choice_events(0, self.start(job)));
        Ok(Choices {
            running,
            pending: several.then(|| (self.clone(), others)),
            group: several.then(|| self.groups.enter(id)),
        })
    }
}

impl Choices {
    fn start_pending(&mut self) {
        if let Some((relay, jobs)) = self.pending.take() {
            for (choice, job) in (1..).zip(jobs) {
                self.running.push(choice_events(choice, relay.start(job)));
            }
        }
    }

    fn end_all(&mut self) {
        self.running.clear();
        self.pending = None;
        self.group = None;
    }
}

impl Stream for Choices {
    type Item = ChoiceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChoiceEvent>> {
        if let Some(group) = &mut self.group
            && group.poll_cancelled(cx).is_ready()
        {
            let error = errors::cancelled().correlation_id(group.id().as_str());
            self.end_all();
            let event = InferEvent::Worker(StreamEvent::Error(error));
            return Poll::Ready(Some((0, event)));
        }
        let next = self.running.poll_next_unpin(cx);
        match &next {
            Poll::Ready(Some((_, InferEvent::Worker(event)))) => match event {
                StreamEvent::Token(_) | StreamEvent::End(_) => self.start_pending(),
                StreamEvent::Error(_) => self.end_all(),
                _ => {}
            },
            Poll::Ready(None) => self.end_all(),
            _ => {}
        }
        next
    }
}

fn choice_events(
    choice: u32,
    events: mpsc::Receiver<InferEvent>,
) -> BoxStream<'static, ChoiceEvent> {
    ReceiverStream::new(events)
        .map(move |event| (choice, event))
        .boxed()
}

/// Draws a seed that fits the integers of every JSON parser (53 bits).
fn draw_seed() -> Result<u64, Diagnostic> {
    getrandom::u64()
        .map(|bits| bits >> 11)
        .map_err(|e| Diagnostic::internal(format!("cannot draw a seed: {e}")))
}
