use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::shared::Shared;
use crate::{
    deadline::Deadline,
    engine::{Batch, SequenceId},
    scheduler::{BatchEffect, BatchScheduler, SequenceEvent},
};

/// The sequences of all requests. Wraps the scheduler, assigns ids, and publishes the load.
pub(super) struct Sequences {
    scheduler: BatchScheduler,
    next_id: u64,
    shared: Arc<Shared>,
}

impl Sequences {
    pub fn new(scheduler: BatchScheduler, shared: Arc<Shared>) -> Self {
        Self {
            scheduler,
            next_id: 0,
            shared,
        }
    }

    pub fn add(&mut self, tokens: Vec<u32>, deadline: Option<Deadline>) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let arrived = SequenceEvent::Arrived { tokens, deadline };
        self.scheduler.handle(id, arrived);
        id
    }

    pub fn sampled(&mut self, id: SequenceId, token: u32) {
        self.scheduler.handle(id, SequenceEvent::Sampled(token));
    }

    pub fn pause(&mut self, id: SequenceId) {
        self.scheduler.handle(id, SequenceEvent::Paused);
    }

    pub fn resume(&mut self, id: SequenceId) {
        self.scheduler.handle(id, SequenceEvent::Resumed);
    }

    /// Removes a sequence. Call this before the client learns that its request ended, so that
    /// the published load does not include it any more.
    pub fn finish(&mut self, id: SequenceId) {
        self.scheduler.handle(id, SequenceEvent::Finished);
        self.publish_load();
    }

    pub fn has_free_slot(&self) -> bool {
        self.scheduler.has_free_slot()
    }

    pub fn next_deadline(&self) -> Option<Deadline> {
        self.scheduler.next_deadline()
    }

    pub fn schedule(&mut self, batch: &mut Batch, effects: &mut Vec<BatchEffect>) {
        self.scheduler.schedule(Instant::now(), batch, effects);
        self.publish_load();
    }

    pub fn computed(&mut self, batch: &Batch, took: Duration) {
        self.scheduler.computed(batch, took);
    }

    fn publish_load(&self) {
        let (waiting, held) = (self.scheduler.waiting(), self.scheduler.held_tokens());
        self.shared.set_load(waiting, held);
    }
}
