use crate::BlockId;

/// Who holds which block of the KV cache: a free list and a reference count for each block.
/// It knows nothing of what a block contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPool {
    free: Vec<BlockId>,
    references: Vec<u32>,
}

impl BlockPool {
    /// A pool of `blocks` free blocks.
    pub fn new(blocks: u32) -> Self {
        Self {
            // Popped from the end, so the low numbers come first.
            free: (0..blocks).rev().map(BlockId).collect(),
            references: vec![0; blocks as usize],
        }
    }

    /// Blocks in all.
    pub fn total(&self) -> u32 {
        self.references.len() as u32
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// How often a block is held; 0 for a free one and for one that does not exist.
    pub fn references(&self, block: BlockId) -> u32 {
        self.references.get(block.0 as usize).copied().unwrap_or(0)
    }

    /// Takes `count` blocks, or none at all when there are fewer.
    pub fn allocate(&mut self, count: u32) -> Option<Vec<BlockId>> {
        let rest = self.free.len().checked_sub(count as usize)?;
        let taken: Vec<BlockId> = self.free.drain(rest..).rev().collect();
        for block in &taken {
            self.references[block.0 as usize] = 1;
        }
        Some(taken)
    }

    /// Holds a block once more; `false` when nobody holds it, since its content is then lost.
    pub fn share(&mut self, block: BlockId) -> bool {
        match self.references.get_mut(block.0 as usize) {
            Some(count) if *count > 0 => {
                *count += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives a block back once; it is free when nobody holds it any more. `false` when
    /// nobody held it.
    pub fn release(&mut self, block: BlockId) -> bool {
        match self.references.get_mut(block.0 as usize) {
            Some(count) if *count > 0 => {
                *count -= 1;
                if *count == 0 {
                    self.free.push(block);
                }
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Action {
        Allocate(u32),
        Share(usize),
        Release(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..5_u32).prop_map(Action::Allocate),
            any::<usize>().prop_map(Action::Share),
            any::<usize>().prop_map(Action::Release),
        ]
    }

    proptest! {
        #[test]
        fn no_block_is_lost_or_given_twice(actions in prop::collection::vec(action(), 0..200)) {
            let mut pool = BlockPool::new(12);
            // One entry a hold: the model that the pool is compared with.
            let mut held: Vec<BlockId> = Vec::new();
            for action in actions {
                match action {
                    Action::Allocate(count) => match pool.allocate(count) {
                        Some(blocks) => {
                            prop_assert_eq!(blocks.len(), count as usize);
                            for block in &blocks {
                                prop_assert!(!held.contains(block), "{block:?} is held already");
                            }
                            held.extend(blocks);
                        }
                        None => prop_assert!(pool.free() < count),
                    },
                    Action::Share(i) if !held.is_empty() => {
                        let block = held[i % held.len()];
                        prop_assert!(pool.share(block));
                        held.push(block);
                    }
                    Action::Release(i) if !held.is_empty() => {
                        prop_assert!(pool.release(held.swap_remove(i % held.len())));
                    }
                    _ => {}
                }
                for id in (0..12).map(BlockId) {
                    let holds = held.iter().filter(|b| **b == id).count();
                    prop_assert_eq!(pool.references(id) as usize, holds);
                }
                let distinct = (0..12).filter(|i| held.contains(&BlockId(*i))).count();
                prop_assert_eq!(pool.free() as usize, 12 - distinct);
            }
        }
    }

    #[test]
    fn what_is_not_held_can_be_neither_shared_nor_released() {
        let mut pool = BlockPool::new(1);
        assert!(!pool.share(BlockId(0)) && !pool.release(BlockId(0)) && !pool.release(BlockId(9)));
        assert_eq!(pool.free(), 1);
    }
}
