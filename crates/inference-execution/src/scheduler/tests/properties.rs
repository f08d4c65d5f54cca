use proptest::prelude::*;

use super::{driver::Driver, *};

#[derive(Debug, Clone)]
enum Action {
    /// A prompt that begins as others do, and the length of the answer.
    Arrive {
        family: u32,
        shared: usize,
        own: usize,
        answer: u32,
    },
    Pause(usize),
    Resume(usize),
    Cancel(usize),
    Fail,
    Step,
}

fn action() -> impl Strategy<Value = Action> {
    let arrive =
        (0..2_u32, 0..16_usize, 0..5_usize, 1..10_u32).prop_map(|(family, shared, own, answer)| {
            Action::Arrive {
                family,
                shared,
                own,
                answer,
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
            answer,
        } => {
            let shared = (0..shared as u32).map(|i| 10 * family + i % 3);
            let own = (0..own as u32).map(|i| i % 2);
            let tokens: Vec<u32> = std::iter::once(family).chain(shared).chain(own).collect();
            driver.arrive(tokens, answer);
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
    fn any_workload_keeps_the_rules_and_ends(
        slots in 1..6_u32,
        token_budget in 1..14_u32,
        // The longest sequence has 29 tokens: 8 blocks of 4.
        blocks in 8..24_u32,
        prefix_cache: bool,
        actions in prop::collection::vec(action(), 0..150),
    ) {
        let mut driver = Driver::new(SchedulerConfig {
            slots, token_budget, blocks, prefix_cache, block_tokens: driver::BLOCK_TOKENS,
        });
        for action in &actions {
            act(&mut driver, action);
        }
        driver.run_out();
        prop_assert!(prefix_cache || driver.started.iter().all(|(_, cached)| *cached == 0));
    }

    /// Nobody is overtaken into the slots, and with nothing in common nobody waits for
    /// another.
    #[test]
    fn without_pauses_all_run_in_the_order_of_arrival(
        slots in 1..4_u32,
        blocks in 8..12_u32,
        arrivals in prop::collection::vec((1..20_u32, 1..12_u32), 1..20),
    ) {
        let mut driver = Driver::new(SchedulerConfig {
            slots, token_budget: 8, blocks, prefix_cache: true, block_tokens: driver::BLOCK_TOKENS,
        });
        let mut entered: Vec<SequenceId> = Vec::new();
        for (number, (prompt, answer)) in (0..).zip(arrivals) {
            driver.arrive((0..prompt).map(|i| i + 100 * number).collect(), answer);
            entered.extend(step_and_see_new(&mut driver, &entered));
        }
        while !driver.alive.is_empty() {
            entered.extend(step_and_see_new(&mut driver, &entered));
        }
        prop_assert!(entered.is_sorted(), "{entered:?}");
    }

    /// The more is shared the less is computed: of a prompt in common, each token once.
    #[test]
    fn what_is_in_common_is_computed_once(
        shared in 1..40_usize,
        count in 2..8_u32,
        token_budget in 8..40_u32,
        apart in 0..3_usize,
    ) {
        let mut driver = Driver::new(SchedulerConfig {
            slots: 8, token_budget, blocks: 200, prefix_cache: true, block_tokens: 4,
        });
        let common: Vec<u32> = (0..shared as u32).collect();
        for number in 0..count {
            let mut tokens = common.clone();
            tokens.extend([1000 + number; 6]);
            driver.arrive(tokens, 1);
            for _ in 0..apart {
                driver.step();
            }
        }
        driver.run_out();
        let least = shared + 6 * count as usize;
        // Where the common part ends inside a block, that block may be needed before there
        // is one to copy.
        let most = least + (shared % 4) * (count as usize - 1);
        prop_assert!((least..=most).contains(&driver.computed), "{} for {least}", driver.computed);
        let cached: u32 = driver.started.iter().map(|(_, cached)| cached).sum();
        let all = (shared + 6) * count as usize;
        prop_assert_eq!(driver.computed + cached as usize, all);
    }

    /// A short prompt among decoding ones and a long prefill has its first token after the
    /// step in which it comes and one that is as long as if the long one were not there.
    #[test]
    fn a_short_prompt_waits_for_no_long_one(
        short in 2..60_u32,
        decoding in 0..9_u32,
        steps_before in 1..10_usize,
    ) {
        let mut driver = Driver::new(SchedulerConfig {
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
        // The long one goes on at once.
        let step = driver.step();
        prop_assert!(step.iter().any(|(id, tokens)| *id == long && *tokens > 200));
    }
}

/// Does a step; which sequences are in their first one.
fn step_and_see_new(driver: &mut Driver, before: &[SequenceId]) -> Vec<SequenceId> {
    let waiting: Vec<SequenceId> = driver.scheduler.waiting.iter().map(|s| s.id).collect();
    driver.step();
    let left = |id: &SequenceId| driver.scheduler.waiting.iter().all(|s| s.id != *id);
    let new = waiting
        .into_iter()
        .filter(|id| left(id) && !before.contains(id));
    new.collect()
}

/// While short prompts keep coming, a long one still gets a good part of the budget.
#[test]
fn a_stream_of_short_prompts_does_not_starve_a_long_one() {
    let mut driver = Driver::new(SchedulerConfig {
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
            "half of the budget every second step"
        );
    }
}
