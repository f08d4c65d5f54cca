use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::Ordering::SeqCst,
        mpsc::{Receiver, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use diagnostics::{Code, Diagnostic};

use super::{
    active::{Active, Submission},
    embedding::{Embeddings, Job},
    shared::Shared,
};
use crate::{Batch, Effect, Engine, EngineError, Event, Logits, Pooling, Scheduler, SequenceId};

/// How long a step's end waits for masks that are nearly known. Without them their sequences
/// miss the next step; with all the time in the world one of them would hold the others up.
const MASK_PATIENCE: Duration = Duration::from_millis(1);

/// What the engine's thread owns. It waits only in [`thread::park`]; whoever has news for
/// it (a request, a cancel, a mask, a reader that made room or went away) unparks it.
pub(super) struct EngineLoop {
    pub engine: Box<dyn Engine>,
    pub scheduler: Scheduler,
    pub submissions: Receiver<Submission>,
    pub shared: Arc<Shared>,
    pub active: BTreeMap<SequenceId, Active>,
    pub jobs: Receiver<Job>,
    pub embeddings: Embeddings,
    pub slots: usize,
    pub next: u64,
    pub block_tokens: u64,
}

impl EngineLoop {
    /// Runs until no handle is left and nothing runs; an error means that the engine is
    /// lost.
    pub fn run(&mut self) -> Result<(), Diagnostic> {
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        loop {
            self.receive();
            self.sweep();
            self.scheduler
                .schedule(self.shared.now(), &mut batch, &mut effects);
            for effect in effects.drain(..) {
                self.apply(effect)?;
            }
            self.show();
            if batch.chunks.is_empty() {
                if self.active.is_empty()
                    && self.embeddings.is_empty()
                    && self.shared.closing.load(SeqCst)
                {
                    return Ok(());
                }
                self.park();
                continue;
            }
            let texts = self.embeddings.take_out(&mut batch);
            if !texts.chunks.is_empty() {
                self.embed(&texts)?;
            }
            if batch.chunks.is_empty() {
                continue;
            }
            let begun = Instant::now();
            match self.engine.step(&batch) {
                Ok(logits) => {
                    self.shared.stepped();
                    self.scheduler.computed(&batch, begun.elapsed());
                    self.sample(&batch, &logits);
                }
                Err(error @ EngineError::Step(_)) => {
                    for chunk in &batch.chunks {
                        self.fail(chunk.sequence, error.clone().into());
                    }
                }
                Err(error @ EngineError::Device(_)) => return Err(error.into()),
            }
        }
    }

    /// The engine is lost: nothing is left to run anything, so everything ends with `error`.
    pub fn end_all(&mut self, error: &Diagnostic) {
        self.receive();
        for active in std::mem::take(&mut self.active).into_values() {
            active.fail(error.clone());
        }
        self.embeddings.end_all(error);
    }

    fn receive(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.embeddings.add(job);
        }
        loop {
            match self.submissions.try_recv() {
                Ok(submission) => self.take(submission),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, submission: Submission) {
        let Submission {
            tokens,
            deadline,
            complete,
            mut active,
        } = submission;
        if let Some(reason) = complete {
            active.start(0);
            active.finish(reason);
            return;
        }
        let id = SequenceId(self.next);
        self.next += 1;
        self.scheduler
            .handle(id, Event::Arrived { tokens, deadline });
        self.active.insert(id, active);
    }

    /// Looks at every request for what its reader or a canceller did.
    fn sweep(&mut self) {
        let mut over = Vec::new();
        let ending = self.shared.ending.get();
        for (id, active) in &mut self.active {
            if active.ticket.is_cancelled() || active.events.is_abandoned() {
                let error = Diagnostic::new(Code::Cancelled, "the request was cancelled");
                over.push((*id, error));
            } else if let Some(error) = ending {
                over.push((*id, error.clone()));
            } else if active.paused && active.events.ready() {
                active.paused = false;
                self.scheduler.handle(*id, Event::Resumed);
            }
        }
        let texts = self.embeddings.sweep(self.shared.now(), ending);
        for (id, error) in over {
            self.fail(id, error);
        }
        self.choose_held();
        self.finish(&texts);
        self.feed();
    }

    /// Chooses tokens from logits that waited for their masks.
    fn choose_held(&mut self) {
        let held: Vec<SequenceId> = self
            .active
            .iter()
            .filter(|(_, active)| active.held.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            let row = self.active.get_mut(&id).and_then(|a| a.held.take());
            if let Some(row) = row
                && !self.choose(id, &row)
            {
                self.hold(id, row);
            }
        }
    }

    fn hold(&mut self, id: SequenceId, row: Vec<f32>) {
        if let Some(active) = self.active.get_mut(&id) {
            active.held = Some(row);
        }
    }

    /// Begins inputs of requests for vectors.
    fn feed(&mut self) {
        loop {
            let room = self.scheduler.running() + self.scheduler.waiting() < self.slots;
            let Some(mut input) = self.embeddings.next_input(room) else {
                return;
            };
            let id = SequenceId(self.next);
            self.next += 1;
            let tokens = std::mem::take(&mut input.tokens);
            self.embeddings.begin(id, &input, tokens.len() as u32);
            let deadline = input.deadline;
            self.scheduler
                .handle(id, Event::Arrived { tokens, deadline });
        }
    }

    /// Computes texts that become vectors; an error means that the engine is lost.
    fn embed(&mut self, texts: &Batch) -> Result<(), Diagnostic> {
        let begun = Instant::now();
        let computed = self.engine.embed(texts);
        let took = begun.elapsed();
        let pooling = self.engine.pooling().unwrap_or(Pooling::Last);
        let states = match computed {
            Ok(states) => states,
            Err(error @ EngineError::Step(_)) => {
                for chunk in &texts.chunks {
                    self.fail(chunk.sequence, error.clone().into());
                }
                return Ok(());
            }
            Err(error @ EngineError::Device(_)) => return Err(error.into()),
        };
        self.shared.stepped();
        self.scheduler.computed(texts, took);
        for (chunk, row) in texts.chunks.iter().zip(states.rows()) {
            let id = chunk.sequence;
            if self.embeddings.computed(chunk, row, pooling) {
                self.finish(&[id]);
                if let Err(error) = self.embeddings.complete(id) {
                    self.fail(id, error);
                }
            }
        }
        Ok(())
    }

    /// Gives the blocks of sequences back.
    fn finish(&mut self, over: &[SequenceId]) {
        for id in over {
            self.scheduler.handle(*id, Event::Finished);
        }
        if !over.is_empty() {
            self.show();
        }
    }

    /// Does what the scheduler decided; an error means that the engine is lost.
    fn apply(&mut self, effect: Effect) -> Result<(), Diagnostic> {
        match effect {
            Effect::Started {
                sequence,
                cached_tokens,
            } => {
                if let Some(active) = self.active.get_mut(&sequence) {
                    let cached = active.start(cached_tokens);
                    self.shared
                        .cached_tokens
                        .fetch_add(u64::from(cached), SeqCst);
                }
            }
            Effect::Copy { sequence, from, to } => match self.engine.kv().copy(from, to) {
                Ok(()) => {}
                Err(error @ EngineError::Step(_)) => self.fail(sequence, error.into()),
                Err(error @ EngineError::Device(_)) => return Err(error.into()),
            },
            Effect::Expired(id) => self.fail(
                id,
                Diagnostic::new(Code::DeadlineExceeded, "the request's deadline passed")
                    .hint("allow more time, or ask for fewer tokens"),
            ),
            Effect::Overlong(id) => self.fail(
                id,
                Diagnostic::new(
                    Code::ContextLengthExceeded,
                    "the request does not fit the KV cache",
                )
                .hint("shorten the prompt, or ask for fewer tokens"),
            ),
        }
        Ok(())
    }

    fn sample(&mut self, batch: &Batch, logits: &Logits) {
        let wanted = batch.chunks.iter().filter(|c| c.wants_logits);
        let mut rows = logits.rows();
        let mut late = Vec::new();
        for chunk in wanted {
            let id = chunk.sequence;
            let Some(row) = rows.next() else {
                self.fail(id, Diagnostic::internal("the model gave no logits"));
                continue;
            };
            if !self.choose(id, row) {
                late.push((id, row));
            }
        }
        let end = Instant::now() + MASK_PATIENCE;
        for (id, row) in late {
            if let Some(active) = self.active.get_mut(&id) {
                active.generation.wait(end);
            }
            if !self.choose(id, row) {
                self.hold(id, row.to_vec());
            }
        }
    }

    /// Chooses a sequence's next token and sends it; `false` when the mask for it is not
    /// known yet.
    fn choose(&mut self, id: SequenceId, row: &[f32]) -> bool {
        let Some(active) = self.active.get_mut(&id) else {
            return true;
        };
        // The same logits may come again after the sequence lost its blocks.
        active.held = None;
        let generated = match active.generation.next(row) {
            Ok(Some(generated)) => generated,
            Ok(None) => return false,
            Err(error) => {
                self.fail(id, error);
                return true;
            }
        };
        let token = generated.event.id;
        active.token(generated.event, &self.shared);
        if let Some(reason) = generated.finish {
            if let Some(active) = self.end(id) {
                active.finish(reason);
            }
            return true;
        }
        self.scheduler.handle(id, Event::Sampled(token));
        if !active.events.ready() {
            active.paused = true;
            self.scheduler.handle(id, Event::Paused);
        }
        true
    }

    fn fail(&mut self, id: SequenceId, error: Diagnostic) {
        if let Some(active) = self.end(id) {
            active.fail(error);
        } else {
            let over = self.embeddings.fail(id, error);
            self.finish(&over);
        }
    }

    /// Takes a request out. Its blocks are shown as free before anyone learns of the end.
    fn end(&mut self, id: SequenceId) -> Option<Active> {
        self.scheduler.handle(id, Event::Finished);
        self.show();
        self.active.remove(&id)
    }

    fn show(&self) {
        let pool = self.scheduler.pool();
        let used = u64::from(pool.held()) * self.block_tokens;
        self.shared.show(self.scheduler.waiting(), used);
    }

    fn park(&self) {
        match self.scheduler.next_deadline() {
            Some(deadline) => {
                thread::park_timeout(deadline.saturating_sub(self.shared.now()));
            }
            None => thread::park(),
        }
    }
}
