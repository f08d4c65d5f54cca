use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use worker_contract::{EndEvent, FinishReason, StartedEvent, StreamEvent, Usage};

use super::{
    counters::RequestEnd,
    sequences::Sequences,
    shared::{Shared, Ticket},
    stream::EventSender,
    times::RequestTimes,
};
use crate::{
    deadline::Deadline,
    engine::{Batch, Logits, SequenceId},
    errors,
    generation::Generation,
};

/// How long to wait after a step for masks that are nearly computed. A sequence without its mask
/// misses the next step; waiting longer would delay all other sequences.
const MASK_PATIENCE: Duration = Duration::from_millis(1);

/// A new request for generated text.
pub(super) struct NewGeneration {
    /// The prompt and the replayed output.
    pub tokens: Vec<u32>,
    pub deadline: Option<Deadline>,
    /// Set if the replayed output is complete.
    pub finish: Option<FinishReason>,
    pub request: GenerationRequest,
}

/// A request for generated text. It has one sequence.
pub(super) struct GenerationRequest {
    pub ticket: Ticket,
    pub events: EventSender,
    pub generation: Generation,
    pub started: StartedEvent,
    pub times: RequestTimes,
    /// Logits that wait for their mask.
    pub pending_logits: Option<Vec<f32>>,
    /// The sequence is paused until the reader makes room.
    pub paused: bool,
}

impl GenerationRequest {
    /// Reports that the prefill starts. Returns the number of cached prompt tokens.
    fn start(&mut self, cached_tokens: u32) -> u32 {
        self.times.record_start();
        self.started.cached_tokens = cached_tokens.min(self.started.prompt_tokens);
        let started = StreamEvent::Started(self.started.clone());
        self.events.send(started);
        self.started.cached_tokens
    }

    /// Frees the slot before it sends the last events, so that the client's next request finds
    /// the slot free.
    fn finish(self, reason: FinishReason) {
        self.ticket.end(RequestEnd::Completed);
        let sampled = self.generation.sampled();
        let metrics = self.times.metrics(sampled);
        self.events.send(StreamEvent::Metrics(metrics));
        self.events.send(StreamEvent::End(EndEvent {
            reason,
            stop: self.generation.stopped_by(),
            usage: Usage {
                prompt_tokens: self.started.prompt_tokens,
                completion_tokens: self.generation.count(),
                cached_tokens: self.started.cached_tokens,
                reasoning_tokens: self.generation.reasoning_tokens(),
            },
            timings: self.times.timings(sampled),
        }));
    }

    fn fail(self, error: Diagnostic) {
        self.ticket.end(RequestEnd::from(&error));
        let id = self.started.request_id.as_str();
        self.events
            .send(StreamEvent::Error(error.correlation_id(id)));
    }
}

/// The open requests for generated text.
pub(super) struct Generations {
    requests: BTreeMap<SequenceId, GenerationRequest>,
    shared: Arc<Shared>,
}

impl Generations {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            requests: BTreeMap::new(),
            shared,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub fn accept(&mut self, new: NewGeneration, sequences: &mut Sequences) {
        let mut request = new.request;
        if let Some(reason) = new.finish {
            request.start(0);
            request.finish(reason);
            return;
        }
        let id = sequences.add(new.tokens, new.deadline);
        self.requests.insert(id, request);
    }

    /// Processes what happened since the last step: cancellations, readers that made room, and
    /// masks.
    pub fn update(&mut self, sequences: &mut Sequences) {
        self.end_cancelled(sequences);
        self.resume_paused(sequences);
        self.sample_pending(sequences);
    }

    fn end_cancelled(&mut self, sequences: &mut Sequences) {
        let abort_reason = self.shared.abort_reason();
        let mut ended = Vec::new();
        for (id, request) in &self.requests {
            if request.ticket.is_cancelled() || request.events.is_abandoned() {
                ended.push((*id, errors::cancelled()));
            } else if let Some(reason) = abort_reason {
                ended.push((*id, reason.clone()));
            }
        }
        for (id, error) in ended {
            self.fail(id, error, sequences);
        }
    }

    fn resume_paused(&mut self, sequences: &mut Sequences) {
        for (id, request) in &mut self.requests {
            if request.paused && request.events.ready() {
                request.paused = false;
                sequences.resume(*id);
            }
        }
    }

    fn sample_pending(&mut self, sequences: &mut Sequences) {
        let pending: Vec<SequenceId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.pending_logits.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in pending {
            let request = self.requests.get_mut(&id);
            if let Some(logits) = request.and_then(|r| r.pending_logits.take())
                && !self.sample_token(id, &logits, sequences)
            {
                self.set_pending(id, logits);
            }
        }
    }

    fn set_pending(&mut self, id: SequenceId, logits: Vec<f32>) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.pending_logits = Some(logits);
        }
    }

    /// Reports that the first step of a sequence begins. `id` may belong to another kind of
    /// request.
    pub fn start(&mut self, id: SequenceId, cached_tokens: u32) {
        if let Some(request) = self.requests.get_mut(&id) {
            let cached_tokens = request.start(cached_tokens);
            self.shared.counters.add_cached_tokens(cached_tokens);
        }
    }

    /// Samples the tokens of a step.
    pub fn sample(&mut self, batch: &Batch, logits: &Logits, sequences: &mut Sequences) {
        let mut rows = logits.rows();
        let mut pending = Vec::new();
        for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
            let id = chunk.sequence;
            match rows.next() {
                None => self.fail(id, errors::no_logits(), sequences),
                Some(row) if !self.sample_token(id, row, sequences) => pending.push((id, row)),
                Some(_) => {}
            }
        }
        let deadline = Deadline::at(Instant::now() + MASK_PATIENCE);
        for (id, row) in pending {
            if let Some(request) = self.requests.get_mut(&id) {
                request.generation.wait_for_mask(deadline);
            }
            if !self.sample_token(id, row, sequences) {
                self.set_pending(id, row.to_vec());
            }
        }
    }

    /// Samples and sends the next token of a sequence. Returns `false` if its mask is not
    /// computed yet.
    fn sample_token(&mut self, id: SequenceId, logits: &[f32], sequences: &mut Sequences) -> bool {
        let Some(request) = self.requests.get_mut(&id) else {
            return true;
        };
        // A preempted sequence computes the same logits again.
        request.pending_logits = None;
        let generated = match request.generation.next(logits) {
            Ok(Some(generated)) => generated,
            Ok(None) => return false,
            Err(error) => {
                self.fail(id, error, sequences);
                return true;
            }
        };
        let token = generated.event.id;
        if let Some(elapsed) = request.times.record_token() {
            request.events.set_time_to_first_token(elapsed);
        }
        self.shared.counters.token_generated();
        request.events.send(StreamEvent::Token(generated.event));
        if let Some(reason) = generated.finish {
            sequences.finish(id);
            if let Some(request) = self.requests.remove(&id) {
                request.finish(reason);
            }
            return true;
        }
        sequences.sampled(id, token);
        if !request.events.ready() {
            request.paused = true;
            sequences.pause(id);
        }
        true
    }

    pub fn fail(&mut self, id: SequenceId, error: Diagnostic, sequences: &mut Sequences) {
        sequences.finish(id);
        if let Some(request) = self.requests.remove(&id) {
            request.fail(error);
        }
    }

    pub fn fail_all(&mut self, error: &Diagnostic) {
        for request in mem::take(&mut self.requests).into_values() {
            request.fail(error.clone());
        }
    }
}
