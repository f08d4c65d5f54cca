use crate::{
    blocks::BlockPool,
    deadline::Deadline,
    engine::{BlockId, Chunk, SequenceId},
};

/// The scheduling state of a sequence.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub id: SequenceId,
    /// The prompt and the output so far.
    pub tokens: Vec<u32>,
    /// Number of tokens whose keys and values are in the blocks, or will be after the step that
    /// is being composed.
    computed: usize,
    /// Blocks of the computed tokens; none while the sequence waits.
    pub blocks: Vec<BlockId>,
    /// Number of leading blocks that other sequences can find.
    published: usize,
    /// Number of tokens to compute in the step that is being composed.
    pub share: u32,
    pub deadline: Option<Deadline>,
    pub paused: bool,
    /// The sequence was in a batch before.
    pub started: bool,
}

impl Sequence {
    pub fn new(id: SequenceId, tokens: Vec<u32>, deadline: Option<Deadline>) -> Self {
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

    pub fn computed(&self) -> u32 {
        self.computed as u32
    }

    /// Returns the number of known tokens that are not computed.
    pub fn pending(&self) -> u32 {
        (self.tokens.len() - self.computed) as u32
    }

    /// Returns whether only the newest token is not computed.
    pub fn is_decoding(&self) -> bool {
        self.computed > 0 && self.pending() == 1
    }

    fn at_block_start(&self, size: usize) -> bool {
        self.computed.is_multiple_of(size)
    }

    /// Holds the cached blocks with the next tokens. At least one token remains to be computed,
    /// because its logits are needed.
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

    /// Returns the block that shares the longest prefix with the next block, and the length of
    /// that prefix.
    pub fn closest(&self, pool: &BlockPool, size: usize) -> Option<(BlockId, usize)> {
        let end = (self.computed + size).min(self.tokens.len().saturating_sub(1));
        if !self.at_block_start(size) || end <= self.computed {
            return None;
        }
        let next = &self.tokens[self.computed..end];
        pool.closest(self.blocks.last().copied(), next)
    }

    /// Appends a block that will be a copy of one with the next `tokens` tokens.
    pub fn push_copy(&mut self, block: BlockId, tokens: usize) {
        self.blocks.push(block);
        self.computed += tokens;
    }

    /// Returns the block to compute next as the pool identifies it: by its parent and its
    /// tokens. Returns `None` if the known tokens do not fill it.
    pub fn next_block(&self, size: usize) -> Option<(Option<BlockId>, &[u32])> {
        let index = self.computed / size;
        let tokens = self.tokens.get(index * size..(index + 1) * size)?;
        let parent = index.checked_sub(1).and_then(|i| self.blocks.get(i));
        Some((parent.copied(), tokens))
    }

    /// Writes the share to `chunk`. Its tokens count as computed.
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

    /// Makes the blocks findable that became full.
    pub fn publish(&mut self, pool: &mut BlockPool, size: usize) {
        while (self.published + 1) * size <= self.computed {
            let index = self.published;
            let parent = index.checked_sub(1).map(|i| self.blocks[i]);
            let tokens = &self.tokens[index * size..(index + 1) * size];
            self.blocks[index] = pool.publish(parent, tokens, self.blocks[index]);
            self.published += 1;
        }
    }

    /// Releases all blocks. Tokens whose blocks are evicted must be recomputed.
    pub fn release(&mut self, pool: &mut BlockPool) {
        self.computed = 0;
        self.published = 0;
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
    }
}
