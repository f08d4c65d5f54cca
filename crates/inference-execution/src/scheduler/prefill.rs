//! Distributes the token budget that decoding leaves among the prefills.

/// A running sequence with more than one token to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefill {
    /// Index among the running sequences.
    pub running_index: usize,
    /// Number of tokens to compute.
    pub pending: u32,
    /// The sequence has not computed anything yet.
    pub fresh: bool,
    /// Index of the prefill that computes the next block of this one: itself, or another one
    /// that this one waits for.
    pub leader: usize,
    /// Number of tokens to compute in this step.
    pub share: u32,
}

/// Distributes `budget` tokens among `prefills`, which are in order of arrival. Returns whether
/// long prefills were deferred.
///
/// - The prefill with the fewest pending tokens comes first, the oldest among equals. This
///   minimizes the average waiting time.
/// - The oldest prefill gets half of the budget before that, so that it does not starve.
/// - If new prefills fit into one step, those that do not fit are deferred, but not in two
///   consecutive steps. The step stays short, and a short prompt waits for little more than the
///   step during which it arrives.
/// - A prefill that waits for a block passes its turn to the one that computes the block.
pub(super) fn distribute(prefills: &mut [Prefill], budget: u32, deferred_before: bool) -> bool {
    let long = |p: &Prefill| p.pending > budget;
    let short_arrived = prefills.iter().any(|p| p.fresh && !long(p));
    let defer_long = !deferred_before && short_arrived && prefills.iter().any(long);
    let mut left = budget;
    if !defer_long {
        left -= grant(prefills, 0, budget.div_ceil(2));
    }
    let mut order: Vec<usize> = (0..prefills.len()).collect();
    order.sort_by_key(|index| prefills[*index].pending);
    for index in order {
        if left == 0 {
            break;
        }
        if defer_long && long(&prefills[index]) {
            continue;
        }
        left -= grant(prefills, index, left);
    }
    defer_long
}

/// Grants at most `max_tokens` tokens to the leader of a prefill, and no more than the prefill
/// itself needs. Returns the number of tokens granted.
fn grant(prefills: &mut [Prefill], index: usize, max_tokens: u32) -> u32 {
    let Some(Prefill {
        pending, leader, ..
    }) = prefills.get(index)
    else {
        return 0;
    };
    let max_tokens = max_tokens.min(*pending);
    let Some(leader) = prefills.get_mut(*leader) else {
        return 0;
    };
    let granted = max_tokens.min(leader.pending - leader.share);
    leader.share += granted;
    granted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prefills with these pending tokens, none of which waits for another.
    fn prefills(pending: &[(u32, bool)]) -> Vec<Prefill> {
        let prefill = |(index, (pending, fresh)): (usize, &(u32, bool))| Prefill {
            running_index: index,
            pending: *pending,
            fresh: *fresh,
            leader: index,
            share: 0,
        };
        pending.iter().enumerate().map(prefill).collect()
    }

    fn shares(prefills: &mut [Prefill], budget: u32, deferred_before: bool) -> (Vec<u32>, bool) {
        let deferred = distribute(prefills, budget, deferred_before);
        (prefills.iter().map(|p| p.share).collect(), deferred)
    }

    #[test]
    fn single_prefill_gets_the_whole_budget() {
        let mut alone = prefills(&[(1000, true)]);
        assert_eq!(shares(&mut alone, 100, false), (vec![100], false));
    }

    #[test]
    fn long_prefills_are_deferred_once_for_new_short_ones() {
        let of = [(1000, false), (20, true), (30, true)];
        assert_eq!(
            shares(&mut prefills(&of), 100, false),
            (vec![0, 20, 30], true)
        );
        assert_eq!(
            shares(&mut prefills(&of), 100, true),
            (vec![50, 20, 30], false)
        );
        // A short prefill that has already started defers nothing.
        let of = [(1000, false), (20, false)];
        assert_eq!(
            shares(&mut prefills(&of), 100, false),
            (vec![80, 20], false)
        );
    }

    #[test]
    fn a_prefill_that_fills_the_step_is_a_short_one() {
        let of = [(1000, false), (100, true)];
        assert_eq!(shares(&mut prefills(&of), 100, false), (vec![0, 100], true));
        assert_eq!(shares(&mut prefills(&of), 99, false), (vec![50, 49], false));
    }

    #[test]
    fn equal_prefills_are_computed_one_after_the_other() {
        let of = [(300, true), (300, true), (300, true)];
        assert_eq!(shares(&mut prefills(&of), 100, false).0, [100, 0, 0]);
    }

    #[test]
    fn waiting_prefill_passes_its_turn_to_its_leader() {
        let mut of = prefills(&[(1000, false), (30, false), (20, false)]);
        of[1].leader = 0;
        of[2].leader = 0;
        assert_eq!(shares(&mut of, 100, true).0, [100, 0, 0]);
        let mut of = prefills(&[(1000, false), (500, false), (20, false)]);
        of[2].leader = 1;
        assert_eq!(shares(&mut of, 100, false).0, [50, 50, 0]);
        let mut of = prefills(&[(30, true), (1000, false)]);
        of[0].leader = 1;
        assert_eq!(
            shares(&mut of, 100, false),
            (vec![0, 30], true),
            "the leader gets no more than the waiting prefill needs"
        );
    }

    proptest! {
        #[test]
        fn budget_is_neither_exceeded_nor_wasted(
            of in prop::collection::vec((2..300_u32, any::<bool>()), 1..20),
            leaders in prop::collection::vec(any::<bool>(), 20),
            budget in 1..100_u32,
        ) {
            let mut prefills = prefills(&of);
            // Each prefill leads itself or follows the first one.
            for (prefill, leads) in prefills.iter_mut().zip(&leaders).skip(1) {
                if !leads {
                    prefill.leader = 0;
                }
            }
            let (shares, deferred) = shares(&mut prefills, budget, false);
            let sum: u32 = shares.iter().sum();
            prop_assert!((1..=budget).contains(&sum), "{shares:?}");
            for (prefill, share) in prefills.iter().zip(&shares) {
                prop_assert!(*share <= prefill.pending);
                prop_assert!(*share == 0 || prefills[prefill.leader].running_index == prefill.running_index);
            }
            let followed = prefills.iter().skip(1).any(|p| p.leader == 0);
            if !deferred && !followed {
                let pending: u32 = prefills.iter().map(|p| p.pending).sum();
                prop_assert_eq!(sum, pending.min(budget));
            }
            if !deferred {
                let oldest = prefills[0].pending.min(budget.div_ceil(2));
                prop_assert!(shares[0] >= oldest);
            }
        }
    }
}
