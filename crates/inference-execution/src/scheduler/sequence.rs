use std::time::Duration;

use crate::{BlockId, BlockPool, Chunk, SequenceId};

/// One sequence as the scheduler sees it.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub id: SequenceId,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// Tokens whose keys and values are in the blocks, or will be after the step.
    computed: usize,
    /// Room for what is computed and no more; none while it waits.
    pub blocks: Vec<BlockId>,
    /// How many of the blocks, from the first, others can find.
    published: usize,
    /// Tokens that it computes in the step that is being made.
    pub share: u32,
    pub deadline: Option<Duration>,
    pub paused: bool,
    /// It has computed something.
    pub started: bool,
}

impl Sequence {
    pub fn new(id: SequenceId, tokens: Vec<u32>, deadline: Option<Duration>) -> Self {
        Self {
            id,
            tokens,
            computed: 0,
            blocks: Vec::new(),
            published: 0,
            share: 0,
            deadline,
            paused: false,
            started: false,
        }
    }

    /// Tokens that have keys and values.
    pub fn computed(&self) -> u32 {
        self.computed as u32
    }

    /// Tokens that can be computed.
    pub fn pending(&self) -> u32 {
        (self.tokens.len() - self.computed) as u32
    }

    /// Only its newest token is missing.
    pub fn is_decoding(&self) -> bool {
        self.computed > 0 && self.pending() == 1
    }

    fn at_block_start(&self, size: usize) -> bool {
        self.computed.is_multiple_of(size)
    }

    /// Holds the blocks that have its next tokens already. One token is always left to
    /// compute: its logits are what the step is for.
    pub fn take_cached(&mut self, pool: &mut BlockPool, size: usize) {
        while self.at_block_start(size) && self.computed + size < self.tokens.len() {
            let next = &self.tokens[self.computed..self.computed + size];
            let found = pool.find(self.blocks.last().copied(), next);
            let Some(block) = found.filter(|block| pool.hold(*block)) else {
                return;
            };
            self.blocks.push(block);
            self.computed += size;
            self.published = self.blocks.len();
        }
    }

    /// A block that begins as its next one does, and for how many tokens.
    pub fn closest(&self, pool: &BlockPool, size: usize) -> Option<(BlockId, usize)> {
        let end = (self.computed + size).min(self.tokens.len().saturating_sub(1));
        if !self.at_block_start(size) || end <= self.computed {
            return None;
        }
        let next = &self.tokens[self.computed..end];
        pool.closest(self.blocks.last().copied(), next)
    }

    /// Takes a block of its own that will be a copy of one with its next `tokens` tokens.
    pub fn take_copy(&mut self, block: BlockId, tokens: usize) {
        self.blocks.push(block);
        self.computed += tokens;
    }

    /// The block that it computes next, named as the pool finds blocks: the one before it,
    /// and its tokens. None when it does not know enough tokens to fill it.
    pub fn next_block(&self, size: usize) -> Option<(Option<BlockId>, &[u32])> {
        let index = self.computed / size;
        let tokens = self.tokens.get(index * size..(index + 1) * size)?;
        let parent = index.checked_sub(1).and_then(|i| self.blocks.get(i));
        Some((parent.copied(), tokens))
    }

    /// Writes its share as a chunk; those tokens count as computed.
    pub fn fill(&mut self, chunk: &mut Chunk) {
        let start = self.computed;
        self.computed = (start + self.share as usize).min(self.tokens.len());
        chunk.sequence = self.id;
        chunk.position = start as u32;
        chunk.wants_logits = self.computed == self.tokens.len();
        chunk.tokens.clear();
        chunk
            .tokens
            .extend_from_slice(&self.tokens[start..self.computed]);
        chunk.blocks.clear();
        chunk.blocks.extend_from_slice(&self.blocks);
    }

    /// Lets others find the blocks that have become full.
    pub fn publish(&mut self, pool: &mut BlockPool, size: usize) {
        while (self.published + 1) * size <= self.computed {
            let index = self.published;
            let parent = index.checked_sub(1).map(|i| self.blocks[i]);
            let tokens = &self.tokens[index * size..(index + 1) * size];
            self.blocks[index] = pool.publish(parent, tokens, self.blocks[index]);
            self.published += 1;
        }
    }

    /// Gives all blocks back; what nobody has kept in the cache must be computed again.
    pub fn release(&mut self, pool: &mut BlockPool) {
        self.computed = 0;
        self.published = 0;
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
    }
}
