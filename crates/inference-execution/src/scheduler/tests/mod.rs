mod driver;
mod limits;
mod properties;
mod sharing;

use super::*;

fn scheduler(slots: u32, token_budget: u32, blocks: u32) -> BatchScheduler {
    BatchScheduler::new(BatchConfig {
        slots,
        token_budget,
        blocks,
        block_tokens: 4,
        prefix_cache: true,
    })
}

fn arrive(scheduler: &mut BatchScheduler, id: u64, tokens: u32) {
    // No two sequences share a prefix.
    let tokens = (0..tokens).map(|i| i + 1000 * id as u32).collect();
    scheduler.handle(
        SequenceId(id),
        SequenceEvent::Arrived {
            tokens,
            deadline: None,
        },
    );
}

fn schedule(scheduler: &mut BatchScheduler, now: Instant) -> (Batch, Vec<BatchEffect>) {
    let (mut batch, mut effects) = (Batch::default(), Vec::new());
    scheduler.schedule(now, &mut batch, &mut effects);
    (batch, effects)
}

fn started(id: u64) -> BatchEffect {
    BatchEffect::Started {
        sequence: SequenceId(id),
        cached_tokens: 0,
    }
}

/// Schedules a step and samples a token wherever logits are wanted. Returns sequence, number of
/// tokens, and whether logits are wanted.
fn step(scheduler: &mut BatchScheduler) -> Vec<(u64, usize, bool)> {
    let (batch, _) = schedule(scheduler, Instant::now());
    scheduler.computed(&batch, Duration::ZERO);
    for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
        scheduler.handle(chunk.sequence, SequenceEvent::Sampled(7));
    }
    let summary = |c: &crate::Chunk| (c.sequence.0, c.tokens.len(), c.wants_logits);
    batch.chunks.iter().map(summary).collect()
}

/// Schedules a step of the given duration and samples. Returns sequence and number of tokens.
fn slow_step(scheduler: &mut BatchScheduler, took: Duration) -> Vec<(u64, usize)> {
    let (batch, _) = schedule(scheduler, Instant::now());
    scheduler.computed(&batch, took);
    for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
        scheduler.handle(chunk.sequence, SequenceEvent::Sampled(7));
    }
    let tokens = |c: &crate::Chunk| (c.sequence.0, c.tokens.len());
    batch.chunks.iter().map(tokens).collect()
}

#[test]
fn slow_machine_prefills_less_while_others_decode() {
    let second = Duration::from_secs(1);
    let mut s = scheduler(3, 200, 1000);
    arrive(&mut s, 1, 1000);
    // No other sequence decodes.
    assert_eq!(slow_step(&mut s, 2 * second), [(1, 200)]);
    assert_eq!(slow_step(&mut s, second * 2 / 5), [(1, 200)]);
    arrive(&mut s, 2, 1);
    assert_eq!(slow_step(&mut s, 9 * second), [(2, 1)]);
    // The pace is that of the last step with a prefill, 2 ms per token: 50 tokens in 100 ms.
    assert_eq!(slow_step(&mut s, 6 * second), [(1, 50), (2, 1)]);
    // So slow that the minimum number of tokens applies.
    assert_eq!(slow_step(&mut s, second / 100), [(1, 16), (2, 1)]);
    assert_eq!(slow_step(&mut s, second / 100), [(1, 170), (2, 1)]);
    s.handle(SequenceId(1), SequenceEvent::Finished);
    assert_eq!(slow_step(&mut s, 9 * second), [(2, 1)]);
    arrive(&mut s, 3, 50);
    assert_eq!(slow_step(&mut s, second), [(2, 1), (3, 50)]);
}

#[test]
fn long_prompt_does_not_stall_decoding_sequences() {
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
fn youngest_sequence_is_preempted_and_recomputed() {
    let mut s = scheduler(2, 16, 3);
    s.config.prefix_cache = false;
    arrive(&mut s, 1, 4);
    arrive(&mut s, 2, 5);
    arrive(&mut s, 3, 9);
    assert_eq!(step(&mut s), [(1, 4, true), (2, 5, true)]);
    // Sequence 1 needs a second block, and none is free.
    assert_eq!(step(&mut s), [(1, 1, true)]);
    assert_eq!((s.running.len(), s.waiting.len()), (1, 2));
    s.handle(SequenceId(1), SequenceEvent::Finished);
    // Sequence 2 kept its sampled token, so it has six. It precedes 3, which arrived later.
    assert_eq!(step(&mut s), [(2, 6, true)]);
}

#[test]
fn paused_sequence_is_not_computed_and_does_not_block_others() {
    let mut s = scheduler(2, 16, 2);
    arrive(&mut s, 1, 5);
    assert_eq!(step(&mut s), [(1, 5, true)]);
    s.handle(SequenceId(1), SequenceEvent::Paused);
    assert_eq!(step(&mut s), []);
    arrive(&mut s, 2, 5);
    assert_eq!(
        step(&mut s),
        [(2, 5, true)],
        "the paused sequence was preempted"
    );
    s.handle(SequenceId(1), SequenceEvent::Resumed);
    assert_eq!(
        step(&mut s),
        [(2, 1, true)],
        "the resumed sequence waits for blocks"
    );
    s.handle(SequenceId(2), SequenceEvent::Finished);
    assert_eq!(step(&mut s), [(1, 6, true)]);
}

#[test]
fn sequences_get_slots_in_order_of_arrival() {
    let mut s = scheduler(1, 16, 100);
    for id in 1..=3 {
        arrive(&mut s, id, 2);
    }
    for id in 1..=3 {
        assert_eq!(step(&mut s), [(id, 2, true)]);
        s.handle(SequenceId(id), SequenceEvent::Finished);
    }
    assert_eq!(step(&mut s), []);
}

#[test]
fn deadlines_apply_to_running_and_waiting_sequences() {
    let mut s = scheduler(1, 16, 100);
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    for id in [1, 2] {
        let event = SequenceEvent::Arrived {
            tokens: vec![1],
            deadline: Some(Deadline::at(after(id))),
        };
        s.handle(SequenceId(id), event);
    }
    assert_eq!(schedule(&mut s, start).1, [started(1)]);
    assert_eq!(s.next_deadline(), Some(Deadline::at(after(1))));
    let (_, effects) = schedule(&mut s, after(2));
    assert_eq!(
        effects,
        [
            BatchEffect::Expired(SequenceId(1)),
            BatchEffect::Expired(SequenceId(2))
        ]
    );
    assert_eq!(s.pool.available(), 100);
}

#[test]
fn sequence_that_exceeds_the_cache_is_removed_at_once() {
    let mut s = scheduler(1, 16, 2);
    arrive(&mut s, 1, 9);
    arrive(&mut s, 2, 8);
    let (_, effects) = schedule(&mut s, Instant::now());
    assert_eq!(effects, [BatchEffect::Overlong(SequenceId(1)), started(2)]);
    // The sampled token is the ninth, and the cache has room for eight.
    s.handle(SequenceId(2), SequenceEvent::Sampled(1));
    assert_eq!(
        schedule(&mut s, Instant::now()).1,
        [BatchEffect::Overlong(SequenceId(2))]
    );
    assert_eq!(s.pool.available(), 2);
}
