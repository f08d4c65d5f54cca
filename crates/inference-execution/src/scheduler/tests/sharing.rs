//! Examples of what is shared, and with whom.

use super::{driver::Driver, *};

fn driver(token_budget: u32, blocks: u32) -> Driver {
    Driver::new(SchedulerConfig {
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
fn a_second_request_finds_what_the_first_has_left() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..10), 1);
    assert_eq!(d.step(), [(SequenceId(0), 10)]);
    assert_eq!(
        (d.scheduler.pool().held(), d.scheduler.pool().cached()),
        (0, 2)
    );
    // Two full blocks are found; what the third had was not kept.
    d.arrive(tokens((0..10).chain(50..53)), 1);
    assert_eq!(d.step(), [(SequenceId(1), 5)]);
    assert_eq!(d.started[1], (SequenceId(1), 8));
}

#[test]
fn the_next_turn_of_a_chat_finds_the_answer_as_well() {
    let mut d = driver(64, 20);
    let id = d.arrive(tokens(0..6), 8);
    let mut chat = Vec::new();
    while let Some(expected) = d.alive.get(&id) {
        chat.clone_from(&expected.tokens);
        d.step();
    }
    // 6 of the prompt and 7 computed of the answer: 3 full blocks.
    chat.extend(100..105);
    d.arrive(chat, 1);
    d.step();
    assert_eq!(d.started[1].1, 12);
}

#[test]
fn one_token_is_always_computed() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.step();
    // The second block is copied for its first three tokens.
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(1), 1)]);
    assert_eq!(d.started[1].1, 7);
}

#[test]
fn a_block_that_is_right_in_part_is_copied() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.step();
    d.arrive(tokens((0..6).chain(50..60)), 1);
    assert_eq!(d.step(), [(SequenceId(1), 10)]);
    assert_eq!(d.started[1].1, 6);
}

#[test]
fn those_that_come_together_wait_for_the_one_that_computes() {
    let mut d = driver(8, 40);
    let ids: Vec<_> = (0..3)
        .map(|i| d.arrive(tokens((0..20).chain(50 + i..51 + i)), 1))
        .collect();
    assert_eq!(d.step(), [(ids[0], 8)]);
    assert_eq!(d.step(), [(ids[0], 8)]);
    // The last block in common is not full before its fourth token.
    assert_eq!(d.step(), [(ids[0], 5)]);
    assert_eq!(d.step(), [(ids[1], 1), (ids[2], 1)]);
    assert_eq!(d.started, [(ids[0], 0), (ids[1], 20), (ids[2], 20)]);
}

#[test]
fn who_is_waited_for_may_go_away() {
    let mut d = driver(6, 40);
    let ids: Vec<_> = (0..3).map(|_| d.arrive(tokens(0..20), 1)).collect();
    assert_eq!(d.step(), [(ids[0], 6)]);
    d.pause(ids[0], true);
    // One full block was done.
    assert_eq!(d.step(), [(ids[1], 6)]);
    d.finish(ids[1]);
    assert_eq!(d.step(), [(ids[2], 6)]);
    d.pause(ids[0], false);
    d.run_out();
    // The blocks of the cancelled one stayed, those of the paused one were its own.
    assert_eq!(d.started[2], (ids[2], 8));
}

#[test]
fn a_failed_step_leaves_nothing_behind() {
    let mut d = driver(64, 20);
    d.arrive(tokens(0..8), 1);
    d.failing_step();
    assert_eq!(d.scheduler.pool().cached(), 0);
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(1), 8)]);
}

#[test]
fn cached_blocks_make_room_for_the_living() {
    let mut d = driver(64, 4);
    d.arrive(tokens(0..8), 1);
    d.step();
    d.arrive(tokens(50..66), 1);
    assert_eq!(d.step(), [(SequenceId(1), 16)]);
    // Three blocks of the second are still there, and nothing of the first.
    d.arrive(tokens(0..8), 1);
    assert_eq!(d.step(), [(SequenceId(2), 8)]);
}

#[test]
fn the_preempted_finds_its_blocks_again() {
    let mut d = driver(64, 5);
    let old = d.arrive(tokens(0..8), 10);
    let young = d.arrive(tokens(50..58), 2);
    assert_eq!(d.step(), [(old, 8), (young, 8)]);
    // The ninth token of both needs a block; there is one.
    assert_eq!(d.step(), [(old, 1)]);
    assert_eq!(d.scheduler.waiting(), 1);
    d.finish(old);
    assert_eq!(d.step(), [(young, 1)]);
}
