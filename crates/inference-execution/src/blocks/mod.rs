mod prefix_tree;

use std::collections::BTreeMap;

use prefix_tree::PrefixTree;

use crate::BlockId;

/// Who holds which block of the KV cache, and which tokens the full ones contain.
///
/// A block is *free* (its content is worth nothing), *held* by one sequence or more, or
/// *cached*: nobody holds it, but a sequence that begins alike can. Cached blocks are given
/// away when no free one is left, the one that was not needed for the longest time first.
#[derive(Debug, Clone)]
pub struct BlockPool {
    free: Vec<BlockId>,
    references: Vec<u32>,
    tree: PrefixTree,
    /// Cached blocks by the moment when they were given back.
    cached: BTreeMap<u64, BlockId>,
    /// Of each block, the moment when it was given back.
    moments: Vec<u64>,
    now: u64,
}

impl BlockPool {
    /// A pool of `blocks` free blocks.
    pub fn new(blocks: u32) -> Self {
        Self {
            // Popped from the end, so the low numbers come first.
            free: (0..blocks).rev().map(BlockId).collect(),
            references: vec![0; blocks as usize],
            tree: PrefixTree::new(blocks),
            cached: BTreeMap::new(),
            moments: vec![0; blocks as usize],
            now: 0,
        }
    }

    /// Blocks in all.
    pub fn total(&self) -> u32 {
        self.references.len() as u32
    }

    /// Blocks that nobody holds: free ones and cached ones.
    pub fn available(&self) -> u32 {
        (self.free.len() + self.cached.len()) as u32
    }

    /// Blocks that nobody holds and that are worth keeping.
    pub fn cached(&self) -> u32 {
        self.cached.len() as u32
    }

    /// Blocks that sequences hold.
    pub fn held(&self) -> u32 {
        self.total() - self.available()
    }

    /// How often a block is held; 0 for one that does not exist.
    pub fn references(&self, block: BlockId) -> u32 {
        self.references.get(block.0 as usize).copied().unwrap_or(0)
    }

    /// Takes a block to write into; a cached one loses its content when no other is left.
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

    /// Holds a block once more; `false` when its content is worth nothing.
    pub fn hold(&mut self, block: BlockId) -> bool {
        let index = block.0 as usize;
        match self.references.get_mut(index) {
            Some(0) if self.tree.contains(block) => {
                self.cached.remove(&self.moments[index]);
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

    /// Gives a block back once; when nobody holds it any more it is cached or free. `false`
    /// when nobody held it. The blocks of a sequence are given back last one first: the end
    /// of a prefix is of no use without its beginning, so it must be the first to go.
    pub fn release(&mut self, block: BlockId) -> bool {
        let index = block.0 as usize;
        let Some(count) = self.references.get_mut(index).filter(|count| **count > 0) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            if self.tree.contains(block) {
                self.now += 1;
                self.moments[index] = self.now;
                self.cached.insert(self.now, block);
            } else {
                self.free.push(block);
            }
        }
        true
    }

    /// The block that holds exactly `tokens` after the block `parent`, which is none for the
    /// beginning of a sequence.
    pub fn find(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        self.tree.find(parent, tokens)
    }

    /// The block after `parent` that begins with most of `tokens`, and with how many: at
    /// least one.
    pub fn closest(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<(BlockId, usize)> {
        self.tree.closest(parent, tokens)
    }

    /// Lets others find a held block whose `tokens` are computed; nobody may write into it
    /// any more. When there is such a block already, that one is held instead and the given
    /// one released. Returns the block that is now held.
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
mod tests;
