//! Vectors of texts. Each input is a sequence of its own that is over with its prefill; a
//! request has one slot, and uses more only while nobody else asks for them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use tokio::sync::oneshot;

use super::shared::{Outcome, Shared, Ticket};
use crate::{Batch, Chunk, Pooling, SequenceId};

/// What a request for vectors ends with: one of length 1 for each input, in order.
type Vectors = Result<Vec<Vec<f32>>, Diagnostic>;

/// A request for vectors on its way to the engine's thread.
pub(super) struct Job {
    pub ticket: Arc<Ticket>,
    /// On the scheduler's clock.
    pub deadline: Option<Duration>,
    /// Tokens of the inputs that have not begun, with their places in the answer.
    pub inputs: VecDeque<(usize, Vec<u32>)>,
    pub vectors: Vec<Vec<f32>>,
    pub reply: oneshot::Sender<Vectors>,
}

/// An input that is to be computed.
pub(super) struct Input {
    job: u64,
    place: usize,
    pub tokens: Vec<u32>,
    pub deadline: Option<Duration>,
}

/// An input that is being computed.
struct Running {
    job: u64,
    place: usize,
    tokens: u32,
    /// The states so far: of the last token, or their sum.
    state: Vec<f32>,
}

/// The requests for vectors that the engine's thread works on.
#[derive(Default)]
pub(super) struct Embeddings {
    jobs: BTreeMap<u64, Job>,
    sequences: BTreeMap<SequenceId, Running>,
    next: u64,
}

impl Embeddings {
    pub fn add(&mut self, job: Job) {
        self.jobs.insert(self.next, job);
        self.next += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The next input to begin: every request may compute one, and more while there is room.
    /// Of several requests the one that computes the fewest is next.
    pub fn next_input(&mut self, room: bool) -> Option<Input> {
        let computing = |id: u64| self.sequences.values().filter(|s| s.job == id).count();
        let waiting = self.jobs.iter().filter(|(_, job)| !job.inputs.is_empty());
        let (count, job) = waiting.map(|(id, _)| (computing(*id), *id)).min()?;
        if count > 0 && !room {
            return None;
        }
        let waiting = self.jobs.get_mut(&job)?;
        let (place, tokens) = waiting.inputs.pop_front()?;
        Some(Input {
            job,
            place,
            tokens,
            deadline: waiting.deadline,
        })
    }

    /// The input is now this sequence, of so many tokens.
    pub fn begin(&mut self, id: SequenceId, input: &Input, tokens: u32) {
        let running = Running {
            job: input.job,
            place: input.place,
            tokens,
            state: Vec::new(),
        };
        self.sequences.insert(id, running);
    }

    /// Takes the chunks out of a batch that belong to inputs.
    pub fn take_out(&self, batch: &mut Batch) -> Batch {
        if self.sequences.is_empty() {
            return Batch::default();
        }
        let chunks = std::mem::take(&mut batch.chunks);
        let mine = |chunk: &Chunk| self.sequences.contains_key(&chunk.sequence);
        let (mine, rest) = chunks.into_iter().partition(mine);
        batch.chunks = rest;
        Batch { chunks: mine }
    }

    /// Puts the engine's row for a chunk to its input; true when the input is complete. The
    /// request's place is free before its reader learns of the end.
    pub fn computed(&mut self, chunk: &Chunk, row: &[f32], pooling: Pooling) -> bool {
        let Some(running) = self.sequences.get_mut(&chunk.sequence) else {
            return false;
        };
        // A sequence that lost its blocks begins anew.
        if chunk.position == 0 || pooling == Pooling::Last {
            running.state.clear();
            running.state.extend_from_slice(row);
        } else {
            let sums = running.state.iter_mut().zip(row);
            sums.for_each(|(sum, state)| *sum += state);
        }
        chunk.position + chunk.tokens.len() as u32 >= running.tokens
    }

    /// Takes a complete input into the answer.
    pub fn complete(&mut self, id: SequenceId) -> Result<(), Diagnostic> {
        let Some(running) = self.sequences.remove(&id) else {
            return Ok(());
        };
        let Some(job) = self.jobs.get_mut(&running.job) else {
            return Ok(());
        };
        if let Some(vector) = normalised(running.state) {
            job.vectors[running.place] = vector;
        } else {
            // Back, so that failing it finds its request.
            let state = Vec::new();
            self.sequences.insert(id, Running { state, ..running });
            return Err(Diagnostic::internal("the model gave no usable vector"));
        }
        let last = !self.sequences.values().any(|s| s.job == running.job);
        if last
            && job.inputs.is_empty()
            && let Some(job) = self.jobs.remove(&running.job)
        {
            job.ticket.end(Outcome::Completed);
            let _ = job.reply.send(Ok(job.vectors));
        }
        Ok(())
    }

    /// Ends the request of a sequence; its sequences, all of which are over.
    pub fn fail(&mut self, id: SequenceId, error: Diagnostic) -> Vec<SequenceId> {
        match self.sequences.get(&id) {
            Some(running) => self.fail_job(running.job, error),
            None => Vec::new(),
        }
    }

    fn fail_job(&mut self, id: u64, error: Diagnostic) -> Vec<SequenceId> {
        let over = self.sequences.iter().filter(|(_, s)| s.job == id);
        let over: Vec<SequenceId> = over.map(|(sequence, _)| *sequence).collect();
        for sequence in &over {
            self.sequences.remove(sequence);
        }
        if let Some(job) = self.jobs.remove(&id) {
            job.ticket.end(Outcome::of(&error));
            // A reader that is gone wants no error.
            let _ = job.reply.send(Err(error));
        }
        over
    }

    /// Ends the requests that were cancelled, whose reader went away, or whose deadline
    /// passed; all of them with `ending`. The sequences that are over.
    pub fn sweep(&mut self, now: Duration, ending: Option<&Diagnostic>) -> Vec<SequenceId> {
        let ended = |job: &Job| {
            if job.ticket.is_cancelled() || job.reply.is_closed() {
                let error = Diagnostic::new(Code::Cancelled, "the request was cancelled");
                return Some(error);
            }
            if job.deadline.is_some_and(|deadline| deadline <= now) {
                let error = Diagnostic::new(
                    Code::DeadlineExceeded,
                    "the request's deadline passed before all vectors were there",
                );
                return Some(error.hint("allow more time, or ask for fewer at once"));
            }
            ending.cloned()
        };
        let over: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|(id, job)| Some((*id, ended(job)?)))
            .collect();
        over.into_iter()
            .flat_map(|(id, error)| self.fail_job(id, error))
            .collect()
    }

    /// Ends all.
    pub fn end_all(&mut self, error: &Diagnostic) {
        while let Some(id) = self.jobs.keys().next().copied() {
            self.fail_job(id, error.clone());
        }
    }
}

/// The vector brought to length 1; `None` when it has no direction.
fn normalised(mut vector: Vec<f32>) -> Option<Vec<f32>> {
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

/// The vectors of one request, once they are there. Dropping it cancels the request.
#[derive(Debug)]
pub struct EmbeddingReply {
    pub(super) reply: oneshot::Receiver<Vectors>,
    pub(super) shared: Arc<Shared>,
    pub(super) prompt_tokens: u32,
}

impl EmbeddingReply {
    /// Tokens of all inputs.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// One vector of length 1 for each input, in order.
    pub async fn vectors(&mut self) -> Result<Vec<Vec<f32>>, Diagnostic> {
        let lost = || Diagnostic::internal("the engine ended before the vectors were there");
        match (&mut self.reply).await {
            Ok(vectors) => vectors,
            Err(_) => Err(self.shared.failure.get().cloned().unwrap_or_else(lost)),
        }
    }
}

impl Drop for EmbeddingReply {
    fn drop(&mut self) {
        self.reply.close();
        self.shared.wake();
    }
}
