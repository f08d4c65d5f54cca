use std::time::Duration;

use crate::{BlockId, BlockPool, Chunk, SequenceId};

/// One sequence as the scheduler sees it.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub id: SequenceId,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// Tokens whose keys and values are in the blocks.
    computed: usize,
    /// Room for `tokens`, or none while it waits.
    pub blocks: Vec<BlockId>,
    pub deadline: Option<Duration>,
    pub paused: bool,
    /// It has had blocks before.
    pub started: bool,
}

impl Sequence {
    pub fn new(id: SequenceId, tokens: Vec<u32>, deadline: Option<Duration>) -> Self {
        Self {
            id,
            tokens,
            computed: 0,
            blocks: Vec::new(),
            deadline,
            paused: false,
            started: false,
        }
    }

    /// Tokens that can be computed.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Only its newest token is missing.
    pub fn is_decoding(&self) -> bool {
        self.computed > 0 && self.pending() == 1 && !self.paused
    }

    /// Its next `count` tokens as a chunk; they count as computed.
    pub fn take_chunk(&mut self, count: u32) -> Chunk {
        let start = self.computed;
        self.computed = (start + count as usize).min(self.tokens.len());
        Chunk {
            sequence: self.id,
            tokens: self.tokens[start..self.computed].to_vec(),
            position: start as u32,
            blocks: self.blocks.clone(),
            wants_logits: self.computed == self.tokens.len(),
        }
    }

    /// Gives all blocks back; everything has to be computed again.
    pub fn release(&mut self, pool: &mut BlockPool) {
        self.computed = 0;
        for block in self.blocks.drain(..) {
            pool.release(block);
        }
    }
}
