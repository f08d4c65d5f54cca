//! Several answers to one request, told as one stream of events.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll};

use diagnostics::Diagnostic;
use http::HeaderMap;
use queen_contract::InferEvent;
use scheduler::Want;
use tokio::sync::mpsc;
use worker_contract::{InferRequest, StreamEvent};

use super::answers::{Source, carry};
use crate::app::App;

/// An event and the choice that it is of.
pub type ChoiceEvent = (u32, InferEvent);

/// The answers to one request. An error of one ends all; dropping this cancels all.
pub struct Choices {
    /// Choices that have not ended; the next to be looked at comes first.
    running: VecDeque<(u32, mpsc::Receiver<InferEvent>)>,
    others: Option<Others>,
    /// Events of one choice, on their way out.
    taken: Vec<InferEvent>,
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
    (1..choices)
        .map(|choice| {
            let mut other = request.clone();
            other.request_id = format!("{}_{choice}", request.request_id).parse()?;
            other.sampling.choice = choice;
            Ok(other)
        })
        .collect()
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
    pub fn new(first: mpsc::Receiver<InferEvent>, others: Others) -> Self {
        Self {
            running: VecDeque::from([(0, first)]),
            others: (!others.requests.is_empty()).then_some(others),
            taken: Vec::new(),
        }
    }

    /// Takes events of whichever choice has some; 0 when all have ended.
    async fn take(&mut self, events: &mut Vec<ChoiceEvent>, limit: usize) -> usize {
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
            return 0;
        };
        let before = events.len();
        for event in self.taken.drain(..) {
            let failed = matches!(event, InferEvent::Worker(StreamEvent::Error(_)));
            events.push((choice, event));
            if failed {
                self.running.clear();
                self.others = None;
                break;
            }
        }
        events.len() - before
    }

    /// Starts the choices that wait.
    fn start_others(&mut self, events: &mut Vec<ChoiceEvent>) {
        let Some(others) = self.others.take() else {
            return;
        };
        for (choice, request) in (1..).zip(others.requests) {
            match carry(&others.app, others.want.clone(), request, &others.headers) {
                Ok(receiver) => self.running.push_back((choice, receiver)),
                Err(error) => {
                    self.running.clear();
                    events.push((choice, InferEvent::Worker(StreamEvent::Error(error))));
                    return;
                }
            }
        }
    }
}

impl Source for Choices {
    type Event = ChoiceEvent;

    async fn recv_many(&mut self, events: &mut Vec<ChoiceEvent>, limit: usize) -> usize {
        let count = self.take(events, limit).await;
        let has_token = |(_, event): &ChoiceEvent| {
            matches!(
                event,
                InferEvent::Worker(StreamEvent::Token(_) | StreamEvent::End(_))
            )
        };
        if self.others.is_some() && events.iter().any(has_token) {
            self.start_others(events);
        }
        count
    }
}
