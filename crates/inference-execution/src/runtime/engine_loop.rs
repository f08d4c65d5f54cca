use std::{
    sync::{Arc, mpsc::Receiver},
    thread,
    time::Instant,
};

use diagnostics::Diagnostic;

use super::{
    embeddings::{Embeddings, NewEmbedding},
    generations::{Generations, NewGeneration},
    sequences::Sequences,
    shared::Shared,
};
use crate::{
    engine::{Batch, Engine, EngineError, Pooling, SequenceId},
    errors,
    scheduler::{BatchEffect, BatchScheduler},
};

/// A request on its way to the engine thread.
pub(super) enum NewRequest {
    Generation(Box<NewGeneration>),
    Embedding(NewEmbedding),
}

/// The state of the engine thread.
///
/// The thread waits only in [`thread::park`]. It is unparked for a new request, a cancellation,
/// a mask, and a reader that made room or disconnected.
pub(super) struct EngineLoop {
    engine: Box<dyn Engine>,
    new_requests: Receiver<NewRequest>,
    sequences: Sequences,
    generations: Generations,
    embeddings: Embeddings,
    shared: Arc<Shared>,
}

impl EngineLoop {
    pub fn new(
        engine: Box<dyn Engine>,
        scheduler: BatchScheduler,
        new_requests: Receiver<NewRequest>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            engine,
            new_requests,
            sequences: Sequences::new(scheduler, shared.clone()),
            generations: Generations::new(shared.clone()),
            embeddings: Embeddings::new(shared.clone()),
            shared,
        }
    }

    /// Runs until all handles are dropped and no request is open. Returns an error if the engine
    /// is lost.
    pub fn run(&mut self) -> Result<(), EngineError> {
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        loop {
            self.accept_requests();
            self.generations.update(&mut self.sequences);
            self.embeddings.update(&mut self.sequences);
            self.sequences.schedule(&mut batch, &mut effects);
            for effect in effects.drain(..) {
                self.apply(effect)?;
            }
            if batch.chunks.is_empty() {
                if self.is_done() {
                    return Ok(());
                }
                self.park();
                continue;
            }
            let embedding_batch = self.embeddings.take_chunks(&mut batch);
            self.embed(&embedding_batch)?;
            self.generate(&batch)?;
        }
    }

    /// Ends all requests because the engine is lost.
    pub fn fail_all(&mut self, error: &Diagnostic) {
        self.accept_requests();
        self.generations.fail_all(error);
        self.embeddings.fail_all(error);
    }

    fn accept_requests(&mut self) {
        while let Ok(request) = self.new_requests.try_recv() {
            match request {
                NewRequest::Generation(new) => self.generations.accept(*new, &mut self.sequences),
                NewRequest::Embedding(new) => self.embeddings.accept(new),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.generations.is_empty() && self.embeddings.is_empty() && self.shared.is_closing()
    }

    fn park(&self) {
        match self.sequences.next_deadline() {
            Some(deadline) => thread::park_timeout(deadline.remaining()),
            None => thread::park(),
        }
    }

    fn apply(&mut self, effect: BatchEffect) -> Result<(), EngineError> {
        match effect {
            BatchEffect::Started {
                sequence,
                cached_tokens,
            } => self.generations.start(sequence, cached_tokens),
            BatchEffect::Copy { sequence, from, to } => match self.engine.kv().copy(from, to) {
                Ok(()) => {}
                Err(error @ EngineError::Step(_)) => self.fail(sequence, error.into()),
                Err(error @ EngineError::Device(_)) => return Err(error),
            },
            BatchEffect::Expired(id) => {
                let error = if self.embeddings.contains(id) {
                    errors::embedding_expired()
                } else {
                    errors::generation_expired()
                };
                self.fail(id, error);
            }
            BatchEffect::Overlong(id) => self.fail(id, errors::exceeds_kv_cache()),
        }
        Ok(())
    }

    fn generate(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if let Some(logits) = self.compute(batch, |engine| engine.step(batch))? {
            self.generations.sample(batch, &logits, &mut self.sequences);
        }
        Ok(())
    }

    fn embed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if let Some(states) = self.compute(batch, |engine| engine.embed(batch))? {
            let pooling = self.engine.pooling().unwrap_or(Pooling::Last);
            self.embeddings
                .pool(batch, &states, pooling, &mut self.sequences);
        }
        Ok(())
    }

    /// Computes a batch. Returns `None` if the batch is empty, or if the step failed and its
    /// requests were ended. Returns an error if the engine is lost.
    fn compute<T>(
        &mut self,
        batch: &Batch,
        step: impl FnOnce(&mut dyn Engine) -> Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        if batch.chunks.is_empty() {
            return Ok(None);
        }
        let start = Instant::now();
        match step(&mut *self.engine) {
            Ok(result) => {
                self.sequences.computed(batch, start.elapsed());
                self.shared.record_step();
                Ok(Some(result))
            }
            Err(error @ EngineError::Step(_)) => {
                for chunk in &batch.chunks {
                    self.fail(chunk.sequence, error.clone().into());
                }
                Ok(None)
            }
            Err(error @ EngineError::Device(_)) => Err(error),
        }
    }

    /// Ends the request that a sequence belongs to.
    fn fail(&mut self, id: SequenceId, error: Diagnostic) {
        if self.embeddings.contains(id) {
            self.embeddings.fail(id, error, &mut self.sequences);
        } else {
            self.generations.fail(id, error, &mut self.sequences);
        }
    }
}
