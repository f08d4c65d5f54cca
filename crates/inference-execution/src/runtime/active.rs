use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use worker_contract::{
    EndEvent, FinishReason, MetricsEvent, StartedEvent, StreamEvent, Timings, TokenEvent, Usage,
};

use super::{
    shared::{Outcome, Shared, Ticket},
    stream::EventSender,
};
use crate::Generation;

/// A request on its way to the engine's thread.
pub(super) struct Submission {
    /// Prompt and what was generated elsewhere.
    pub tokens: Vec<u32>,
    /// On the scheduler's clock.
    pub deadline: Option<Duration>,
    /// The answer was complete already.
    pub complete: Option<FinishReason>,
    pub active: Active,
}

/// A request that the engine's thread works on.
pub(super) struct Active {
    pub ticket: Arc<Ticket>,
    pub events: EventSender,
    pub generation: Generation,
    pub started_event: StartedEvent,
    /// Logits whose token cannot be chosen before its mask is known.
    pub held: Option<Vec<f32>>,
    /// Its sequence is paused until the reader makes room.
    pub paused: bool,
    pub clock: RequestClock,
}

/// When what happened to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestClock {
    arrived: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    tokens: u32,
}

impl RequestClock {
    pub fn new() -> Self {
        Self {
            arrived: Instant::now(),
            started: None,
            first_token: None,
            last_token: None,
            tokens: 0,
        }
    }

    fn token(&mut self) {
        let now = Instant::now();
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
        self.tokens += 1;
    }

    fn metrics(&self) -> MetricsEvent {
        MetricsEvent {
            time_to_first_token_ms: ms(Some(self.arrived), self.first_token),
            tokens_per_second: self.tokens_per_second(),
        }
    }

    fn timings(&self) -> Timings {
        Timings {
            queue_ms: ms(Some(self.arrived), self.started),
            prefill_ms: ms(self.started, self.first_token),
            decode_ms: ms(self.first_token, self.last_token),
            tokens_per_second: self.tokens_per_second(),
        }
    }

    fn tokens_per_second(&self) -> f64 {
        let decode_ms = ms(self.first_token, self.last_token);
        if self.tokens < 2 || decode_ms <= 0.0 {
            return 0.0;
        }
        f64::from(self.tokens - 1) * 1000.0 / decode_ms
    }
}

/// Milliseconds from one to the other; 0 when one of them never came.
fn ms(from: Option<Instant>, to: Option<Instant>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => to.saturating_duration_since(from).as_secs_f64() * 1000.0,
        _ => 0.0,
    }
}

impl Active {
    /// The prefill begins after `cached` tokens that need not be computed; how many of the
    /// prompt's those are.
    pub fn start(&mut self, cached: u32) -> u32 {
        self.clock.started = Some(Instant::now());
        let cached = cached.min(self.started_event.prompt_tokens);
        self.started_event.cached_tokens = cached;
        self.events
            .send(StreamEvent::Started(self.started_event.clone()));
        cached
    }

    pub fn token(&mut self, event: TokenEvent, shared: &Shared) {
        self.clock.token();
        shared.generated_tokens.fetch_add(1, SeqCst);
        self.events.send(StreamEvent::Token(event));
    }

    /// The slot is free before the reader learns of the end, so that a reader's next request
    /// finds it.
    pub fn finish(self, reason: FinishReason) {
        self.ticket.end(Outcome::Completed);
        self.events.send(StreamEvent::Metrics(self.clock.metrics()));
        self.events.send(StreamEvent::End(EndEvent {
            reason,
            stop: self.generation.stopped_by(),
            usage: Usage {
                prompt_tokens: self.started_event.prompt_tokens,
                completion_tokens: self.generation.count(),
                cached_tokens: self.started_event.cached_tokens,
            },
            timings: self.clock.timings(),
        }));
    }

    pub fn fail(self, error: Diagnostic) {
        self.ticket.end(Outcome::of(&error));
        let id = self.started_event.request_id.to_string();
        self.events.send(StreamEvent::Error(error.correlated(id)));
    }
}
