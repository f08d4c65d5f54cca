use proptest::prelude::*;

use super::{driver::Driver, *};

#[derive(Debug, Clone)]
enum Action {
    /// A prompt that shares a prefix with others, and the length of the output.
    Arrive {
        family: u32,
        shared: usize,
        own: usize,
        output: u32,
    },
    Pause(usize),
    Resume(usize),
    Cancel(usize),
    Fail,
    Step,
}

fn action() -> impl Strategy<Value = Action> {
    let arrive =
        (0..2_u32, 0..16_usize, 0..5_usize, 1..10_u32).prop_map(|(family, shared, own, output)| {
            Action::Arrive {
                family,
                shared,
                own,
                output,
            }
        });
    prop_oneof![
        4 => arrive,
        1 => any::<usize>().prop_map(Action::Pause),
        1 => any::<usize>().prop_map(Action::Resume),
        1 => any::<usize>().prop_map(Action::Cancel),
        1 => Just(Action::Fail),
        10 => Just(Action::Step),
    ]
}

fn act(driver: &mut Driver, action: &Action) {
    let pick = |driver: &Driver, index: usize| {
        let count = driver.alive.len().max(1);
        driver.alive.keys().nth(index % count).copied()
    };
    match *action {
        Action::Arrive {
            family,
            shared,
            own,
            output,
        } => {
            let shared = (0..shared as u32).map(|i| 10 * family + i % 3);
            let own = (0..own as u32).map(|i| i % 2);
            let tokens: Vec<u32> = std::iter::once(family).chain(shared).chain(own).collect();
            driver.arrive(tokens, output);
        }
        Action::Pause(i) | Action::Resume(i) => {
            if let Some(id) = pick(driver, i) {
                driver.pause(id, matches!(action, Action::Pause(_)));
            }
        }
        Action::Cancel(i) => {
            if let Some(id) = pick(driver, i) {
                driver.finish(id);
            }
        }
        Action::Fail => driver.failing_step(),
        Action::Step => {
            driver.step();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_workload_upholds_the_invariants_and_finishes(
        slots in 1..6_u32,
        token_budget in 1..14_u32,
        // The longest sequence has 29 tokens: 8 blocks of 4.
        blocks in 8..24_u32,
        prefix_cache: bool,
        actions in prop::collection::vec(action(), 0..150),
    ) {
        let mut driver = Driver::new(BatchConfig {
            slots, token_budget, blocks, prefix_cache, block_tokens: driver::BLOCK_TOKENS,
        });
        for action in &actions {
            act(&mut driver, action);
        }
        driver.run_out();
        prop_assert!(prefix_cache || driver.started.iter().all(|(_, cached)| *cached == 0));
    }

    /// No sequence is overtaken, as no sequence is paused and no two share a prefix.
    #[test]
    fn sequences_without_pauses_start_in_order_of_arrival(
        slots in 1..4_u32,
        blocks in 8..12_u32,
        arrivals in prop::collection::vec((1..20_u32, 1..12_u32), 1..20),
    ) {
        let mut driver = Driver::new(BatchConfig {
            slots, token_budget: 8, blocks, prefix_cache: true, block_tokens: driver::BLOCK_TOKENS,
        });
        let mut entered: Vec<SequenceId> = Vec::new();
        for (number, (prompt, output)) in (0..).zip(arrivals) {
            driver.arrive((0..prompt).map(|i| i + 100 * number).collect(), output);
            entered.extend(step_and_list_new(&mut driver, &entered));
        }
        while !driver.alive.is_empty() {
            entered.extend(step_and_list_new(&mut driver, &entered));
        }
        prop_assert!(entered.is_sorted(), "{entered:?}");
    }

    /// Every token of a shared prefix is computed once.
    #[test]
    fn shared_prefix_is_computed_once(
        shared in 1..40_usize,
        count in 2..8_u32,
        token_budget in 8..40_u32,
        steps_between in 0..3_usize,
    ) {
        let mut driver = Driver::new(BatchConfig {
            slots: 8, token_budget, blocks: 200, prefix_cache: true, block_tokens: 4,
        });
        let common: Vec<u32> = (0..shared as u32).collect();
        for number in 0..count {
            let mut tokens = common.clone();
            tokens.extend([1000 + number; 6]);
            driver.arrive(tokens, 1);
            for _ in 0..steps_between {
                driver.step();
            }
        }
        driver.run_out();
        let least = shared + 6 * count as usize;
        // If the prefix ends inside a block, that block may be computed several times, because
        // there is none to copy yet.
        let most = least + (shared % 4) * (count as usize - 1);
        prop_assert!((least..=most).contains(&driver.computed), "{} for {least}", driver.computed);
        let cached: u32 = driver.started.iter().map(|(_, cached)| cached).sum();
        let all = (shared + 6) * count as usize;
        prop_assert_eq!(driver.computed + cached as usize, all);
    }

    /// A short prompt that arrives next to decoding sequences and a long prefill is computed in
    /// the next step, without any tokens of the long prefill.
    #[test]
    fn short_prompt_does_not_wait_for_a_long_one(
        short in 2..60_u32,
        decoding in 0..9_u32,
        steps_before in 1..10_usize,
    ) {
        let mut driver = Driver::new(BatchConfig {
            slots: 16, token_budget: 256, blocks: 2000, prefix_cache: true, block_tokens: 4,
        });
        for number in 0..decoding {
            driver.arrive(vec![number + 50_000; 3], 1000);
        }
        driver.step();
        let long = driver.arrive((0..4000).collect(), 1);
        for _ in 0..steps_before {
            prop_assert!(driver.step().contains(&(long, 256 - decoding as usize)));
        }
        let new = driver.arrive(vec![60_000; short as usize], 2);
        let step = driver.step();
        prop_assert!(step.contains(&(new, short as usize)));
        prop_assert_eq!(step.len() as u32, decoding + 1, "{:?}", step);
        // The long prefill continues in the step after that.
        let step = driver.step();
        prop_assert!(step.iter().any(|(id, tokens)| *id == long && *tokens > 200));
    }
}

/// Runs a step. Returns the sequences that left the queue for the first time.
fn step_and_list_new(driver: &mut Driver, before: &[SequenceId]) -> Vec<SequenceId> {
    let waiting: Vec<SequenceId> = driver.scheduler.waiting.iter().map(|s| s.id).collect();
    driver.step();
    let left = |id: &SequenceId| driver.scheduler.waiting.iter().all(|s| s.id != *id);
    let new = waiting
        .into_iter()
        .filter(|id| left(id) && !before.contains(id));
    new.collect()
}

/// A long prompt gets a good part of the budget while short ones keep arriving.
#[test]
fn short_prompts_do_not_starve_a_long_one() {
    let mut driver = Driver::new(BatchConfig {
        slots: 8,
        token_budget: 64,
        blocks: 1000,
        prefix_cache: true,
        block_tokens: 4,
    });
    let long = driver.arrive((0..2000).collect(), 1);
    let mut steps = 0;
    while driver.alive.contains_key(&long) {
        driver.arrive((0..40).map(|i| 10_000 + steps * 40 + i).collect(), 1);
        driver.step();
        steps += 1;
        assert!(
            steps <= 2 * 2000 / 32 + 1,
            "the long prompt gets half of the budget in every second step"
        );
    }
}
