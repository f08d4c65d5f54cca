//! Several answers to one request, told as one stream of events.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll};

use diagnostics::Diagnostic;
use futures_util::future::OptionFuture;
use http::HeaderMap;
use input_validation::RequestId;
use queen_contract::InferEvent;
use scheduler::Want;
use tokio::sync::mpsc;
use worker_contract::{InferRequest, StreamEvent};

use super::answers::{Source, carry};
use crate::{app::App, groups::Group};

/// An event and the choice that it is of.
pub type ChoiceEvent = (u32, InferEvent);

/// The answers to one request. An error of one ends all; dropping this cancels all.
pub struct Choices {
    /// Choices that have not ended; the next to be looked at comes first.
    running: VecDeque<(u32, mpsc::Receiver<InferEvent>)>,
    others: Option<Others>,
    /// Events of one choice, on their way out.
    taken: Vec<InferEvent>,
    /// What cancels all; absent when nothing is left to cancel, or there is only one.
    group: Option<Group>,
}

/// The choices after the first, as long as they wait.
pub struct Others {
    pub app: Arc<App>,
    pub want: Want,
    pub headers: HeaderMap,
    pub requests: Vec<InferRequest>,
}

/// The requests of `choices` answers to `request`, which is the first of them: the same with
/// names of their own. They draw from one seed, so that the seed that is told belongs to all.
pub fn requests(request: &mut InferRequest, choices: u32) -> Result<Vec<InferRequest>, Diagnostic> {
    if choices > 1 && request.sampling.seed.is_none() {
        request.sampling.seed = Some(draw_seed()?);
    }
    (1..choices).map(|choice| request.another(choice)).collect()
}

/// A seed that every JSON reader can hold.
fn draw_seed() -> Result<u64, Diagnostic> {
    getrandom::u64()
        .map(|bits| bits >> 11)
        .map_err(|e| Diagnostic::internal(format!("no random bytes for a seed: {e}")))
}

impl Choices {
    /// The first choice, which runs, and the others. They start with its first token: by then
    /// its worker has computed the prompt, which the others then find in the cache.
    pub fn new(id: &RequestId, first: mpsc::Receiver<InferEvent>, others: Others) -> Self {
        let several = !others.requests.is_empty();
        Self {
            group: several.then(|| others.app.groups.enter(id.clone())),
            running: VecDeque::from([(0, first)]),
            others: several.then_some(others),
            taken: Vec::new(),
        }
    }

    /// Takes events of whichever choice has some; none when all have ended.
    async fn take(&mut self, events: &mut Vec<ChoiceEvent>, limit: usize) {
        let (running, taken) = (&mut self.running, &mut self.taken);
        let choice = poll_fn(|cx| {
            for _ in 0..running.len() {
                let Some((choice, mut receiver)) = running.pop_front() else {
                    break;
                };
                match receiver.poll_recv_many(cx, taken, limit) {
                    Poll::Ready(0) => {}
                    Poll::Ready(_) => {
                        running.push_back((choice, receiver));
                        return Poll::Ready(Some(choice));
                    }
                    Poll::Pending => running.push_back((choice, receiver)),
                }
            }
            if running.is_empty() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await;
        let Some(choice) = choice else {
            return;
        };
        for event in self.taken.drain(..) {
            let (ended, failed) = match &event {
                InferEvent::Worker(StreamEvent::End(_)) => (true, false),
                InferEvent::Worker(StreamEvent::Error(_)) => (true, true),
                _ => (false, false),
            };
            events.push((choice, event));
            if ended {
                self.running
                    .retain(|(running, _)| !failed && *running != choice);
                self.others = self.others.take().filter(|_| !failed);
                break;
            }
        }
    }

    /// Ends what is left with an error.
    fn fail(&mut self, choice: u32, error: Diagnostic, events: &mut Vec<ChoiceEvent>) {
        self.running.clear();
        self.others = None;
        events.push((choice, InferEvent::Worker(StreamEvent::Error(error))));
    }

    /// Starts the choices that wait.
    fn start_others(&mut self, events: &mut Vec<ChoiceEvent>) {
        let Some(others) = self.others.take() else {
            return;
        };
        for (choice, request) in (1..).zip(others.requests) {
            match carry(&others.app, others.want.clone(), request, &others.headers) {
                Ok(receiver) => self.running.push_back((choice, receiver)),
                Err(error) => return self.fail(choice, error, events),
            }
        }
    }
}

impl Source for Choices {
    type Event = ChoiceEvent;

    async fn recv_many(&mut self, events: &mut Vec<ChoiceEvent>, limit: usize) -> usize {
        let before = events.len();
        let told = self.group.as_ref().map(Group::cancelled);
        let told = OptionFuture::from(told);
        tokio::select! {
            biased;
            Some(error) = told => self.fail(0, error, events),
            () = self.take(events, limit) => {}
        }
        let has_token = |(_, event): &ChoiceEvent| {
            matches!(
                event,
                InferEvent::Worker(StreamEvent::Token(_) | StreamEvent::End(_))
            )
        };
        if self.others.is_some() && events.iter().any(has_token) {
            self.start_others(events);
        }
        if self.running.is_empty() && self.others.is_none() {
            self.group = None;
        }
        events.len() - before
    }
}
