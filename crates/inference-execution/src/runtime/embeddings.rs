//! Requests for embeddings on the engine thread. Each input is a sequence that finishes with its
//! prefill. A request takes one slot; it computes several inputs at once only while slots are
//! free.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};

use diagnostics::Diagnostic;
use tokio::sync::oneshot;

use super::{
    counters::RequestEnd,
    sequences::Sequences,
    shared::{Shared, Ticket},
};
use crate::{
    deadline::Deadline,
    engine::{Batch, Chunk, Pooling, SequenceId, States},
    errors,
};

/// One embedding of length 1 per input, in order.
type EmbeddingResult = Result<Vec<Vec<f32>>, Diagnostic>;

/// A new request for embeddings.
pub(super) struct NewEmbedding {
    pub ticket: Ticket,
    pub deadline: Option<Deadline>,
    /// Tokens of each input.
    pub inputs: Vec<Vec<u32>>,
    pub reply: oneshot::Sender<EmbeddingResult>,
}

struct EmbeddingRequest {
    ticket: Ticket,
    deadline: Option<Deadline>,
    /// Inputs without a sequence: index and tokens.
    waiting: VecDeque<(usize, Vec<u32>)>,
    vectors: Vec<Vec<f32>>,
    reply: oneshot::Sender<EmbeddingResult>,
}

impl EmbeddingRequest {
    fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled() || self.reply.is_closed()
    }

    fn finish(self) {
        self.ticket.end(RequestEnd::Completed);
        let _ = self.reply.send(Ok(self.vectors));
    }

    fn fail(self, error: Diagnostic) {
        self.ticket.end(RequestEnd::from(&error));
        let _ = self.reply.send(Err(error));
    }
}

/// An input with a sequence.
struct RunningInput {
    request: u64,
    index: usize,
    tokens: usize,
    /// The state of the last computed token or the sum of all states, depending on the pooling.
    state: Vec<f32>,
}

impl RunningInput {
    /// Adds the row of a chunk. Returns whether the input is complete.
    fn add(&mut self, chunk: &Chunk, row: &[f32], pooling: Pooling) -> bool {
        // A preempted sequence starts again at position 0.
        if chunk.position == 0 || pooling == Pooling::Last {
            self.state.clear();
            self.state.extend_from_slice(row);
        } else {
            for (sum, state) in self.state.iter_mut().zip(row) {
                *sum += state;
            }
        }
        chunk.position as usize + chunk.tokens.len() >= self.tokens
    }
}

/// The open requests for embeddings.
pub(super) struct Embeddings {
    requests: BTreeMap<u64, EmbeddingRequest>,
    next_request: u64,
    running: BTreeMap<SequenceId, RunningInput>,
    shared: Arc<Shared>,
}

impl Embeddings {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            requests: BTreeMap::new(),
            next_request: 0,
            running: BTreeMap::new(),
            shared,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns whether the sequence belongs to a request for embeddings.
    pub fn contains(&self, id: SequenceId) -> bool {
        self.running.contains_key(&id)
    }

    pub fn accept(&mut self, new: NewEmbedding) {
        let request = EmbeddingRequest {
            ticket: new.ticket,
            deadline: new.deadline,
            vectors: vec![Vec::new(); new.inputs.len()],
            waiting: new.inputs.into_iter().enumerate().collect(),
            reply: new.reply,
        };
        self.requests.insert(self.next_request, request);
        self.next_request += 1;
    }

    /// Processes cancellations and starts inputs.
    pub fn update(&mut self, sequences: &mut Sequences) {
        self.end_cancelled(sequences);
        self.start_inputs(sequences);
    }

    fn end_cancelled(&mut self, sequences: &mut Sequences) {
        let abort_reason = self.shared.abort_reason();
        let mut ended = Vec::new();
        for (id, request) in &self.requests {
            if request.is_cancelled() {
                ended.push((*id, errors::cancelled()));
            } else if let Some(reason) = abort_reason {
                ended.push((*id, reason.clone()));
            }
        }
        for (id, error) in ended {
            self.fail_request(id, error, sequences);
        }
    }

    /// Every request with waiting inputs computes at least one, and more while slots are free.
    fn start_inputs(&mut self, sequences: &mut Sequences) {
        while let Some(id) = self.next_to_start(sequences.has_free_slot()) {
            let Some(request) = self.requests.get_mut(&id) else {
                return;
            };
            let Some((index, tokens)) = request.waiting.pop_front() else {
                return;
            };
            let input = RunningInput {
                request: id,
                index,
                tokens: tokens.len(),
                state: Vec::new(),
            };
            let sequence = sequences.add(tokens, request.deadline);
            self.running.insert(sequence, input);
        }
    }

    /// Returns the request that starts its next input: the one with the fewest running inputs.
    fn next_to_start(&self, slot_free: bool) -> Option<u64> {
        let running = |id: u64| self.running.values().filter(|i| i.request == id).count();
        let waiting = self.requests.iter().filter(|(_, r)| !r.waiting.is_empty());
        let (running, id) = waiting.map(|(id, _)| (running(*id), *id)).min()?;
        (running == 0 || slot_free).then_some(id)
    }

    /// Moves the chunks of embeddings to a batch of their own.
    pub fn take_chunks(&self, batch: &mut Batch) -> Batch {
        if self.running.is_empty() {
            return Batch::default();
        }
        let chunks = mem::take(&mut batch.chunks);
        let (taken, rest) = chunks.into_iter().partition(|c| self.contains(c.sequence));
        batch.chunks = rest;
        Batch { chunks: taken }
    }

    /// Processes the states of a step.
    pub fn pool(
        &mut self,
        batch: &Batch,
        states: &States,
        pooling: Pooling,
        sequences: &mut Sequences,
    ) {
        for (chunk, row) in batch.chunks.iter().zip(states.rows()) {
            if let Some(input) = self.running.get_mut(&chunk.sequence)
                && input.add(chunk, row, pooling)
            {
                self.finish_input(chunk.sequence, sequences);
            }
        }
    }

    fn finish_input(&mut self, id: SequenceId, sequences: &mut Sequences) {
        sequences.finish(id);
        let Some(input) = self.running.remove(&id) else {
            return;
        };
        let Some(vector) = normalized(input.state) else {
            self.fail_request(input.request, errors::not_normalizable(), sequences);
            return;
        };
        let others_running = self.running.values().any(|i| i.request == input.request);
        let Some(request) = self.requests.get_mut(&input.request) else {
            return;
        };
        request.vectors[input.index] = vector;
        if !others_running
            && request.waiting.is_empty()
            && let Some(request) = self.requests.remove(&input.request)
        {
            request.finish();
        }
    }

    /// Ends the request that a sequence belongs to.
    pub fn fail(&mut self, id: SequenceId, error: Diagnostic, sequences: &mut Sequences) {
        if let Some(input) = self.running.get(&id) {
            self.fail_request(input.request, error, sequences);
        }
    }

    fn fail_request(&mut self, id: u64, error: Diagnostic, sequences: &mut Sequences) {
        self.running.retain(|sequence, input| {
            let ended = input.request == id;
            if ended {
                sequences.finish(*sequence);
            }
            !ended
        });
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

/// Scales a vector to length 1. Returns `None` if its length is zero or not finite.
fn normalized(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let square: f64 = vector.iter().map(|n| f64::from(*n).powi(2)).sum();
    let length = square.sqrt();
    if !length.is_finite() || length == 0.0 {
        return None;
    }
    for number in &mut vector {
        *number = (f64::from(*number) / length) as f32;
    }
    Some(vector)
}

/// The embeddings of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct EmbeddingReply {
    pub(super) reply: oneshot::Receiver<EmbeddingResult>,
    pub(super) shared: Arc<Shared>,
    pub(super) prompt_tokens: u32,
}

impl EmbeddingReply {
    /// Returns the number of tokens of all inputs.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// Waits for the embeddings. Returns one vector of length 1 per input, in order.
    pub async fn vectors(&mut self) -> Result<Vec<Vec<f32>>, Diagnostic> {
        match (&mut self.reply).await {
            Ok(result) => result,
            Err(_) => Err(self.shared.engine_error()),
        }
    }
}

impl Drop for EmbeddingReply {
    fn drop(&mut self) {
        self.reply.close();
        self.shared.wake_engine();
    }
}
