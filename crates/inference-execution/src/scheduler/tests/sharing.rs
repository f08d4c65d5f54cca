//! Examples of shared blocks.

use super::{driver::Driver, *};

fn driver(token_budget: u32, blocks: u32) -> Driver {
    Driver::new(BatchConfig {
        slots: 4,
        token_budget,
        blocks,
        block_tokens: 4,
        prefix_cache: true,
    })
}

fn tokens(all: impl Iterator<Item = u32>) -> Vec<u32> {
    all.collect()
}

#[test]
fn second_request_reuses_blocks_of_the_first() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..10), 1);
    assert_eq!(d.step(), [(SequenceId(0), 10)]);
    assert_eq!((d.scheduler.pool.held(), d.scheduler.pool.cached()), (0, 2));
    // Two full blocks are reused. The third was not full and was not cached.
    d.arrive(tokens((0..10).chain(50..53)), 1);
    assert_eq!(d.step(), [(SequenceId(1), 5)]);
    assert_eq!(d.started[1], (SequenceId(1), 8));
}

#[test]
fn next_turn_of_a_chat_reuses_the_output() {
    let mut d = driver(64, 20);
    let id = d.arrive(tokens(0..6), 8);
    let mut chat = Vec::new();
    while let Some(expected) = d.alive.get(&id) {
        chat.clone_from(&expected.tokens);
        d.step();
    }
    // 6 prompt tokens and 7 computed output tokens: 3 full blocks.
    chat.extend(100..105);
    d.arrive(chat, 1);
    d.step();
    assert_eq!(d.started[1].1, 12);
}

#[test]
fn at_least_one_token_is_computed() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.step();
    // The second block is copied for its first three tokens.
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(1), 1)]);
    assert_eq!(d.started[1].1, 7);
}

#[test]
fn partly_matching_block_is_copied() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.step();
    d.arrive(tokens((0..6).chain(50..60)), 1);
    assert_eq!(d.step(), [(SequenceId(1), 10)]);
    assert_eq!(d.started[1].1, 6);
}

#[test]
fn concurrent_requests_wait_for_the_one_that_computes_the_prefix() {
    let mut d = driver(8, 40);
    let ids: Vec<_> = (0..3)
        .map(|i| d.arrive(tokens((0..20).chain(50 + i..51 + i)), 1))
        .collect();
    assert_eq!(d.step(), [(ids[0], 8)]);
    assert_eq!(d.step(), [(ids[0], 8)]);
    // The others wait until the last shared block is full.
    assert_eq!(d.step(), [(ids[0], 5)]);
    assert_eq!(d.step(), [(ids[1], 1), (ids[2], 1)]);
    assert_eq!(d.started, [(ids[0], 0), (ids[1], 20), (ids[2], 20)]);
}

#[test]
fn waiting_request_continues_when_the_leader_is_paused_or_cancelled() {
    let mut d = driver(6, 40);
    let ids: Vec<_> = (0..3).map(|_| d.arrive(tokens(0..20), 1)).collect();
    assert_eq!(d.step(), [(ids[0], 6)]);
    d.pause(ids[0], true);
    // The first request has computed one full block.
    assert_eq!(d.step(), [(ids[1], 6)]);
    d.finish(ids[1]);
    assert_eq!(d.step(), [(ids[2], 6)]);
    d.pause(ids[0], false);
    d.run_out();
    // The two full blocks of the cancelled request are still cached.
    assert_eq!(d.started[2], (ids[2], 8));
}

#[test]
fn failed_step_publishes_no_blocks() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.failing_step();
    assert_eq!(d.scheduler.pool.cached(), 0);
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(1), 8)]);
}

#[test]
fn cached_blocks_are_evicted_for_running_sequences() {
    let mut d = driver(64, 4);
    d.arrive(tokens(0..8), 1);
    d.step();
    d.arrive(tokens(50..66), 1);
    assert_eq!(d.step(), [(SequenceId(1), 16)]);
    // Three blocks of the second request are cached, and none of the first.
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(2), 8)]);
}

#[test]
fn preempted_sequence_reuses_its_blocks() {
    let mut d = driver(64, 5);
    let old = d.arrive(tokens(0..8), 10);
    let young = d.arrive(tokens(50..58), 2);
    assert_eq!(d.step(), [(old, 8), (young, 8)]);
    // Both need a block for their ninth token, and one is available.
    assert_eq!(d.step(), [(old, 1)]);
    assert_eq!(d.scheduler.waiting.len(), 1);
    d.finish(old);
    assert_eq!(d.step(), [(young, 1)]);
}

#[test]
fn a_younger_request_completes_the_block_of_which_it_computed_more() {
    let mut d = driver(6, 40);
    let old = d.arrive(tokens(0..20), 1);
    d.pause(old, true);
    let young = d.arrive(tokens(0..20), 1);
    assert_eq!(d.step(), [(young, 6)]);
    d.pause(old, false);
    // The first block is cached, and half of the second one is computed.
    assert_eq!(d.step(), [(young, 6)]);
    d.run_out();
}

#[test]
fn the_part_of_a_block_that_is_copied_leaves_its_budget_to_others() {
    let mut d = driver(16, 40);
    d.arrive(tokens(0..8), 1);
    d.step();
    let copying = d.arrive(tokens((0..7).chain(50..55)), 1);
    let other = d.arrive(tokens(100..111), 1);
    // Of its 12 tokens, 4 are cached and 3 are copied.
    assert_eq!(d.step(), [(copying, 5), (other, 11)]);
}
