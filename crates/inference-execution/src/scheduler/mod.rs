//! Continuous batching: which tokens of which sequences the engine computes next. Pure: the
//! time is given, nothing is computed here.
//!
//! - At most `slots` sequences hold blocks of the KV cache; the others wait in the order of
//!   their arrival. A sequence leaves the queue when all its known tokens have blocks.
//! - Each step gives one row to every sequence that decodes and what is left of the token
//!   budget to prefills, oldest first.
//! - A sequence that needs a block when none is free takes those of a paused one, else of
//!   the youngest. Who loses its blocks waits again at its old place, keeps its tokens and
//!   computes them anew.
//! - A paused sequence (its reader is slow) is never computed and never holds others up.

mod sequence;

use std::time::Duration;

use sequence::Sequence;

use crate::{Batch, BlockPool, SequenceId};

/// Limits of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Sequences that hold blocks at once; at least 1.
    pub slots: u32,
    /// Tokens computed in one step; raised to `slots`, so that all can decode.
    pub token_budget: u32,
    /// Blocks of the KV cache.
    pub blocks: u32,
    /// Tokens in a block; at least 1.
    pub block_tokens: u32,
}

/// What happened to a sequence. Events of a sequence that is not known are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new sequence.
    Arrived {
        /// Its tokens: the prompt and what was generated elsewhere; never empty.
        tokens: Vec<u32>,
        /// When it is worth nothing any more, on the clock of `now`.
        deadline: Option<Duration>,
    },
    /// Its next token was chosen from the logits of the last step.
    Sampled(u32),
    /// Its reader has no room for more.
    Paused,
    /// Its reader has room again.
    Resumed,
    /// It is complete, cancelled or lost.
    Finished,
}

/// What the shell is to do besides computing the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The sequence got its first blocks: its prefill begins.
    Started(SequenceId),
    /// The sequence is over because its deadline passed.
    Expired(SequenceId),
    /// The sequence is over because it is longer than the whole KV cache.
    Overlong(SequenceId),
}

/// The state: who waits, who runs, who holds which blocks.
#[derive(Debug, Clone)]
pub struct Scheduler {
    config: SchedulerConfig,
    pool: BlockPool,
    /// By arrival: ids count up.
    waiting: Vec<Sequence>,
    /// By arrival.
    running: Vec<Sequence>,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(mut config: SchedulerConfig) -> Self {
        config.slots = config.slots.max(1);
        config.token_budget = config.token_budget.max(config.slots);
        config.block_tokens = config.block_tokens.max(1);
        Self {
            config,
            pool: BlockPool::new(config.blocks),
            waiting: Vec::new(),
            running: Vec::new(),
        }
    }

    /// The blocks.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Sequences without blocks.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences with blocks.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The next deadline of any sequence.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sequences().filter_map(|s| s.deadline).min()
    }

    fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.running.iter().chain(&self.waiting)
    }

    /// Takes note of an event. Sequences must arrive with rising ids.
    pub fn handle(&mut self, id: SequenceId, event: Event) {
        match event {
            Event::Arrived { tokens, deadline } => {
                self.wait(Sequence::new(id, tokens, deadline));
            }
            Event::Finished => {
                self.waiting.retain(|s| s.id != id);
                if let Some(index) = self.running.iter().position(|s| s.id == id) {
                    self.running.remove(index).release(&mut self.pool);
                }
            }
            Event::Sampled(token) => self.change(id, |s| s.tokens.push(token)),
            Event::Paused => self.change(id, |s| s.paused = true),
            Event::Resumed => self.change(id, |s| s.paused = false),
        }
    }

    fn change(&mut self, id: SequenceId, change: impl FnOnce(&mut Sequence)) {
        let mut all = self.running.iter_mut().chain(&mut self.waiting);
        if let Some(sequence) = all.find(|s| s.id == id) {
            change(sequence);
        }
    }

    fn wait(&mut self, sequence: Sequence) {
        let place = self.waiting.partition_point(|s| s.id < sequence.id);
        self.waiting.insert(place, sequence);
    }

    /// The next step. Its tokens count as computed; a sequence whose chunk wants logits is
    /// in no further batch until [`Event::Sampled`].
    pub fn schedule(&mut self, now: Duration) -> (Batch, Vec<Effect>) {
        let mut effects = Vec::new();
        self.expire(now, &mut effects);
        self.admit(&mut effects);
        (self.batch(), effects)
    }

    fn expire(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let over: Vec<SequenceId> = self
            .sequences()
            .filter(|s| s.deadline.is_some_and(|deadline| deadline <= now))
            .map(|s| s.id)
            .collect();
        for id in over {
            self.handle(id, Event::Finished);
            effects.push(Effect::Expired(id));
        }
    }

    /// Moves waiting sequences into slots, oldest first. One that must wait for blocks
    /// makes the younger ones wait as well: otherwise a long one would never get its turn.
    fn admit(&mut self, effects: &mut Vec<Effect>) {
        let mut index = 0;
        while index < self.waiting.len() {
            let candidate = &self.waiting[index];
            let needed = self.blocks_for(candidate.tokens.len());
            if needed > self.pool.total() {
                let overlong = self.waiting.remove(index);
                effects.push(Effect::Overlong(overlong.id));
                continue;
            }
            if candidate.paused {
                index += 1;
                continue;
            }
            let slot_taken = self.running.len() >= self.config.slots as usize;
            if (slot_taken || self.pool.free() < needed) && self.suspend_paused() {
                // Suspending put a sequence into the queue, perhaps before this one.
                index = 0;
                continue;
            }
            if slot_taken {
                break;
            }
            let Some(blocks) = self.pool.allocate(needed) else {
                break;
            };
            let mut sequence = self.waiting.remove(index);
            sequence.blocks = blocks;
            if !std::mem::replace(&mut sequence.started, true) {
                effects.push(Effect::Started(sequence.id));
            }
            let place = self.running.partition_point(|s| s.id < sequence.id);
            self.running.insert(place, sequence);
        }
    }

    fn batch(&mut self) -> Batch {
        let decoding = self.running.iter().filter(|s| s.is_decoding()).count() as u32;
        let mut budget = self.config.token_budget;
        // Decoding sequences come first; a prefill gets what they leave.
        let mut reserved = decoding.min(budget);
        let mut batch = Batch::default();
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &self.running[index];
            let id = sequence.id;
            let most = if sequence.is_decoding() {
                reserved = reserved.saturating_sub(1);
                budget.min(1)
            } else {
                budget.saturating_sub(reserved)
            };
            let count = (sequence.pending() as u32).min(most);
            if sequence.paused || count == 0 {
                index += 1;
                continue;
            }
            if !self.grow(id) {
                // It lost its own blocks; the sequence now at this place is the next.
                continue;
            }
            // Growing may have removed others, but only younger or paused ones.
            let Some(place) = self.running.iter().position(|s| s.id == id) else {
                continue;
            };
            batch.chunks.push(self.running[place].take_chunk(count));
            budget -= count;
            index = place + 1;
        }
        batch
    }

    /// Gives a running sequence blocks for all its tokens, if need be those of others.
    /// `false` when it had to give up its own.
    fn grow(&mut self, id: SequenceId) -> bool {
        loop {
            let Some(place) = self.running.iter().position(|s| s.id == id) else {
                return false;
            };
            let has = self.running[place].blocks.len() as u32;
            let missing = self
                .blocks_for(self.running[place].tokens.len())
                .saturating_sub(has);
            if let Some(blocks) = self.pool.allocate(missing) {
                self.running[place].blocks.extend(blocks);
                return true;
            }
            if !self.suspend_paused() {
                let youngest = self.running.len() - 1;
                self.suspend(youngest);
            }
        }
    }

    /// Takes the blocks of the youngest paused sequence, if there is one.
    fn suspend_paused(&mut self) -> bool {
        let paused = self.running.iter().rposition(|s| s.paused);
        paused.is_some_and(|place| {
            self.suspend(place);
            true
        })
    }

    fn suspend(&mut self, place: usize) {
        let mut sequence = self.running.remove(place);
        sequence.release(&mut self.pool);
        self.wait(sequence);
    }

    fn blocks_for(&self, tokens: usize) -> u32 {
        (tokens as u32).div_ceil(self.config.block_tokens)
    }
}

#[cfg(test)]
mod tests;
