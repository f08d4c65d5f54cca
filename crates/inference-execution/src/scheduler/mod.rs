//! Continuous batching: decides which tokens of which sequences the engine computes in the
//! next step. Nothing is computed here, and the time is an argument.
//!
//! - At most `slots` sequences run; the others wait in order of arrival. A waiting sequence
//!   starts to run when the KV cache has room for all its known tokens.
//! - Full blocks are shared: a sequence holds the computed blocks that match its tokens, and
//!   copies a block that matches in part. If another sequence is computing the block that it
//!   needs next, it waits for that block.
//! - Every step has one token of each decoding sequence. The rest of the token budget is for
//!   prefills ([`prefill`] distributes it). While sequences decode, prefills get no more tokens
//!   than take about a tenth of a second ([`pace`]).
//! - If a sequence needs a block and none is available, the youngest paused sequence is
//!   preempted, or else the youngest sequence. A preempted sequence releases its blocks, waits
//!   at its original position and later recomputes what is no longer cached.
//! - A paused sequence (its reader is slow) is not computed and does not block others.

mod pace;
mod prefill;
mod sequence;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pace::Pace;
use prefill::{Prefill, distribute};
use sequence::Sequence;

use crate::{
    blocks::BlockPool,
    deadline::Deadline,
    engine::{Batch, BlockId, Chunk, SequenceId},
};

/// The limits of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfig {
    /// Maximum number of running sequences; at least 1.
    pub slots: u32,
    /// Maximum number of tokens in a step. Raised to `slots`, so that every sequence can decode.
    pub token_budget: u32,
    /// Number of blocks of the KV cache.
    pub blocks: u32,
    /// Number of tokens in a block; at least 1.
    pub block_tokens: u32,
    /// Whether sequences share the blocks of common prefixes.
    pub prefix_cache: bool,
}

/// A change of a sequence. Events of unknown sequences are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceEvent {
    Arrived {
        /// The prompt and the replayed output; never empty.
        tokens: Vec<u32>,
        deadline: Option<Deadline>,
    },
    /// A token was sampled from the logits of the last step.
    Sampled(u32),
    /// The reader has no room for more events.
    Paused,
    /// The reader has room again.
    Resumed,
    /// The sequence is complete, cancelled or failed.
    Finished,
}

/// An action for the caller to perform, in order, before it computes the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEffect {
    /// Report that the first step of the sequence begins.
    Started {
        sequence: SequenceId,
        /// Number of tokens that the prefix cache provides.
        cached_tokens: u32,
    },
    /// Copy the contents of a block to one that the sequence will write to.
    Copy {
        sequence: SequenceId,
        from: BlockId,
        to: BlockId,
    },
    /// Report that the sequence was removed because its deadline passed.
    Expired(SequenceId),
    /// Report that the sequence was removed because it does not fit an empty KV cache.
    Overlong(SequenceId),
}

/// Waiting and running sequences and the blocks that they hold.
#[derive(Debug, Clone)]
pub struct BatchScheduler {
    config: BatchConfig,
    pool: BlockPool,
    /// In order of arrival: ids ascend.
    waiting: Vec<Sequence>,
    /// In order of arrival.
    running: Vec<Sequence>,
    /// Whether long prefills were deferred in the last step.
    deferred_long: bool,
    pace: Pace,
    /// Chunks of earlier batches, whose allocations are reused.
    spare: Vec<Chunk>,
}

impl BatchScheduler {
    pub fn new(mut config: BatchConfig) -> Self {
        config.slots = config.slots.max(1);
        config.token_budget = config.token_budget.max(config.slots);
        config.block_tokens = config.block_tokens.max(1);
        Self {
            config,
            pool: BlockPool::new(config.blocks),
            waiting: Vec::new(),
            running: Vec::new(),
            deferred_long: false,
            pace: Pace::default(),
            spare: Vec::new(),
        }
    }

    /// Returns the number of tokens in the blocks that sequences hold.
    pub fn held_tokens(&self) -> u64 {
        u64::from(self.pool.held()) * u64::from(self.config.block_tokens)
    }

    /// Returns the number of waiting sequences.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether there are fewer sequences than slots.
    pub fn has_free_slot(&self) -> bool {
        self.running.len() + self.waiting.len() < self.config.slots as usize
    }

    /// Returns the earliest deadline of any sequence.
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.sequences().filter_map(|s| s.deadline).min()
    }

    fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.running.iter().chain(&self.waiting)
    }

    /// Applies an event. Sequences must arrive with ascending ids.
    pub fn handle(&mut self, id: SequenceId, event: SequenceEvent) {
        match event {
            SequenceEvent::Arrived { tokens, deadline } => {
                insert(&mut self.waiting, Sequence::new(id, tokens, deadline));
            }
            SequenceEvent::Finished => {
                if let Some(index) = find(&self.running, id) {
                    self.running.remove(index).release(&mut self.pool);
                } else if let Some(index) = find(&self.waiting, id) {
                    self.waiting.remove(index);
                }
            }
            SequenceEvent::Sampled(token) => self.update(id, |s| s.tokens.push(token)),
            SequenceEvent::Paused => self.update(id, |s| s.paused = true),
            SequenceEvent::Resumed => self.update(id, |s| s.paused = false),
        }
    }

    fn update(&mut self, id: SequenceId, update: impl FnOnce(&mut Sequence)) {
        if let Some(index) = find(&self.running, id) {
            update(&mut self.running[index]);
        } else if let Some(index) = find(&self.waiting, id) {
            update(&mut self.waiting[index]);
        }
    }

    /// Composes the next step: replaces the contents of `batch` and appends to `effects`. The
    /// tokens of the batch count as computed. A sequence whose chunk wants logits is in no
    /// further batch until [`SequenceEvent::Sampled`].
    pub fn schedule(&mut self, now: Instant, batch: &mut Batch, effects: &mut Vec<BatchEffect>) {
        self.spare.append(&mut batch.chunks);
        self.expire(now, effects);
        self.admit(effects);
        let preempted = self.compose(batch, effects);
        if preempted && batch.chunks.is_empty() {
            // The released blocks are unused, so there may be room for waiting sequences.
            self.admit(effects);
            self.compose(batch, effects);
        }
    }

    /// Records that the engine computed `batch` in the time `took`. Its full blocks can be
    /// shared from now on. Must not be called for a batch that failed; its sequences must
    /// finish.
    pub fn computed(&mut self, batch: &Batch, took: Duration) {
        self.pace.observe(batch, took);
        if !self.config.prefix_cache {
            return;
        }
        for chunk in &batch.chunks {
            if let Some(index) = find(&self.running, chunk.sequence) {
                self.running[index].publish(&mut self.pool, self.config.block_tokens as usize);
            }
        }
    }

    fn expire(&mut self, now: Instant, effects: &mut Vec<BatchEffect>) {
        let expired: Vec<SequenceId> = self
            .sequences()
            .filter(|s| s.deadline.is_some_and(|deadline| deadline.has_passed(now)))
            .map(|s| s.id)
            .collect();
        for id in expired {
            self.handle(id, SequenceEvent::Finished);
            effects.push(BatchEffect::Expired(id));
        }
    }

    /// Moves waiting sequences into slots, oldest first. A sequence that must wait for blocks
    /// blocks the younger ones as well; otherwise a long one might never run.
    fn admit(&mut self, effects: &mut Vec<BatchEffect>) {
        let mut reserved = self.reserved_blocks();
        let mut index = 0;
        while index < self.waiting.len() {
            let candidate = &self.waiting[index];
            if self.blocks_for(candidate.tokens.len() as u32) > self.pool.total() {
                let overlong = self.waiting.remove(index);
                effects.push(BatchEffect::Overlong(overlong.id));
                continue;
            }
            if candidate.paused {
                index += 1;
                continue;
            }
            let slot_free = self.running.len() < self.config.slots as usize;
            if slot_free && let Some(missing) = self.reserve(index, reserved) {
                reserved += missing;
                let sequence = self.waiting.remove(index);
                insert(&mut self.running, sequence);
            } else if self.preempt_paused() {
                // The preempted sequence may precede this one in the queue.
                reserved = self.reserved_blocks();
                index = 0;
            } else {
                break;
            }
        }
    }

    /// Returns the number of blocks that running sequences still need for their known tokens.
    fn reserved_blocks(&self) -> u32 {
        self.running.iter().map(|s| self.missing_blocks(s)).sum()
    }

    /// Returns the number of blocks that a waiting sequence needs if they are available besides
    /// the reserved ones. In that case the sequence holds its cached blocks afterwards.
    fn reserve(&mut self, index: usize, reserved: u32) -> Option<u32> {
        if self.config.prefix_cache {
            let size = self.config.block_tokens as usize;
            self.waiting[index].take_cached(&mut self.pool, size);
        }
        let missing = self.missing_blocks(&self.waiting[index]);
        if reserved + missing <= self.pool.available() {
            return Some(missing);
        }
        self.waiting[index].release(&mut self.pool);
        None
    }

    /// Returns the number of blocks that a sequence still needs for its known tokens.
    fn missing_blocks(&self, sequence: &Sequence) -> u32 {
        let needed = self.blocks_for(sequence.tokens.len() as u32);
        needed.saturating_sub(sequence.blocks.len() as u32)
    }

    /// Fills the batch. Returns whether a sequence was preempted.
    fn compose(&mut self, batch: &mut Batch, effects: &mut Vec<BatchEffect>) -> bool {
        self.distribute_budget();
        let before = self.running.len();
        let mut index = 0;
        while let Some(sequence) = self.running.get(index) {
            let id = sequence.id;
            if sequence.share == 0 {
                index += 1;
                continue;
            }
            self.copy_closest(index, effects);
            // Preempts only younger or paused sequences, or the sequence itself.
            self.allocate_blocks(id);
            index = self.running.partition_point(|s| s.id < id);
            if let Some(sequence) = self.running.get_mut(index).filter(|s| s.id == id) {
                if !std::mem::replace(&mut sequence.started, true) {
                    effects.push(BatchEffect::Started {
                        sequence: id,
                        cached_tokens: sequence.computed(),
                    });
                }
                let mut chunk = self.spare.pop().unwrap_or_default();
                sequence.fill(&mut chunk);
                batch.chunks.push(chunk);
                index += 1;
            }
        }
        self.running.len() < before
    }

    /// Sets the number of tokens that each running sequence computes in this step.
    fn distribute_budget(&mut self) {
        let size = self.config.block_tokens as usize;
        let mut budget = self.config.token_budget;
        let mut decoding = false;
        let mut prefills = Vec::new();
        for (index, sequence) in self.running.iter_mut().enumerate() {
            sequence.share = 0;
            if sequence.paused || sequence.pending() == 0 {
                continue;
            }
            if self.config.prefix_cache {
                sequence.take_cached(&mut self.pool, size);
            }
            if sequence.is_decoding() {
                sequence.share = 1;
                budget = budget.saturating_sub(1);
                decoding = true;
            } else {
                prefills.push(Prefill {
                    running_index: index,
                    pending: sequence.pending(),
                    fresh: !sequence.started,
                    leader: prefills.len(),
                    share: 0,
                });
            }
        }
        if prefills.is_empty() {
            self.deferred_long = false;
            return;
        }
        if self.config.prefix_cache {
            self.assign_leaders(&mut prefills);
            for (index, prefill) in prefills.iter_mut().enumerate() {
                if prefill.leader == index {
                    let closest = self.running[prefill.running_index].closest(&self.pool, size);
                    prefill.pending -= closest.map_or(0, |(_, tokens)| tokens as u32);
                }
            }
        }
        if decoding {
            budget = self.pace.limit_prefill(budget);
        }
        self.deferred_long = distribute(&mut prefills, budget, self.deferred_long);
        for prefill in &prefills {
            self.running[prefill.running_index].share = prefill.share;
        }
    }

    /// If several prefills need the same block next, selects the one that computes it: the one
    /// that has computed most of it, the oldest among equals. A prefill that has started a
    /// block always continues it.
    fn assign_leaders(&self, prefills: &mut [Prefill]) {
        if prefills.len() < 2 {
            return;
        }
        let size = self.config.block_tokens as usize;
        let mut leaders = BTreeMap::new();
        for (index, prefill) in prefills.iter().enumerate() {
            let sequence = &self.running[prefill.running_index];
            let Some(block) = sequence.next_block(size) else {
                continue;
            };
            let leader = leaders.entry(block).or_insert(index);
            let leading = &self.running[prefills[*leader].running_index];
            if sequence.computed() > leading.computed() {
                *leader = index;
            }
        }
        for prefill in prefills {
            let sequence = &self.running[prefill.running_index];
            if sequence.computed().is_multiple_of(self.config.block_tokens)
                && let Some(block) = sequence.next_block(size)
                && let Some(leader) = leaders.get(&block)
            {
                prefill.leader = *leader;
            }
        }
    }

    /// Starts the next block of a sequence with a copy of a block that has the same prefix.
    fn copy_closest(&mut self, index: usize, effects: &mut Vec<BatchEffect>) {
        if !self.config.prefix_cache {
            return;
        }
        let sequence = &mut self.running[index];
        let size = self.config.block_tokens as usize;
        let Some((from, tokens)) = sequence.closest(&self.pool, size) else {
            return;
        };
        // Held, so that the allocation does not evict it.
        self.pool.hold(from);
        if let Some(to) = self.pool.allocate() {
            sequence.push_copy(to, tokens);
            effects.push(BatchEffect::Copy {
                sequence: sequence.id,
                from,
                to,
            });
        }
        self.pool.release(from);
    }

    /// Allocates the blocks that a running sequence needs for its share. Preempts others if
    /// necessary, and the sequence itself if it is the youngest.
    fn allocate_blocks(&mut self, id: SequenceId) {
        while let Some(index) = find(&self.running, id) {
            let sequence = &self.running[index];
            let end = sequence.computed() + sequence.share.min(sequence.pending());
            let needed = self.blocks_for(end) as usize;
            let missing = needed.saturating_sub(sequence.blocks.len());
            if missing <= self.pool.available() as usize {
                let blocks = std::iter::from_fn(|| self.pool.allocate()).take(missing);
                self.running[index].blocks.extend(blocks);
                return;
            }
            if !self.preempt_paused() {
                let youngest = self.running.len() - 1;
                self.preempt(youngest);
            }
        }
    }

    /// Preempts the youngest paused sequence. Returns `false` if there is none.
    fn preempt_paused(&mut self) -> bool {
        let paused = self.running.iter().rposition(|s| s.paused);
        paused.is_some_and(|index| {
            self.preempt(index);
            true
        })
    }

    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        sequence.release(&mut self.pool);
        insert(&mut self.waiting, sequence);
    }

    fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.config.block_tokens)
    }
}

/// Returns the index of a sequence in a list ordered by id.
fn find(sequences: &[Sequence], id: SequenceId) -> Option<usize> {
    sequences.binary_search_by_key(&id, |s| s.id).ok()
}

/// Inserts a sequence into a list ordered by id.
fn insert(sequences: &mut Vec<Sequence>, sequence: Sequence) {
    let index = sequences.partition_point(|s| s.id < sequence.id);
    sequences.insert(index, sequence);
}

#[cfg(test)]
mod tests;
