use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use crate::engine::BlockId;

/// The computed blocks and their tokens as a tree: every path from the root is a computed prefix.
///
/// Keys and values depend on all preceding tokens, so a block is found only through its parent.
/// The tokens themselves are compared, not hashes of them, so clients cannot cause collisions.
#[derive(Debug, Clone)]
pub(super) struct PrefixTree {
    /// Blocks at the start of sequences.
    roots: Children,
    /// Indexed by block.
    nodes: Vec<Option<Node>>,
}

/// Ordered by tokens, so that blocks with a common prefix are neighbors.
type Children = BTreeMap<Arc<[u32]>, BlockId>;

#[derive(Debug, Clone)]
struct Node {
    parent: Option<BlockId>,
    tokens: Arc<[u32]>,
    children: Children,
}

impl PrefixTree {
    pub fn new(blocks: u32) -> Self {
        Self {
            roots: Children::new(),
            nodes: vec![None; blocks as usize],
        }
    }

    pub fn contains(&self, block: BlockId) -> bool {
        self.node(block).is_some()
    }

    fn node(&self, block: BlockId) -> Option<&Node> {
        self.nodes.get(block.0 as usize)?.as_ref()
    }

    fn children(&self, parent: Option<BlockId>) -> Option<&Children> {
        match parent {
            None => Some(&self.roots),
            Some(block) => Some(&self.node(block)?.children),
        }
    }

    fn children_mut(&mut self, parent: Option<BlockId>) -> Option<&mut Children> {
        match parent {
            None => Some(&mut self.roots),
            Some(block) => {
                let node = self.nodes.get_mut(block.0 as usize)?.as_mut()?;
                Some(&mut node.children)
            }
        }
    }

    /// Returns the block after `parent` that contains exactly `tokens`.
    pub fn find(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        self.children(parent)?.get(tokens).copied()
    }

    /// Returns the block after `parent` that shares the longest prefix with `tokens`, and the
    /// length of that prefix, which is at least 1.
    pub fn closest(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<(BlockId, usize)> {
        let children = self.children(parent)?;
        let before = children.range::<[u32], _>((Unbounded, Included(tokens)));
        let after = children.range::<[u32], _>((Excluded(tokens), Unbounded));
        before
            .rev()
            .take(1)
            .chain(after.take(1))
            .map(|(content, block)| (*block, common_prefix(content, tokens)))
            .filter(|(_, length)| *length > 0)
            .max_by_key(|(_, length)| *length)
    }

    /// Adds `block` with `tokens` after `parent`. Does nothing if `parent` is not in the tree.
    pub fn insert(&mut self, parent: Option<BlockId>, tokens: &[u32], block: BlockId) {
        let tokens: Arc<[u32]> = tokens.into();
        let Some(children) = self.children_mut(parent) else {
            return;
        };
        children.insert(tokens.clone(), block);
        if let Some(node) = self.nodes.get_mut(block.0 as usize) {
            *node = Some(Node {
                parent,
                tokens,
                children: Children::new(),
            });
        }
    }

    /// Removes `block`, which makes the blocks after it unreachable.
    pub fn remove(&mut self, block: BlockId) {
        let node = self.nodes.get_mut(block.0 as usize).and_then(Option::take);
        let Some(node) = node else { return };
        if let Some(children) = self.children_mut(node.parent)
            && children.get(&node.tokens) == Some(&block)
        {
            children.remove(&node.tokens);
        }
    }
}

/// Returns the length of the common prefix.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BlockId = BlockId(0);
    const B: BlockId = BlockId(1);
    const C: BlockId = BlockId(2);

    #[test]
    fn finds_block_only_after_its_parent() {
        let mut tree = PrefixTree::new(3);
        tree.insert(None, &[1, 2], A);
        tree.insert(Some(A), &[3, 4], B);
        tree.insert(Some(B), &[1, 2], C);
        assert_eq!(tree.find(None, &[1, 2]), Some(A));
        assert_eq!(tree.find(Some(A), &[3, 4]), Some(B));
        assert_eq!(tree.find(Some(B), &[1, 2]), Some(C));
        for (parent, tokens) in [(None, [3, 4]), (Some(A), [1, 2]), (Some(C), [1, 2])] {
            assert_eq!(tree.find(parent, &tokens), None);
        }
        assert_eq!(tree.find(Some(BlockId(9)), &[1, 2]), None);
    }

    #[test]
    fn reused_block_does_not_inherit_children() {
        let mut tree = PrefixTree::new(3);
        tree.insert(None, &[1, 2], A);
        tree.insert(Some(A), &[3, 4], B);
        tree.remove(A);
        tree.insert(None, &[8, 9], A);
        assert_eq!(tree.find(Some(A), &[3, 4]), None);
        // The orphaned child can be removed as well.
        tree.remove(B);
        assert!(!tree.contains(B) && tree.contains(A));
    }

    #[test]
    fn closest_block_shares_the_longest_prefix() {
        let mut tree = PrefixTree::new(3);
        tree.insert(None, &[1, 2, 3, 4], A);
        tree.insert(None, &[1, 2, 7, 7], B);
        tree.insert(None, &[5, 0, 0, 0], C);
        let closest = |tokens: &[u32]| tree.closest(None, tokens);
        assert_eq!(closest(&[1, 2, 3, 9]), Some((A, 3)));
        assert_eq!(closest(&[1, 2, 7]), Some((B, 3)));
        assert_eq!(closest(&[1, 2, 3, 4]), Some((A, 4)));
        assert_eq!(closest(&[1, 2, 4, 0]).map(|(_, length)| length), Some(2));
        assert_eq!(closest(&[5]), Some((C, 1)));
        assert_eq!(closest(&[6, 0]), None);
        assert_eq!(closest(&[]), None);
        assert_eq!(tree.closest(Some(A), &[1]), None);
    }
}
