//! Continuous batching: which tokens of which sequences the engine computes next. Pure: the
//! time is given, nothing is computed here.
//!
//! - At most `slots` sequences run; the others wait in the order of their arrival. A
//!   sequence leaves the queue when there is room in the KV cache for all its known tokens.
//! - Blocks that are full and computed can be found by their tokens. A sequence holds those
//!   that it finds instead of computing them, and copies one that is right in part. When
//!   another one is just computing the block that it needs, it waits for that.
//! - Each step gives one row to every sequence that decodes, and what is left of the token
//!   budget to prefills ([`prefill`] says how). While somebody decodes, prefills get no more
//!   than a machine of this pace computes in a tenth of a second ([`pace`]).
//! - A sequence that needs a block when none is available takes those of a paused one, else
//!   of the youngest. Who loses its blocks waits again at its old place, keeps its tokens
//!   and computes anew what the cache has lost by then.
//! - A paused sequence (its reader is slow) is never computed and never holds others up.

mod pace;
mod prefill;
mod sequence;

use std::{collections::BTreeMap, time::Duration};

use pace::Pace;
use prefill::{Prefill, share_out};
use sequence::Sequence;

use crate::{Batch, BlockId, BlockPool, Chunk, SequenceId};

/// Limits of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Sequences that run at once; at least 1.
    pub slots: u32,
    /// Tokens computed in one step; raised to `slots`, so that all can decode.
    pub token_budget: u32,
    /// Blocks of the KV cache.
    pub blocks: u32,
    /// Tokens in a block; at least 1.
    pub block_tokens: u32,
    /// Sequences share the blocks of what they have in common.
    pub prefix_cache: bool,
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

/// What the shell is to do before the batch is computed, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The sequence is computed for the first time in this step.
    Started {
        /// Which.
        sequence: SequenceId,
        /// How many of its tokens need not be computed, since a cache has them.
        cached_tokens: u32,
    },
    /// A block's content is to be copied to one that the sequence will write into.
    Copy {
        /// For whom.
        sequence: SequenceId,
        /// The block to copy.
        from: BlockId,
        /// Where to.
        to: BlockId,
    },
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
    /// Long prefills stood back in the last step.
    stood_back: bool,
    pace: Pace,
    /// Chunks of former batches, for their memory.
    spare: Vec<Chunk>,
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
            stood_back: false,
            pace: Pace::default(),
            spare: Vec::new(),
        }
    }

    /// The blocks.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Sequences that do not run.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that run.
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
                insert(&mut self.waiting, Sequence::new(id, tokens, deadline));
            }
            Event::Finished => {
                if let Some(place) = find(&self.running, id) {
                    self.running.remove(place).release(&mut self.pool);
                } else if let Some(place) = find(&self.waiting, id) {
                    self.waiting.remove(place);
                }
            }
            Event::Sampled(token) => self.change(id, |s| s.tokens.push(token)),
            Event::Paused => self.change(id, |s| s.paused = true),
            Event::Resumed => self.change(id, |s| s.paused = false),
        }
    }

    fn change(&mut self, id: SequenceId, change: impl FnOnce(&mut Sequence)) {
        if let Some(place) = find(&self.running, id) {
            change(&mut self.running[place]);
        } else if let Some(place) = find(&self.waiting, id) {
            change(&mut self.waiting[place]);
        }
    }

    /// Makes the next step: replaces what is in `batch`, and adds to `effects`. Its tokens
    /// count as computed; a sequence whose chunk wants logits is in no further batch until
    /// [`Event::Sampled`].
    pub fn schedule(&mut self, now: Duration, batch: &mut Batch, effects: &mut Vec<Effect>) {
        self.spare.append(&mut batch.chunks);
        self.expire(now, effects);
        self.admit(effects);
        if self.compose(batch, effects) && batch.chunks.is_empty() {
            // Blocks were given back and used by nobody: who waits has room now.
            self.admit(effects);
            self.compose(batch, effects);
        }
    }

    /// The engine has computed `batch`, which took so long: from now on others can share its
    /// full blocks. A batch that failed is not told, and its sequences must finish.
    pub fn computed(&mut self, batch: &Batch, took: Duration) {
        self.pace.observe(batch, took);
        if !self.config.prefix_cache {
            return;
        }
        for chunk in &batch.chunks {
            if let Some(place) = find(&self.running, chunk.sequence) {
                self.running[place].publish(&mut self.pool, self.config.block_tokens as usize);
            }
        }
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
        let mut promised = self.promised();
        let mut index = 0;
        while index < self.waiting.len() {
            let candidate = &self.waiting[index];
            if self.blocks_for(candidate.tokens.len() as u32) > self.pool.total() {
                let overlong = self.waiting.remove(index);
                effects.push(Effect::Overlong(overlong.id));
                continue;
            }
            if candidate.paused {
                index += 1;
                continue;
            }
            let slot_free = self.running.len() < self.config.slots as usize;
            if slot_free && let Some(missing) = self.room_for(index, promised) {
                promised += missing;
                let sequence = self.waiting.remove(index);
                insert(&mut self.running, sequence);
            } else if self.suspend_paused() {
                // That put a sequence into the queue, perhaps before this one.
                promised = self.promised();
                index = 0;
            } else {
                break;
            }
        }
    }

    /// Blocks that the running sequences still need for the tokens they have.
    fn promised(&self) -> u32 {
        self.running.iter().map(|s| self.missing(s)).sum()
    }

    /// How many blocks a waiting sequence needs, when they are there besides the promised
    /// ones. It then holds what it shares with others.
    fn room_for(&mut self, index: usize, promised: u32) -> Option<u32> {
        if self.config.prefix_cache {
            let size = self.config.block_tokens as usize;
            self.waiting[index].take_cached(&mut self.pool, size);
        }
        let missing = self.missing(&self.waiting[index]);
        if promised + missing <= self.pool.available() {
            return Some(missing);
        }
        self.waiting[index].release(&mut self.pool);
        None
    }

    /// Blocks that a sequence still needs for the tokens it has.
    fn missing(&self, sequence: &Sequence) -> u32 {
        let needed = self.blocks_for(sequence.tokens.len() as u32);
        needed.saturating_sub(sequence.blocks.len() as u32)
    }

    /// Fills the batch; whether a sequence lost its blocks.
    fn compose(&mut self, batch: &mut Batch, effects: &mut Vec<Effect>) -> bool {
        self.share_out();
        let before = self.running.len();
        let mut index = 0;
        while let Some(sequence) = self.running.get(index) {
            let id = sequence.id;
            if sequence.share == 0 {
                index += 1;
                continue;
            }
            self.copy_closest(index, effects);
            // Making room removes others, but only younger or paused ones, or the sequence
            // itself.
            self.make_room(id);
            index = self.running.partition_point(|s| s.id < id);
            if let Some(sequence) = self.running.get_mut(index).filter(|s| s.id == id) {
                if !std::mem::replace(&mut sequence.started, true) {
                    effects.push(Effect::Started {
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

    /// Decides how many tokens of each running sequence this step computes.
    fn share_out(&mut self) {
        let size = self.config.block_tokens as usize;
        let mut left = self.config.token_budget;
        let mut decode = false;
        let mut prefills = Vec::new();
        for (place, sequence) in self.running.iter_mut().enumerate() {
            sequence.share = 0;
            if sequence.paused || sequence.pending() == 0 {
                continue;
            }
            if self.config.prefix_cache && !sequence.is_decoding() {
                sequence.take_cached(&mut self.pool, size);
            }
            if sequence.is_decoding() {
                sequence.share = 1;
                left = left.saturating_sub(1);
                decode = true;
            } else {
                prefills.push(Prefill {
                    place,
                    pending: sequence.pending(),
                    fresh: !sequence.started,
                    leader: prefills.len(),
                    share: 0,
                });
            }
        }
        if prefills.is_empty() {
            self.stood_back = false;
            return;
        }
        if self.config.prefix_cache {
            self.find_leaders(&mut prefills);
            for (index, prefill) in prefills.iter_mut().enumerate() {
                if prefill.leader == index {
                    let closest = self.running[prefill.place].closest(&self.pool, size);
                    prefill.pending -= closest.map_or(0, |(_, tokens)| tokens as u32);
                }
            }
        }
        if decode {
            left = self.pace.prefill_tokens(left);
        }
        self.stood_back = share_out(&mut prefills, left, self.stood_back);
        for prefill in &prefills {
            self.running[prefill.place].share = prefill.share;
        }
    }

    /// Finds out who computes a block that others need: the one that has come furthest in
    /// it, of several alike the oldest. Who has begun a block goes on with it.
    fn find_leaders(&self, prefills: &mut [Prefill]) {
        if prefills.len() < 2 {
            return;
        }
        let size = self.config.block_tokens as usize;
        let mut leaders = BTreeMap::new();
        for (index, prefill) in prefills.iter().enumerate() {
            let sequence = &self.running[prefill.place];
            let Some(block) = sequence.next_block(size) else {
                continue;
            };
            let leader = leaders.entry(block).or_insert(index);
            if sequence.computed() > self.running[prefills[*leader].place].computed() {
                *leader = index;
            }
        }
        for prefill in prefills {
            let sequence = &self.running[prefill.place];
            if sequence.computed().is_multiple_of(self.config.block_tokens)
                && let Some(block) = sequence.next_block(size)
                && let Some(leader) = leaders.get(&block)
            {
                prefill.leader = *leader;
            }
        }
    }

    /// Lets a sequence begin its next block with a copy of one that begins alike.
    fn copy_closest(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let sequence = &mut self.running[place];
        if !self.config.prefix_cache || sequence.is_decoding() {
            return;
        }
        let size = self.config.block_tokens as usize;
        let Some((from, tokens)) = sequence.closest(&self.pool, size) else {
            return;
        };
        // Held meanwhile, so that it is not its own copy.
        self.pool.hold(from);
        if let Some(to) = self.pool.allocate() {
            sequence.take_copy(to, tokens);
            effects.push(Effect::Copy {
                sequence: sequence.id,
                from,
                to,
            });
        }
        self.pool.release(from);
    }

    /// Gives a running sequence blocks for its share, if need be those of others, or takes
    /// its own.
    fn make_room(&mut self, id: SequenceId) {
        while let Some(place) = find(&self.running, id) {
            let sequence = &self.running[place];
            let end = sequence.computed() + sequence.share.min(sequence.pending());
            let needed = self.blocks_for(end) as usize;
            let missing = needed.saturating_sub(sequence.blocks.len());
            if missing <= self.pool.available() as usize {
                let blocks = std::iter::from_fn(|| self.pool.allocate()).take(missing);
                self.running[place].blocks.extend(blocks);
                return;
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
        insert(&mut self.waiting, sequence);
    }

    fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.config.block_tokens)
    }
}

/// The place of a sequence among others in the order of their arrival.
fn find(sequences: &[Sequence], id: SequenceId) -> Option<usize> {
    sequences.binary_search_by_key(&id, |s| s.id).ok()
}

fn insert(sequences: &mut Vec<Sequence>, sequence: Sequence) {
    let place = sequences.partition_point(|s| s.id < sequence.id);
    sequences.insert(place, sequence);
}

#[cfg(test)]
mod tests;
