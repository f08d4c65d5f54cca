//! What stopping workers for another model really freed. The memory of a worker is an estimate;
//! where it proved too high, the same workers would be stopped again and again without use.

use std::{collections::BTreeMap, time::Duration};

use input_validation::{ModelRef, NodeName};

/// Other programs may have taken the memory, so a measured value is used for a limited time.
const MEASURED_FOR: Duration = Duration::from_secs(600);

/// Workers that were stopped for a model because memory was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// The memory that was missing before, in bytes.
    pub(crate) missing_bytes: u64,
    /// The models of the stopped workers, with the memory in bytes that each was expected to free.
    pub(crate) expected: Vec<(ModelRef, u64)>,
}

impl Eviction {
    /// Returns how much memory each of the models freed, given what is missing after it: as a share
    /// in proportion to the expected values.
    fn freed(&self, still_missing: u64) -> impl Iterator<Item = (&ModelRef, u64)> {
        let freed = u128::from(self.missing_bytes.saturating_sub(still_missing));
        let bytes = self.expected.iter().map(|(_, bytes)| u128::from(*bytes));
        let sum = bytes.sum::<u128>().max(1);
        self.expected.iter().map(move |(model, bytes)| {
            let share = freed * u128::from(*bytes) / sum;
            (model, u64::try_from(share).unwrap_or(u64::MAX))
        })
    }
}

/// How much memory stopped workers freed, for evictions that freed less than expected.
#[derive(Debug, Clone, Default)]
pub(crate) struct FreedMemory {
    measured: BTreeMap<(NodeName, ModelRef), (u64, Duration)>,
}

impl FreedMemory {
    /// Records that memory is missing after the eviction.
    pub(crate) fn record(
        &mut self,
        node: &NodeName,
        eviction: &Eviction,
        still_missing: u64,
        now: Duration,
    ) {
        self.measured
            .retain(|_, (_, since)| now.saturating_sub(*since) < MEASURED_FOR);
        for (model, bytes) in eviction.freed(still_missing) {
            let key = (node.clone(), model.clone());
            self.measured.insert(key, (bytes, now));
        }
    }

    /// Returns the expected value, or what the model freed on the node if that is less.
    pub(crate) fn at_most(
        &self,
        node: &NodeName,
        model: &ModelRef,
        expected: u64,
        now: Duration,
    ) -> u64 {
        let measured = self.measured.get(&(node.clone(), model.clone()));
        match measured {
            Some((bytes, since)) if now.saturating_sub(*since) < MEASURED_FOR => {
                expected.min(*bytes)
            }
            _ => expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_freed_their_shares_of_what_became_free_for_ten_minutes() {
        let [a, b]: [ModelRef; 2] = ["mock:a=1", "mock:b=1"].map(|model| model.parse().unwrap());
        let node: NodeName = "attic".parse().unwrap();
        let eviction = Eviction {
            missing_bytes: 100,
            expected: vec![(a.clone(), 30), (b.clone(), 90)],
        };
        let mut freed = FreedMemory::default();
        let second = Duration::from_secs(1);
        assert_eq!(freed.at_most(&node, &a, 30, second), 30);
        freed.record(&node, &eviction, 20, second);
        let other = "local".parse().unwrap();
        for (node, model, expected, now, bytes) in [
            (&node, &a, 30, second, 20),
            (&node, &b, 90, second, 60),
            (&node, &b, 50, second, 50),
            (&other, &b, 90, second, 90),
            (&node, &b, 90, MEASURED_FOR, 60),
            (&node, &b, 90, MEASURED_FOR + second, 90),
        ] {
            assert_eq!(freed.at_most(node, model, expected, now), bytes);
        }
    }

    #[test]
    fn measured_values_are_removed_when_they_do_not_count_any_more() {
        let [a, b]: [ModelRef; 2] = ["mock:a=1", "mock:b=1"].map(|model| model.parse().unwrap());
        let node: NodeName = "attic".parse().unwrap();
        let eviction = |model: &ModelRef| Eviction {
            missing_bytes: 10,
            expected: vec![(model.clone(), 30)],
        };
        let mut freed = FreedMemory::default();
        freed.record(&node, &eviction(&a), 5, Duration::ZERO);
        let almost = MEASURED_FOR.saturating_sub(Duration::from_nanos(1));
        freed.record(&node, &eviction(&b), 5, almost);
        assert_eq!(freed.at_most(&node, &a, 30, almost), 5);
        assert_eq!(freed.measured.len(), 2);
        freed.record(&node, &eviction(&b), 5, MEASURED_FOR);
        assert_eq!(freed.measured.len(), 1);
    }

    #[test]
    fn more_may_be_missing_afterwards_and_the_memory_of_a_worker_may_be_unknown() {
        let models: [ModelRef; 2] = ["mock:a=1", "mock:b=1"].map(|model| model.parse().unwrap());
        let eviction = Eviction {
            missing_bytes: 10,
            expected: models.iter().map(|m| (m.clone(), u64::MAX)).collect(),
        };
        let shares = |missing| eviction.freed(missing).map(|(_, bytes)| bytes).sum::<u64>();
        assert_eq!(shares(11), 0);
        assert_eq!(shares(4), 6);
    }
}
