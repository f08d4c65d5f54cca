use std::ops::Range;

/// A set of bytes: sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds the bytes of `range`; some may be in the set already.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < range.start);
        let last = self.0.partition_point(|r| r.start <= range.end);
        let merged = self.0[first..last]
            .iter()
            .fold(range, |all, r| all.start.min(r.start)..all.end.max(r.end));
        self.0.splice(first..last, [merged]);
    }

    /// Number of bytes in the set.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// End of the last range.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    /// Number of bytes from byte 0 to the first that is not in the set.
    pub(crate) fn prefix(&self) -> u64 {
        match self.0.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }

    /// First range within `0..size` that is not in the set.
    pub(crate) fn first_gap(&self, size: u64) -> Option<Range<u64>> {
        let start = self.prefix();
        let after = self.0.iter().find(|r| r.start > start);
        let end = after.map_or(size, |r| r.start.min(size));
        (start < end).then_some(start..end)
    }

    /// The ranges in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

impl FromIterator<Range<u64>> for Ranges {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_set_of_numbers(ranges in prop::collection::vec((0_u64..40, 0_u64..9), 0..20)) {
            let ranges = ranges.into_iter().map(|(start, length)| start..start + length);
            let set: Ranges = ranges.clone().collect();
            let numbers: BTreeSet<u64> = ranges.flatten().collect();
            prop_assert_eq!(set.iter().flatten().collect::<BTreeSet<_>>(), numbers.clone());
            prop_assert_eq!(set.count(), numbers.len() as u64);
            prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            let gap = set.first_gap(60);
            let first = (0..60).find(|n| !numbers.contains(n));
            prop_assert_eq!(gap.as_ref().map(|gap| gap.start), first);
            let gap = gap.unwrap();
            prop_assert!(gap.clone().all(|n| !numbers.contains(&n)));
            prop_assert!(gap.end == 60 || numbers.contains(&gap.end));
            prop_assert_eq!(set.prefix(), first.unwrap());
        }
    }
}
