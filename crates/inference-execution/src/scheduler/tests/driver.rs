//! Drives a scheduler as an engine's thread would, and checks after every step what must
//! always hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub const BLOCK_TOKENS: u32 = 4;

/// What the tests know of a sequence, apart from the scheduler.
pub struct Expected {
    pub tokens: Vec<u32>,
    pub left: u32,
    pub paused: bool,
}

/// What a token's keys and values depend on: itself and all before it.
fn content(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
        .wrapping_add(1)
}

pub struct Driver {
    pub scheduler: Scheduler,
    pub alive: BTreeMap<SequenceId, Expected>,
    /// Contents of the blocks, as an engine would have written them.
    cache: BTreeMap<(BlockId, u32), u64>,
    /// Sequences in the order of their first step, with what was cached.
    pub started: Vec<(SequenceId, u32)>,
    next: u64,
    budget: u32,
    slots: u32,
    batch: Batch,
    /// Tokens computed so far.
    pub computed: usize,
    /// The oldest that could run, and for how many steps it has got nothing.
    neglected: (Option<SequenceId>, u32),
}

impl Driver {
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            alive: BTreeMap::new(),
            cache: BTreeMap::new(),
            started: Vec::new(),
            next: 0,
            budget: config.token_budget.max(config.slots),
            slots: config.slots,
            batch: Batch::default(),
            computed: 0,
            neglected: (None, 0),
        }
    }

    pub fn arrive(&mut self, tokens: Vec<u32>, answer: u32) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        let arrived = Event::Arrived {
            tokens: tokens.clone(),
            deadline: None,
        };
        self.scheduler.handle(id, arrived);
        let expected = Expected {
            tokens,
            left: answer,
            paused: false,
        };
        self.alive.insert(id, expected);
        id
    }

    pub fn pause(&mut self, id: SequenceId, paused: bool) {
        let event = if paused {
            Event::Paused
        } else {
            Event::Resumed
        };
        self.scheduler.handle(id, event);
        self.alive.get_mut(&id).unwrap().paused = paused;
    }

    pub fn finish(&mut self, id: SequenceId) {
        self.scheduler.handle(id, Event::Finished);
        self.alive.remove(&id);
    }

    /// One step; who computed how many tokens.
    pub fn step(&mut self) -> Vec<(SequenceId, usize)> {
        self.schedule();
        let batch = std::mem::take(&mut self.batch);
        for chunk in &batch.chunks {
            self.compute(chunk);
        }
        self.scheduler.computed(&batch, Duration::ZERO);
        for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
            self.sample(chunk.sequence);
        }
        let done: Vec<_> = batch
            .chunks
            .iter()
            .map(|c| (c.sequence, c.tokens.len()))
            .collect();
        self.computed += done.iter().map(|(_, tokens)| tokens).sum::<usize>();
        self.batch = batch;
        done
    }

    /// A step that fails: its content is rubbish, its sequences are over.
    pub fn failing_step(&mut self) {
        self.schedule();
        let batch = std::mem::take(&mut self.batch);
        for chunk in &batch.chunks {
            for position in (chunk.position..).take(chunk.tokens.len()) {
                self.cache.insert(place(chunk, position), u64::MAX);
            }
            self.finish(chunk.sequence);
        }
    }

    fn schedule(&mut self) {
        let mut effects = Vec::new();
        self.scheduler
            .schedule(Duration::ZERO, &mut self.batch, &mut effects);
        for effect in effects {
            match effect {
                Effect::Started {
                    sequence,
                    cached_tokens,
                } => self.started.push((sequence, cached_tokens)),
                Effect::Copy { from, to, .. } => {
                    for offset in 0..BLOCK_TOKENS {
                        if let Some(content) = self.cache.get(&(from, offset)).copied() {
                            self.cache.insert((to, offset), content);
                        }
                    }
                }
                other => panic!("nothing here is overlong or has a deadline: {other:?}"),
            }
        }
        self.check_batch();
    }

    fn check_batch(&mut self) {
        assert!(self.scheduler.running() <= self.slots as usize);
        let chunks = &self.batch.chunks;
        let computed: usize = chunks.iter().map(|c| c.tokens.len()).sum();
        assert!(computed <= self.budget as usize, "{computed} tokens");
        let ids: BTreeSet<SequenceId> = chunks.iter().map(|c| c.sequence).collect();
        assert_eq!(ids.len(), chunks.len(), "two chunks of one sequence");
        for chunk in chunks {
            // Nobody else reads what this one writes.
            let end = chunk.position + chunk.tokens.len() as u32;
            for index in chunk.position / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
                let block = chunk.blocks[index as usize];
                let readers = chunks.iter().filter(|c| c.blocks.contains(&block));
                assert_eq!(readers.count(), 1, "{block:?} is written and shared");
                assert_eq!(self.scheduler.pool().references(block), 1);
            }
        }
        let runnable = self
            .alive
            .iter()
            .find(|(_, e)| !e.paused)
            .map(|(id, _)| *id);
        match runnable {
            Some(oldest) if !ids.contains(&oldest) => {
                let steps = match self.neglected {
                    (Some(id), steps) if id == oldest => steps + 1,
                    _ => 1,
                };
                self.neglected = (Some(oldest), steps);
                // It waits for another only while that one computes what it needs, at most
                // its whole prompt, and stands back no two times in a row.
                assert!(steps < 100, "{oldest:?} gets nothing");
            }
            _ => self.neglected = (None, 0),
        }
    }

    fn compute(&mut self, chunk: &Chunk) {
        let expected = &self.alive[&chunk.sequence];
        assert!(!expected.paused, "a paused sequence was computed");
        let end = chunk.position as usize + chunk.tokens.len();
        assert!(end > chunk.position as usize && end <= expected.tokens.len());
        assert_eq!(chunk.wants_logits, end == expected.tokens.len());
        let room = chunk.blocks.len() * BLOCK_TOKENS as usize;
        assert!(room >= end && room < end + BLOCK_TOKENS as usize);
        let mut before = 0;
        for (position, token) in (0..).zip(&expected.tokens[..end]) {
            let right = content(before, *token);
            let slot = place(chunk, position);
            if position >= chunk.position {
                let given = chunk.tokens[(position - chunk.position) as usize];
                assert_eq!(given, *token);
                self.cache.insert(slot, right);
            }
            // All that attention reads is what this sequence itself would have written.
            assert_eq!(self.cache.get(&slot), Some(&right), "position {position}");
            before = right;
        }
    }

    fn sample(&mut self, id: SequenceId) {
        let expected = self.alive.get_mut(&id).unwrap();
        expected.left -= 1;
        // Greedy: alike go on alike.
        let token = (expected.tokens.len() as u32 * 7 + expected.tokens[0]) % 3;
        expected.tokens.push(token);
        if expected.left == 0 {
            self.finish(id);
        } else {
            self.scheduler.handle(id, Event::Sampled(token));
        }
    }

    /// Steps until everything has ended, which takes a bounded number of steps.
    pub fn run_out(&mut self) {
        let ids: Vec<SequenceId> = self.alive.keys().copied().collect();
        for id in ids {
            self.pause(id, false);
        }
        let mut steps = 0;
        while !self.alive.is_empty() {
            let alive = self.alive.len();
            assert!(!self.step().is_empty(), "no progress with {alive} alive");
            steps += 1;
            assert!(steps < 20_000, "no end");
        }
        assert_eq!(self.scheduler.pool().held(), 0, "every block came back");
        assert_eq!(self.scheduler.running() + self.scheduler.waiting(), 0);
    }
}

fn place(chunk: &Chunk, position: u32) -> (BlockId, u32) {
    let block = chunk.blocks[(position / BLOCK_TOKENS) as usize];
    (block, position % BLOCK_TOKENS)
}
