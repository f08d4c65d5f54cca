//! Drives a scheduler as the engine thread does, and checks the invariants after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub const BLOCK_TOKENS: u32 = 4;

/// The expected state of a sequence.
pub struct Expected {
    pub tokens: Vec<u32>,
    /// Number of tokens to sample until the sequence finishes.
    pub left: u32,
    pub paused: bool,
}

/// Stands for the keys and values of a token, which depend on it and on all tokens before it.
fn content(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
        .wrapping_add(1)
}

pub struct Driver {
    pub scheduler: BatchScheduler,
    pub alive: BTreeMap<SequenceId, Expected>,
    /// Contents of the blocks, by block and offset.
    cache: BTreeMap<(BlockId, u32), u64>,
    /// Sequences in order of their first step, with their cached tokens.
    pub started: Vec<(SequenceId, u32)>,
    next: u64,
    budget: u32,
    slots: u32,
    batch: Batch,
    /// Number of tokens computed so far.
    pub computed: usize,
    /// The oldest sequence that can run, and the number of consecutive steps without it.
    starved: (Option<SequenceId>, u32),
}

impl Driver {
    pub fn new(config: BatchConfig) -> Self {
        Self {
            scheduler: BatchScheduler::new(config),
            alive: BTreeMap::new(),
            cache: BTreeMap::new(),
            started: Vec::new(),
            next: 0,
            budget: config.token_budget.max(config.slots),
            slots: config.slots,
            batch: Batch::default(),
            computed: 0,
            starved: (None, 0),
        }
    }

    pub fn arrive(&mut self, tokens: Vec<u32>, output_tokens: u32) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        let arrived = SequenceEvent::Arrived {
            tokens: tokens.clone(),
            deadline: None,
        };
        self.scheduler.handle(id, arrived);
        let expected = Expected {
            tokens,
            left: output_tokens,
            paused: false,
        };
        self.alive.insert(id, expected);
        id
    }

    pub fn pause(&mut self, id: SequenceId, paused: bool) {
        let event = if paused {
            SequenceEvent::Paused
        } else {
            SequenceEvent::Resumed
        };
        self.scheduler.handle(id, event);
        self.alive.get_mut(&id).unwrap().paused = paused;
    }

    pub fn finish(&mut self, id: SequenceId) {
        self.scheduler.handle(id, SequenceEvent::Finished);
        self.alive.remove(&id);
    }

    /// Runs a step. Returns the number of tokens computed for each sequence.
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

    /// Runs a step that fails: its blocks contain garbage and its sequences finish.
    pub fn failing_step(&mut self) {
        self.schedule();
        let batch = std::mem::take(&mut self.batch);
        for chunk in &batch.chunks {
            for position in (chunk.position..).take(chunk.tokens.len()) {
                self.cache.insert(slot(chunk, position), u64::MAX);
            }
            self.finish(chunk.sequence);
        }
    }

    fn schedule(&mut self) {
        let mut effects = Vec::new();
        self.scheduler
            .schedule(Instant::now(), &mut self.batch, &mut effects);
        for effect in effects {
            match effect {
                BatchEffect::Started {
                    sequence,
                    cached_tokens,
                } => self.started.push((sequence, cached_tokens)),
                BatchEffect::Copy { from, to, .. } => {
                    for offset in 0..BLOCK_TOKENS {
                        if let Some(content) = self.cache.get(&(from, offset)).copied() {
                            self.cache.insert((to, offset), content);
                        }
                    }
                }
                other => panic!("no sequence is overlong or has a deadline: {other:?}"),
            }
        }
        self.check_batch();
    }

    fn check_batch(&mut self) {
        assert!(self.scheduler.running.len() <= self.slots as usize);
        let chunks = &self.batch.chunks;
        let computed: usize = chunks.iter().map(|c| c.tokens.len()).sum();
        assert!(computed <= self.budget as usize, "{computed} tokens");
        let ids: BTreeSet<SequenceId> = chunks.iter().map(|c| c.sequence).collect();
        assert_eq!(ids.len(), chunks.len(), "two chunks for one sequence");
        for chunk in chunks {
            // No other sequence reads the blocks that this one writes.
            let end = chunk.position + chunk.tokens.len() as u32;
            for index in chunk.position / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
                let block = chunk.blocks[index as usize];
                let readers = chunks.iter().filter(|c| c.blocks.contains(&block));
                assert_eq!(
                    readers.count(),
                    1,
                    "{block:?} is written while it is shared"
                );
                assert_eq!(self.scheduler.pool.references(block), 1);
            }
        }
        let runnable = self
            .alive
            .iter()
            .find(|(_, e)| !e.paused)
            .map(|(id, _)| *id);
        match runnable {
            Some(oldest) if !ids.contains(&oldest) => {
                let steps = match self.starved {
                    (Some(id), steps) if id == oldest => steps + 1,
                    _ => 1,
                };
                self.starved = (Some(oldest), steps);
                // It waits for another sequence at most while that one computes a common
                // prefix, and it is not deferred in two consecutive steps.
                assert!(steps < 100, "{oldest:?} starves");
            }
            _ => self.starved = (None, 0),
        }
    }

    fn compute(&mut self, chunk: &Chunk) {
        let expected = &self.alive[&chunk.sequence];
        assert!(!expected.paused, "a paused sequence is in the batch");
        let end = chunk.position as usize + chunk.tokens.len();
        assert!(end > chunk.position as usize && end <= expected.tokens.len());
        assert_eq!(chunk.wants_logits, end == expected.tokens.len());
        let room = chunk.blocks.len() * BLOCK_TOKENS as usize;
        assert!(room >= end && room < end + BLOCK_TOKENS as usize);
        let mut before = 0;
        for (position, token) in (0..).zip(&expected.tokens[..end]) {
            let expected = content(before, *token);
            let slot = slot(chunk, position);
            if position >= chunk.position {
                let computed = chunk.tokens[(position - chunk.position) as usize];
                assert_eq!(computed, *token);
                self.cache.insert(slot, expected);
            }
            // Attention reads only what the sequence itself would have written.
            assert_eq!(
                self.cache.get(&slot),
                Some(&expected),
                "position {position}"
            );
            before = expected;
        }
    }

    fn sample(&mut self, id: SequenceId) {
        let expected = self.alive.get_mut(&id).unwrap();
        expected.left -= 1;
        // Greedy: equal prefixes continue with equal tokens.
        let token = (expected.tokens.len() as u32 * 7 + expected.tokens[0]) % 3;
        expected.tokens.push(token);
        if expected.left == 0 {
            self.finish(id);
        } else {
            self.scheduler.handle(id, SequenceEvent::Sampled(token));
        }
    }

    /// Runs steps until all sequences have finished, and bounds their number.
    pub fn run_out(&mut self) {
        let ids: Vec<SequenceId> = self.alive.keys().copied().collect();
        for id in ids {
            self.pause(id, false);
        }
        let mut steps = 0;
        while !self.alive.is_empty() {
            let alive = self.alive.len();
            assert!(
                !self.step().is_empty(),
                "no progress with {alive} sequences"
            );
            steps += 1;
            assert!(steps < 20_000, "the sequences do not finish");
        }
        assert_eq!(self.scheduler.pool.held(), 0, "all blocks are released");
        let sequences = self.scheduler.running.len() + self.scheduler.waiting.len();
        assert_eq!(sequences, 0);
    }
}

/// Returns the block and the offset of a position.
fn slot(chunk: &Chunk, position: u32) -> (BlockId, u32) {
    let block = chunk.blocks[(position / BLOCK_TOKENS) as usize];
    (block, position % BLOCK_TOKENS)
}
