//! When sequences get slots and blocks, and what is counted of them.

use super::*;

/// Number of running and of waiting sequences.
fn sequences(scheduler: &BatchScheduler) -> (usize, usize) {
    (scheduler.running.len(), scheduler.waiting.len())
}

#[test]
fn a_sequence_waits_until_the_cache_has_room_for_all_its_tokens() {
    // Room for the first sequence and half of the second one.
    let mut s = scheduler(2, 10, 3);
    arrive(&mut s, 1, 8);
    arrive(&mut s, 2, 8);
    assert_eq!(step(&mut s), [(1, 8, true)]);
    assert_eq!(sequences(&s), (1, 1));

    // Room for either of them. The first one takes its room step by step.
    let mut s = scheduler(2, 4, 2);
    arrive(&mut s, 1, 8);
    arrive(&mut s, 2, 4);
    assert_eq!(step(&mut s), [(1, 4, false)]);
    assert_eq!(step(&mut s), [(1, 4, true)]);
    assert_eq!(sequences(&s), (1, 1));
}

#[test]
fn the_room_of_a_long_prefill_is_not_given_to_a_sequence_that_arrives_during_it() {
    let mut s = scheduler(2, 4, 4);
    arrive(&mut s, 1, 12);
    assert_eq!(step(&mut s), [(1, 4, false)]);
    // Three blocks are unused, of which the first sequence needs two.
    arrive(&mut s, 2, 8);
    assert_eq!(step(&mut s), [(1, 4, false)]);
    assert_eq!(sequences(&s), (1, 1));
    let mut s = scheduler(2, 4, 4);
    arrive(&mut s, 1, 12);
    step(&mut s);
    arrive(&mut s, 2, 4);
    assert_eq!(step(&mut s), [(2, 4, true)]);
    assert_eq!(sequences(&s), (2, 0));
}

#[test]
fn waiting_sequences_free_slots_and_tokens_in_held_blocks_are_counted() {
    let counts = |s: &BatchScheduler| (s.waiting(), s.has_free_slot(), s.held_tokens());
    let mut s = scheduler(2, 16, 100);
    assert_eq!(counts(&s), (0, true, 0));
    arrive(&mut s, 1, 5);
    assert_eq!(counts(&s), (1, true, 0));
    step(&mut s);
    assert_eq!(counts(&s), (0, true, 8), "two blocks of four tokens");
    arrive(&mut s, 2, 3);
    assert_eq!(counts(&s), (1, false, 8));
    step(&mut s);
    assert_eq!(counts(&s), (0, false, 12));
    arrive(&mut s, 3, 3);
    arrive(&mut s, 4, 3);
    assert_eq!(counts(&s), (2, false, 12));
    for id in [1, 3, 4] {
        s.handle(SequenceId(id), SequenceEvent::Finished);
    }
    assert_eq!(counts(&s), (0, true, 4));
}
