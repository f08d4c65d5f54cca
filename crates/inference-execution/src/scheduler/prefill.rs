//! How prefills share what decoding leaves of a step.

/// A sequence with more than one token to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefill {
    /// Its place among the running sequences.
    pub place: usize,
    /// Tokens that it has to compute.
    pub pending: u32,
    /// It has computed nothing yet.
    pub fresh: bool,
    /// Who computes the block that it needs next, as an index into the prefills: itself, or
    /// another one that it waits for.
    pub leader: usize,
    /// Tokens that it computes in this step.
    pub share: u32,
}

/// Shares `budget` tokens among `prefills`, which are in the order of their arrival.
/// `true` when long ones stood back, which they do not twice in a row.
///
/// - Whoever has least left comes first, the older of two alike: most wait least that way.
/// - Half of the budget is the oldest's before that, so that nobody waits forever.
/// - When new ones can be done within one step, those that cannot stand back: the step stays
///   short, and a short prompt waits for hardly more than the step that it came in.
/// - Who waits for a block lends its turn to the one who computes it.
pub(super) fn share_out(prefills: &mut [Prefill], budget: u32, stood_back: bool) -> bool {
    let long = |p: &Prefill| p.pending > budget;
    let stand_back =
        !stood_back && prefills.iter().any(|p| p.fresh && !long(p)) && prefills.iter().any(long);
    let mut left = budget;
    if !stand_back {
        left -= give(prefills, 0, budget.div_ceil(2));
    }
    let mut order: Vec<usize> = (0..prefills.len()).collect();
    order.sort_by_key(|index| prefills[*index].pending);
    for index in order {
        if left == 0 {
            break;
        }
        if stand_back && long(&prefills[index]) {
            continue;
        }
        left -= give(prefills, index, left);
    }
    stand_back
}

/// Gives the turn of a prefill, and at most `most` tokens, to itself or to its leader; how
/// many were taken.
fn give(prefills: &mut [Prefill], index: usize, most: u32) -> u32 {
    let Some(Prefill {
        pending, leader, ..
    }) = prefills.get(index)
    else {
        return 0;
    };
    let most = most.min(*pending);
    let Some(taker) = prefills.get_mut(*leader) else {
        return 0;
    };
    let taken = most.min(taker.pending - taker.share);
    taker.share += taken;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prefills by their pending tokens, nobody waiting for another.
    fn prefills(pending: &[(u32, bool)]) -> Vec<Prefill> {
        let prefill = |(index, (pending, fresh)): (usize, &(u32, bool))| Prefill {
            place: index,
            pending: *pending,
            fresh: *fresh,
            leader: index,
            share: 0,
        };
        pending.iter().enumerate().map(prefill).collect()
    }

    fn shares(prefills: &mut [Prefill], budget: u32, stood_back: bool) -> (Vec<u32>, bool) {
        let stand_back = share_out(prefills, budget, stood_back);
        (prefills.iter().map(|p| p.share).collect(), stand_back)
    }

    #[test]
    fn a_long_one_alone_has_all() {
        let mut alone = prefills(&[(1000, true)]);
        assert_eq!(shares(&mut alone, 100, false), (vec![100], false));
    }

    #[test]
    fn long_ones_stand_back_once_for_new_short_ones() {
        let of = [(1000, false), (20, true), (30, true)];
        assert_eq!(
            shares(&mut prefills(&of), 100, false),
            (vec![0, 20, 30], true)
        );
        assert_eq!(
            shares(&mut prefills(&of), 100, true),
            (vec![50, 20, 30], false)
        );
        // The rest of a long one is not new.
        let of = [(1000, false), (20, false)];
        assert_eq!(
            shares(&mut prefills(&of), 100, false),
            (vec![80, 20], false)
        );
    }

    #[test]
    fn equals_are_done_one_after_the_other() {
        let of = [(300, true), (300, true), (300, true)];
        assert_eq!(shares(&mut prefills(&of), 100, false).0, [100, 0, 0]);
    }

    #[test]
    fn a_turn_is_lent_to_who_computes_what_is_waited_for() {
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
            "no more is lent than the own turn"
        );
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_not_wasted(
            of in prop::collection::vec((2..300_u32, any::<bool>()), 1..20),
            leaders in prop::collection::vec(any::<bool>(), 20),
            budget in 1..100_u32,
        ) {
            let mut prefills = prefills(&of);
            // Everybody leads, or follows the first.
            for (prefill, leads) in prefills.iter_mut().zip(&leaders).skip(1) {
                if !leads {
                    prefill.leader = 0;
                }
            }
            let (shares, stand_back) = shares(&mut prefills, budget, false);
            let sum: u32 = shares.iter().sum();
            prop_assert!((1..=budget).contains(&sum), "{shares:?}");
            for (prefill, share) in prefills.iter().zip(&shares) {
                prop_assert!(*share <= prefill.pending);
                prop_assert!(*share == 0 || prefills[prefill.leader].place == prefill.place);
            }
            let followed = prefills.iter().skip(1).any(|p| p.leader == 0);
            if !stand_back && !followed {
                let wanted: u32 = prefills.iter().map(|p| p.pending).sum();
                prop_assert_eq!(sum, wanted.min(budget));
            }
            if !stand_back {
                let oldest = prefills[0].pending.min(budget.div_ceil(2));
                prop_assert!(shares[0] >= oldest);
            }
        }
    }
}
