/// Number of candidates that are remembered.
const LENGTH: usize = 8;

/// The best of many candidates, without keeping all of them.
#[derive(Debug, Clone)]
pub(crate) struct Shortlist<T> {
    /// The best first.
    best: Vec<T>,
    seen: usize,
}

impl<T> Shortlist<T> {
    /// Ranks the candidates, the lowest rank first, and keeps the best ones.
    pub(crate) fn of<C: Copy, R: Ord>(
        candidates: impl Iterator<Item = C>,
        rank: impl Fn(&C) -> R,
        keep: impl Fn(C) -> T,
    ) -> Self {
        let mut best: Vec<(R, C)> = Vec::new();
        let mut seen = 0;
        for candidate in candidates {
            seen += 1;
            let rank = rank(&candidate);
            let position = best.partition_point(|(other, _)| *other <= rank);
            if position < LENGTH {
                if best.len() == LENGTH {
                    best.pop();
                }
                best.insert(position, (rank, candidate));
            }
        }
        let best = best.into_iter().map(|(_, candidate)| keep(candidate));
        Self {
            best: best.collect(),
            seen,
        }
    }

    /// Keeps the first of candidates that are in order.
    pub(crate) fn of_sorted(candidates: Vec<T>) -> Self {
        let (seen, mut best) = (candidates.len(), candidates);
        best.truncate(LENGTH);
        Self { best, seen }
    }

    pub(crate) fn best(&self) -> Option<&T> {
        self.best.first()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.best.iter()
    }

    /// Number of candidates that are not in the list.
    pub(crate) fn more(&self) -> usize {
        self.seen - self.best.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_kept_in_order(numbers in prop::collection::vec(0..50u32, 0..40)) {
            let list = Shortlist::of(numbers.iter().copied(), |n| *n, |n| n);
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            sorted.truncate(LENGTH);
            prop_assert_eq!(list.more(), numbers.len() - sorted.len());
            prop_assert_eq!(list.iter().copied().collect::<Vec<_>>(), sorted);
        }
    }
}
