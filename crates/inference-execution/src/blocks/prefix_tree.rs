use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use crate::BlockId;

/// Which computed blocks follow which, and the tokens in each: every path from the root is a
/// prefix that was computed.
///
/// What keys and values are depends on all tokens before them, so a block is found only
/// through the block before it. Tokens are compared themselves, not a hash of them: nothing
/// can collide, whatever a client sends.
#[derive(Debug, Clone)]
pub(super) struct PrefixTree {
    /// Blocks at the beginning of sequences.
    first: Children,
    /// By block.
    nodes: Vec<Option<Node>>,
}

/// In the order of their tokens, so that the most similar are neighbours.
type Children = BTreeMap<Arc<[u32]>, BlockId>;

#[derive(Debug, Clone)]
struct Node {
    parent: Option<BlockId>,
    tokens: Arc<[u32]>,
    children: Children,
}

impl PrefixTree {
    /// An empty tree over `blocks` blocks.
    pub fn new(blocks: u32) -> Self {
        Self {
            first: Children::new(),
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
            None => Some(&self.first),
            Some(block) => Some(&self.node(block)?.children),
        }
    }

    fn children_mut(&mut self, parent: Option<BlockId>) -> Option<&mut Children> {
        match parent {
            None => Some(&mut self.first),
            Some(block) => {
                let node = self.nodes.get_mut(block.0 as usize)?.as_mut()?;
                Some(&mut node.children)
            }
        }
    }

    /// The block after `parent` that holds exactly `tokens`.
    pub fn find(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        self.children(parent)?.get(tokens).copied()
    }

    /// The block after `parent` that begins with most of `tokens`, and with how many: at
    /// least one.
    pub fn closest(&self, parent: Option<BlockId>, tokens: &[u32]) -> Option<(BlockId, usize)> {
        let children = self.children(parent)?;
        let before = children.range::<[u32], _>((Unbounded, Included(tokens)));
        let after = children.range::<[u32], _>((Excluded(tokens), Unbounded));
        before
            .rev()
            .take(1)
            .chain(after.take(1))
            .map(|(content, block)| (*block, common(content, tokens)))
            .filter(|(_, common)| *common > 0)
            .max_by_key(|(_, common)| *common)
    }

    /// Notes that `block` holds `tokens` after `parent`; nothing happens when `parent` is
    /// not known.
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

    /// Forgets what `block` holds, and with it the way to the blocks after it.
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

/// How many tokens two begin with in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BlockId = BlockId(0);
    const B: BlockId = BlockId(1);
    const C: BlockId = BlockId(2);

    #[test]
    fn a_block_is_found_only_after_its_parent() {
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
    fn a_block_used_anew_has_no_children_of_its_former_content() {
        let mut tree = PrefixTree::new(3);
        tree.insert(None, &[1, 2], A);
        tree.insert(Some(A), &[3, 4], B);
        tree.remove(A);
        tree.insert(None, &[8, 9], A);
        assert_eq!(tree.find(Some(A), &[3, 4]), None);
        // The orphan leaves without a trace as well.
        tree.remove(B);
        assert!(!tree.contains(B) && tree.contains(A));
    }

    #[test]
    fn the_closest_shares_the_longest_beginning() {
        let mut tree = PrefixTree::new(3);
        tree.insert(None, &[1, 2, 3, 4], A);
        tree.insert(None, &[1, 2, 7, 7], B);
        tree.insert(None, &[5, 0, 0, 0], C);
        let closest = |tokens: &[u32]| tree.closest(None, tokens);
        assert_eq!(closest(&[1, 2, 3, 9]), Some((A, 3)));
        assert_eq!(closest(&[1, 2, 7]), Some((B, 3)));
        assert_eq!(closest(&[1, 2, 3, 4]), Some((A, 4)));
        assert_eq!(closest(&[1, 2, 4, 0]).map(|(_, common)| common), Some(2));
        assert_eq!(closest(&[5]), Some((C, 1)));
        assert_eq!(closest(&[6, 0]), None);
        assert_eq!(closest(&[]), None);
        assert_eq!(tree.closest(Some(A), &[1]), None);
    }
}
