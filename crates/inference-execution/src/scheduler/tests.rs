use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::BlockId;

fn scheduler(slots: u32, token_budget: u32, blocks: u32) -> Scheduler {
    Scheduler::new(SchedulerConfig {
        slots,
        token_budget,
        blocks,
        block_tokens: 4,
    })
}

fn arrive(scheduler: &mut Scheduler, id: u64, tokens: u32) {
    let tokens = (0..tokens).collect();
    scheduler.handle(
        SequenceId(id),
        Event::Arrived {
            tokens,
            deadline: None,
        },
    );
}

/// Schedules a step and samples for all that want it: (sequence, tokens, logits wanted).
fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize, bool)> {
    let (batch, _) = scheduler.schedule(Duration::ZERO);
    for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
        scheduler.handle(chunk.sequence, Event::Sampled(7));
    }
    let summary = |c: &crate::Chunk| (c.sequence.0, c.tokens.len(), c.wants_logits);
    batch.chunks.iter().map(summary).collect()
}

#[test]
fn a_long_prompt_does_not_stall_those_who_decode() {
    let mut s = scheduler(3, 5, 100);
    arrive(&mut s, 1, 2);
    assert_eq!(step(&mut s), [(1, 2, true)]);
    arrive(&mut s, 2, 9);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 4, false)]);
    arrive(&mut s, 3, 2);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 4, false)]);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 1, true), (3, 2, true)]);
    assert_eq!(step(&mut s), [(1, 1, true), (2, 1, true), (3, 1, true)]);
}

#[test]
fn the_youngest_gives_way_and_computes_its_tokens_again() {
    let mut s = scheduler(2, 16, 3);
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
    assert_eq!(
        s.schedule(Duration::ZERO).1,
        [Effect::Started(SequenceId(1))]
    );
    assert_eq!(s.next_deadline(), Some(Duration::from_secs(1)));
    let (_, effects) = s.schedule(Duration::from_secs(2));
    assert_eq!(
        effects,
        [
            Effect::Expired(SequenceId(1)),
            Effect::Expired(SequenceId(2))
        ]
    );
    assert_eq!(s.pool().free(), 100);
}

#[test]
fn what_can_never_fit_is_told_at_once() {
    let mut s = scheduler(1, 16, 2);
    arrive(&mut s, 1, 9);
    arrive(&mut s, 2, 8);
    let (_, effects) = s.schedule(Duration::ZERO);
    assert_eq!(
        effects,
        [
            Effect::Overlong(SequenceId(1)),
            Effect::Started(SequenceId(2))
        ]
    );
    // The ninth token is one too many: the last was computed, so no room is left for it.
    s.handle(SequenceId(2), Event::Sampled(1));
    s.schedule(Duration::ZERO);
    assert_eq!(
        s.schedule(Duration::ZERO).1,
        [Effect::Overlong(SequenceId(2))]
    );
    assert_eq!(s.pool().free(), 2);
}

#[derive(Debug, Clone)]
enum Action {
    Arrive { prompt: u32, answer: u32 },
    Pause(usize),
    Resume(usize),
    Cancel(usize),
    Step,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (1..20_u32, 1..12_u32).prop_map(|(prompt, answer)| Action::Arrive { prompt, answer }),
        1 => any::<usize>().prop_map(Action::Pause),
        1 => any::<usize>().prop_map(Action::Resume),
        1 => any::<usize>().prop_map(Action::Cancel),
        6 => Just(Action::Step),
    ]
}

/// What the tests know of a sequence, apart from the scheduler.
struct Expected {
    tokens: Vec<u32>,
    left: u32,
    paused: bool,
}

/// Drives a scheduler and checks after every step what must always hold.
struct Driver {
    scheduler: Scheduler,
    alive: BTreeMap<SequenceId, Expected>,
    /// Contents of the blocks, as an engine would have written them.
    cache: BTreeMap<(BlockId, u32), u32>,
    started: Vec<SequenceId>,
    next: u64,
    budget: usize,
}

impl Driver {
    fn pick(&self, index: usize) -> Option<SequenceId> {
        let count = self.alive.len().max(1);
        self.alive.keys().nth(index % count).copied()
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Arrive { prompt, answer } => {
                let id = SequenceId(self.next);
                self.next += 1;
                let tokens: Vec<u32> = (0..prompt).map(|i| i + 100 * id.0 as u32).collect();
                let arrived = Event::Arrived {
                    tokens: tokens.clone(),
                    deadline: None,
                };
                self.scheduler.handle(id, arrived);
                self.alive.insert(
                    id,
                    Expected {
                        tokens,
                        left: answer,
                        paused: false,
                    },
                );
            }
            Action::Pause(i) | Action::Resume(i) => {
                let paused = matches!(action, Action::Pause(_));
                if let Some(id) = self.pick(i) {
                    self.scheduler.handle(
                        id,
                        if paused {
                            Event::Paused
                        } else {
                            Event::Resumed
                        },
                    );
                    self.alive.get_mut(&id).unwrap().paused = paused;
                }
            }
            Action::Cancel(i) => {
                if let Some(id) = self.pick(i) {
                    self.finish(id);
                }
            }
            Action::Step => {
                self.step();
            }
        }
    }

    fn finish(&mut self, id: SequenceId) {
        self.scheduler.handle(id, Event::Finished);
        self.alive.remove(&id);
    }

    /// One step; how many tokens it computed.
    fn step(&mut self) -> usize {
        let (batch, effects) = self.scheduler.schedule(Duration::ZERO);
        for effect in effects {
            match effect {
                Effect::Started(id) => self.started.push(id),
                other => panic!("nothing here is overlong or has a deadline: {other:?}"),
            }
        }
        let computed: usize = batch.chunks.iter().map(|c| c.tokens.len()).sum();
        assert!(computed <= self.budget, "{computed} tokens in one step");

        let mut owners = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for chunk in &batch.chunks {
            let expected = &self.alive[&chunk.sequence];
            assert!(seen.insert(chunk.sequence), "two chunks of one sequence");
            assert!(!expected.paused, "a paused sequence was computed");
            assert!(!chunk.tokens.is_empty());
            for block in &chunk.blocks {
                let owner = owners.insert(*block, chunk.sequence);
                assert_eq!(owner, None, "{block:?} has two owners");
            }
            for (i, token) in chunk.tokens.iter().enumerate() {
                let position = chunk.position + i as u32;
                assert_eq!(*token, expected.tokens[position as usize]);
                self.cache
                    .insert((chunk.blocks[position as usize / 4], position % 4), *token);
            }
            let end = chunk.position as usize + chunk.tokens.len();
            assert_eq!(chunk.wants_logits, end == expected.tokens.len());
            // All that attention would read is what this sequence wrote.
            for position in 0..end {
                let cached = self.cache[&(chunk.blocks[position / 4], position as u32 % 4)];
                assert_eq!(cached, expected.tokens[position], "position {position}");
            }
        }
        for chunk in batch.chunks.iter().filter(|c| c.wants_logits) {
            let id = chunk.sequence;
            let expected = self.alive.get_mut(&id).unwrap();
            expected.left -= 1;
            let token = 7000 + expected.left;
            expected.tokens.push(token);
            if expected.left == 0 {
                self.finish(id);
            } else {
                self.scheduler.handle(id, Event::Sampled(token));
            }
        }
        computed
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_workload_keeps_the_rules_and_ends(
        slots in 1..5_u32,
        budget in 1..12_u32,
        // The longest sequence has 31 tokens: 8 blocks of 4.
        blocks in 8..20_u32,
        actions in prop::collection::vec(action(), 0..150),
    ) {
        let mut driver = Driver {
            scheduler: scheduler(slots, budget, blocks),
            alive: BTreeMap::new(),
            cache: BTreeMap::new(),
            started: Vec::new(),
            next: 0,
            budget: budget.max(slots) as usize,
        };
        for action in &actions {
            driver.act(action);
            prop_assert!(driver.scheduler.running() <= slots as usize);
        }
        // With all readers reading, everything ends, in a bounded number of steps.
        let ids: Vec<SequenceId> = driver.alive.keys().copied().collect();
        for id in ids {
            driver.scheduler.handle(id, Event::Resumed);
            driver.alive.get_mut(&id).unwrap().paused = false;
        }
        let mut steps = 0;
        while !driver.alive.is_empty() {
            prop_assert!(driver.step() > 0, "no progress with {} alive", driver.alive.len());
            steps += 1;
            prop_assert!(steps < 20_000, "no end");
        }
        prop_assert_eq!(driver.scheduler.pool().free(), blocks, "every block came back");
        prop_assert_eq!(driver.scheduler.running() + driver.scheduler.waiting(), 0);
    }

    #[test]
    fn without_pauses_all_start_in_the_order_of_arrival(
        slots in 1..4_u32,
        blocks in 8..12_u32,
        arrivals in prop::collection::vec((1..20_u32, 1..12_u32), 1..20),
    ) {
        let mut driver = Driver {
            scheduler: scheduler(slots, 8, blocks),
            alive: BTreeMap::new(),
            cache: BTreeMap::new(),
            started: Vec::new(),
            next: 0,
            budget: 8,
        };
        for (prompt, answer) in arrivals {
            driver.act(&Action::Arrive { prompt, answer });
            driver.step();
        }
        while !driver.alive.is_empty() {
            driver.step();
        }
        prop_assert_eq!(driver.started.len() as u64, driver.next);
        prop_assert!(driver.started.is_sorted(), "{:?}", driver.started);
    }
}
