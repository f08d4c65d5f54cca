mod prefix_tree;

use std::collections::BTreeMap;

use prefix_tree::PrefixTree;

use crate::engine::BlockId;

/// Reference counts of the blocks of the KV cache, and the tokens that full blocks contain.
///
/// A block is *free* (its contents are unused), *held* by one or more sequences, or *cached*: no
/// sequence holds it, but one with the same prefix can. When no free block is left, the least
/// recently used cached block is evicted.
#[derive(Debug, Clone)]
pub(crate) struct BlockPool {
    free: Vec<BlockId>,
    references: Vec<u32>,
    tree: PrefixTree,
    /// Cached blocks by the time of their release.
    cached: BTreeMap<u64, BlockId>,
    /// Time of the last release of each block.
    released_at: Vec<u64>,
    /// Logical time: the number of blocks that were released into the cache.
    now: u64,
}

impl BlockPool {
    pub fn new(blocks: u32) -> Self {
        Self {
            // Blocks are popped from the end: low ids come first.
            free: (0..blocks).rev().map(BlockId).collect(),
            references: vec![0; blocks as usize],
            tree: PrefixTree::new(blocks),
            cached: BTreeMap::new(),
            released_at: vec![0; blocks as usize],
            now: 0,
        }
    }

    pub fn total(&self) -> u32 {
        self.references.len() as u32
    }

    /// Returns the number of free and cached blocks.
    pub fn available(&self) -> u32 {
        (self.free.len() + self.cached.len()) as u32
    }

    /// Returns the number of blocks that sequences hold.
    pub fn held(&self) -> u32 {
        self.total() - self.available()
    }

    /// Allocates a block to write to. Evicts a cached block if no free one is left.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = if let Some(block) = self.free.pop() {
            block
        } else {
            let (_, oldest) = self.cached.pop_first()?;
            self.tree.remove(oldest);
            oldest
        };
        self.references[block.0 as usize] = 1;
        Some(block)
    }

    /// Adds a reference to a held or cached block. Returns `false` for other blocks.
    pub fn hold(&mut self, block: BlockId) -> bool {
        let index = block.0 as usize;
        match self.references.get_mut(index) {
            Some(0) if self.tree.contains(block) => {
                self.cached.remove(&self.released_at[index]);
                self.references[index] = 1;
                true
            }
            Some(count) if *count > 0 => {
                *count += 1;
                true
            }
            _ => false,
        }
    }

    /// Drops a reference to a block; without references the block becomes cached or free.
    /// Returns `false` if the block was not held.
    ///
    /// A sequence releases its last block first: the end of a prefix is useless without its
    /// start and must be evicted before it.
    pub fn release(&mut self, block: BlockId) -> bool {
        let index = block.0 as usize;
        let Some(count) = self.references.get_mut(index).filter(|count| **count > 0) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            if self.tree.contains(block) {
                self.now += 1;
                self.released_at[index] = self.now;
                self.cached.insert(self.now, block);
            } else {
                self.free.push(block);
            }
        }
        true
    }

    /// Returns the block that contains exactly `tokens` and follows the block `parent`, or
    /// starts a sequence if there is no parent.
    pub fn find(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        self.tree.find(parent, tokens)
    }

    /// Returns the block after `parent` that shares the longest prefix with `tokens`, and the
    /// length of that prefix, which is at least 1.
    pub fn closest(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<(BlockId, usize)> {
        self.tree.closest(parent, tokens)
    }

    /// Makes a held block findable. Its `tokens` must be computed and it must not be written to
    /// any more. If there already is a block with these tokens, that one is held instead and
    /// the given one is released. Returns the block that is now held.
    pub fn publish(&mut self, parent: Option<BlockId>, tokens: &[u32], block: BlockId) -> BlockId {
        match self.tree.find(parent, tokens) {
            Some(known) if known != block && self.hold(known) => {
                self.release(block);
                known
            }
            Some(_) => block,
            None => {
                self.tree.insert(parent, tokens, block);
                block
            }
        }
    }
}

#[cfg(test)]
impl BlockPool {
    /// Returns the number of cached blocks.
    pub fn cached(&self) -> u32 {
        self.cached.len() as u32
    }

    /// Returns the number of references to a block, or 0 if it does not exist.
    pub fn references(&self, block: BlockId) -> u32 {
        self.references.get(block.0 as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
