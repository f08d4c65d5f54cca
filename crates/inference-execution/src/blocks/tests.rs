use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Allocate,
    Hold(usize),
    Release(usize),
    /// Publishes a held block with two tokens of a small alphabet, after another held block.
    Publish(usize, Option<usize>, [u32; 2]),
}

fn action() -> impl Strategy<Value = Action> {
    let token = 0..3_u32;
    prop_oneof![
        Just(Action::Allocate),
        any::<usize>().prop_map(Action::Hold),
        any::<usize>().prop_map(Action::Release),
        (
            any::<usize>(),
            any::<Option<usize>>(),
            [token.clone(), token]
        )
            .prop_map(|(block, parent, tokens)| Action::Publish(block, parent, tokens)),
    ]
}

proptest! {
    #[test]
    fn no_block_is_lost_or_allocated_twice(actions in prop::collection::vec(action(), 0..200)) {
        let mut pool = BlockPool::new(12);
        // The expected state: one entry per reference.
        let mut held: Vec<BlockId> = Vec::new();
        for action in actions {
            match action {
                Action::Allocate => {
                    let available = pool.available();
                    let block = pool.allocate();
                    prop_assert_eq!(block.is_some(), available > 0);
                    prop_assert!(block.is_none_or(|b| !held.contains(&b)), "block is already held");
                    held.extend(block);
                }
                Action::Hold(i) if !held.is_empty() => {
                    let block = held[i % held.len()];
                    prop_assert!(pool.hold(block));
                    held.push(block);
                }
                Action::Release(i) if !held.is_empty() => {
                    prop_assert!(pool.release(held.swap_remove(i % held.len())));
                }
                Action::Publish(i, parent, tokens) if !held.is_empty() => {
                    let index = i % held.len();
                    let parent = parent.map(|p| held[p % held.len()]);
                    let block = held[index];
                    if parent != Some(block) && !pool.tree.contains(block) {
                        held[index] = pool.publish(parent, &tokens, block);
                    }
                }
                _ => {}
            }
            for id in (0..12).map(BlockId) {
                let holds = held.iter().filter(|b| **b == id).count();
                prop_assert_eq!(pool.references(id) as usize, holds);
            }
            let distinct = (0..12).filter(|i| held.contains(&BlockId(*i))).count();
            prop_assert_eq!(pool.held() as usize, distinct);
            prop_assert_eq!(pool.available() as usize, 12 - distinct);
        }
    }
}

#[test]
fn free_block_can_be_neither_held_nor_released() {
    let mut pool = BlockPool::new(1);
    assert!(!pool.hold(BlockId(0)) && !pool.release(BlockId(0)) && !pool.release(BlockId(9)));
    assert_eq!(pool.available(), 1);
}

#[test]
fn finds_released_block_until_it_is_evicted() {
    let mut pool = BlockPool::new(2);
    let first = pool.allocate().unwrap();
    assert_eq!(pool.publish(None, &[1, 2], first), first);
    pool.release(first);
    assert_eq!((pool.available(), pool.cached(), pool.held()), (2, 1, 0));
    assert_eq!(pool.find(None, &[1, 2]), Some(first));
    assert!(pool.hold(first));
    pool.release(first);
    // Free blocks are allocated before cached ones.
    assert_eq!(pool.allocate(), Some(BlockId(1)));
    assert_eq!(pool.find(None, &[1, 2]), Some(first));
    assert_eq!(pool.allocate(), Some(first));
    assert_eq!(pool.find(None, &[1, 2]), None);
    assert_eq!(pool.allocate(), None);
}

#[test]
fn evicts_least_recently_used_block_and_children_before_parents() {
    let mut pool = BlockPool::new(4);
    let mut chain = |tokens: [u32; 2]| {
        let one = pool.allocate().unwrap();
        pool.publish(None, &tokens, one);
        let two = pool.allocate().unwrap();
        pool.publish(Some(one), &tokens, two);
        (one, two)
    };
    let (a, b) = (chain([1, 1]), chain([2, 2]));
    for block in [a.1, a.0, b.1, b.0] {
        pool.release(block);
    }
    // Makes it the most recently used block.
    assert!(pool.hold(a.0));
    pool.release(a.0);
    let order: Vec<_> = (0..4).map(|_| pool.allocate().unwrap()).collect();
    assert_eq!(order, [a.1, b.1, b.0, a.0]);
}

#[test]
fn keeps_one_block_per_content() {
    let mut pool = BlockPool::new(2);
    let (one, two) = (pool.allocate().unwrap(), pool.allocate().unwrap());
    assert_eq!(pool.publish(None, &[1, 2], one), one);
    assert_eq!(pool.publish(None, &[1, 2], one), one);
    assert_eq!(pool.publish(None, &[1, 2], two), one);
    assert_eq!((pool.references(one), pool.references(two)), (2, 0));
    assert_eq!(pool.available(), 1);
}
