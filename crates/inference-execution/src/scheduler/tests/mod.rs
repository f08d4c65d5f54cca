mod driver;
mod properties;
mod sharing;

use super::*;

fn scheduler(slots: u32, token_budget: u32, blocks: u32) -> Scheduler {
    Scheduler::new(SchedulerConfig {
        slots,
        token_budget,
        blocks,
        block_tokens: 4,
        prefix_cache: true,
    })
}

fn arrive(scheduler: &mut Scheduler, id: u64, tokens: u32) {
    // Nothing in common with any other.
    let tokens = (0..tokens).map(|i| i + 1000 * id as u32).collect();
    scheduler.handle(
        SequenceId(id),
        Event::Arrived {
            tokens,
            deadline: None,
        },
    );
}

fn schedule(scheduler: &mut Scheduler, now: Duration) -> (Batch, Vec<Effect>) {
    let (mut batch, mut effects) = (Batch::default(), Vec::new());
    scheduler.schedule(now, &mut batch, &mut effects);
    (batch, effects)
}

fn started(id: u64) -> Effect {
    Effect::Started {
        sequence: SequenceId(id),
        cached_tokens: 0,
    }
}

/// Schedules a step and samples for all that want it: (sequence, tokens, logits wanted).
fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize, bool)> {
    let (batch, _) = schedule(scheduler, Duration::ZERO);
    scheduler.computed(&batch, Duration::ZERO);
    for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
        scheduler.handle(chunk.sequence, Event::Sampled(7));
    }
    let summary = |c: &crate::Chunk| (c.sequence.0, c.tokens.len(), c.wants_logits);
    batch.chunks.iter().map(summary).collect()
}

/// Schedules a step that takes so long, and samples; the tokens of each sequence in it.
fn slow_step(scheduler: &mut Scheduler, took: Duration) -> Vec<(u64, usize)> {
    let (batch, _) = schedule(scheduler, Duration::ZERO);
    scheduler.computed(&batch, took);
    for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
        scheduler.handle(chunk.sequence, Event::Sampled(7));
    }
    let tokens = |c: &crate::Chunk| (c.sequence.0, c.tokens.len());
    batch.chunks.iter().map(tokens).collect()
}

#[test]
fn a_slow_machine_computes_less_of_a_prompt_between_two_tokens_of_others() {
    let second = Duration::from_secs(1);
    let mut s = scheduler(3, 200, 1000);
    arrive(&mut s, 1, 1000);
    // Nobody else waits for anything.
    assert_eq!(slow_step(&mut s, 2 * second), [(1, 200)]);
    assert_eq!(slow_step(&mut s, second * 2 / 5), [(1, 200)]);
    arrive(&mut s, 2, 1);
    assert_eq!(slow_step(&mut s, 9 * second), [(2, 1)]);
    // A step without a piece of a prompt tells nothing; before it a token took two
    // milliseconds, and 50 of those are a tenth of a second.
    assert_eq!(slow_step(&mut s, 6 * second), [(1, 50), (2, 1)]);
    // So slow that reading the weights alone takes longer.
    assert_eq!(slow_step(&mut s, second / 100), [(1, 16), (2, 1)]);
    assert_eq!(slow_step(&mut s, second / 100), [(1, 170), (2, 1)]);
    s.handle(SequenceId(1), Event::Finished);
    assert_eq!(slow_step(&mut s, 9 * second), [(2, 1)]);
    arrive(&mut s, 3, 50);
    assert_eq!(slow_step(&mut s, second), [(2, 1), (3, 50)]);
}

#[test]
fn a_long_prompt_does_not_stall_those_who_decode() {
    let mut s = scheduler(3, 5, 100);
    arrive(&mut s, 1, 2);
    assert_eq!(step(&mut s), [(1, 2, true)]);
    arrive(&mut s, 2, 9);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 4, false)]);
    arrive(&mut s, 3, 2);
    assert_eq!(step(&mut s), [(1, 1, true), (3, 2, true)]);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 3, false), (3, 1, true)]);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 2, true), (3, 1, true)]);
}

#[test]
fn the_youngest_gives_way_and_computes_its_tokens_again() {
    let mut s = scheduler(2, 16, 3);
    s.config.prefix_cache = false;
    arrive(&mut s, 1, 4);
    arrive(&mut s, 2, 5);
    arrive(&mut s, 3, 9);
    assert_eq!(step(&mut s), [(1, 4, true), (2, 5, true)]);
    // 1 needs a second block; none is free.
    assert_eq!(step(&mut s), [(1, 1, true)]);
    assert_eq!((s.running(), s.waiting()), (1, 2));
    s.handle(SequenceId(1), Event::Finished);
    // The generated token was kept: six tokens now. It comes before 3, which came later.
    assert_eq!(step(&mut s), [(2, 6, true)]);
}

#[test]
fn a_paused_sequence_neither_computes_nor_holds_others_up() {
    let mut s = scheduler(2, 16, 2);
    arrive(&mut s, 1, 5);
    assert_eq!(step(&mut s), [(1, 5, true)]);
    s.handle(SequenceId(1), Event::Paused);
    assert_eq!(step(&mut s), []);
    arrive(&mut s, 2, 5);
    assert_eq!(
        step(&mut s),
        [(2, 5, true)],
        "it got the blocks of the paused one"
    );
    s.handle(SequenceId(1), Event::Resumed);
    assert_eq!(
        step(&mut s),
        [(2, 1, true)],
        "the resumed one waits for room"
    );
    s.handle(SequenceId(2), Event::Finished);
    assert_eq!(step(&mut s), [(1, 6, true)]);
}

#[test]
fn slots_bound_who_runs_and_the_order_is_that_of_arrival() {
    let mut s = scheduler(1, 16, 100);
    for id in 1..=3 {
        arrive(&mut s, id, 2);
    }
    for id in 1..=3 {
        assert_eq!(step(&mut s), [(id, 2, true)]);
        s.handle(SequenceId(id), Event::Finished);
    }
    assert_eq!(step(&mut s), []);
}

#[test]
fn a_passed_deadline_ends_a_sequence_wherever_it_is() {
    let mut s = scheduler(1, 16, 100);
    for id in [1, 2] {
        let event = Event::Arrived {
            tokens: vec![1],
            deadline: Some(Duration::from_secs(id)),
        };
        s.handle(SequenceId(id), event);
    }
    assert_eq!(schedule(&mut s, Duration::ZERO).1, [started(1)]);
    assert_eq!(s.next_deadline(), Some(Duration::from_secs(1)));
    let (_, effects) = schedule(&mut s, Duration::from_secs(2));
    assert_eq!(
        effects,
        [
            Effect::Expired(SequenceId(1)),
            Effect::Expired(SequenceId(2))
        ]
    );
    assert_eq!(s.pool().available(), 100);
}

#[test]
fn what_can_never_fit_is_told_at_once() {
    let mut s = scheduler(1, 16, 2);
    arrive(&mut s, 1, 9);
    arrive(&mut s, 2, 8);
    let (_, effects) = schedule(&mut s, Duration::ZERO);
    assert_eq!(effects, [Effect::Overlong(SequenceId(1)), started(2)]);
    // The ninth token is one too many: the last was computed, so no room is left for it.
    s.handle(SequenceId(2), Event::Sampled(1));
    assert_eq!(
        schedule(&mut s, Duration::ZERO).1,
        [Effect::Overlong(SequenceId(2))]
    );
    assert_eq!(s.pool().available(), 2);
}
