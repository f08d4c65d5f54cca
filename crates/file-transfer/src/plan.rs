//! Which bytes of a file are missing, being received and on disk. Pure: times are passed in, as
//! durations since the start of the transfer.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::ranges::Ranges;

/// Time that a connection should need for the rest of its range at least, or the rest is not
/// worth another connection.
const WORTH_A_SPLIT: Duration = Duration::from_secs(2);
/// Age at which the rate of a connection is known.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
/// Age at which a connection that is much slower than others is replaced.
const REPLACED_AFTER: Duration = Duration::from_secs(10);
/// A connection is much slower than others if they are faster by this factor.
const MUCH_SLOWER: f64 = 10.0;
/// Another connection takes a whole range over if it is expected to be faster by this factor.
const FASTER: f64 = 4.0;
/// Smallest part of a range that is worth a request.
const MIN_PART: u64 = 64 << 10;

/// Identifies an [`Assignment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lease(u64);

/// Bytes that one connection is to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) lease: Lease,
    pub(crate) range: Range<u64>,
    /// Lease that has ended, because this one takes its range over.
    pub(crate) replaces: Option<Lease>,
}

/// What to do with bytes that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where they belong in the file.
    pub(crate) offset: u64,
    /// How many of them belong to the lease. The rest is not needed.
    pub(crate) take: usize,
    /// Whether the lease has ended.
    pub(crate) ended: bool,
}

#[derive(Debug)]
struct Active {
    start: u64,
    /// Next byte to receive.
    at: u64,
    end: u64,
    since: Duration,
}

impl Active {
    /// Bytes per second, once known.
    fn rate(&self, now: Duration) -> Option<f64> {
        let age = now.saturating_sub(self.since);
        (age >= KNOWN_AFTER).then(|| (self.at - self.start) as f64 / age.as_secs_f64())
    }
}

/// State of a transfer. Every byte is missing, received, or leased to one connection.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None` until the end of a file of unknown size.
    size: Option<u64>,
    /// Bytes of an assignment.
    piece: u64,
    received: Ranges,
    written: Ranges,
    active: BTreeMap<Lease, Active>,
    next_lease: u64,
    /// Rate of the connections that ended last, smoothed.
    usual_rate: Option<f64>,
    /// Bytes received in this transfer.
    arrived: u64,
}

impl Plan {
    /// Plans the transfer of a file, of which `written` is on disk.
    pub(crate) fn new(size: Option<u64>, piece: u64, written: Ranges) -> Self {
        Self {
            size,
            piece: piece.max(1),
            received: written.clone(),
            written,
            active: BTreeMap::new(),
            next_lease: 0,
            usual_rate: None,
            arrived: 0,
        }
    }

    /// Assigns bytes to an idle connection: the first that are missing, else a part of a range
    /// that another connection would need long for. `None` if there is nothing to do now.
    pub(crate) fn assign(&mut self, now: Duration) -> Option<Assignment> {
        if let Some(gap) = self.first_missing() {
            let end = gap.end.min(gap.start.saturating_add(self.piece));
            return Some(self.lease(gap.start..end, None, now));
        }
        let (victim, part) = self.divide(now)?;
        let active = self.active.get_mut(&victim)?;
        active.end = part.start;
        let taken_over = active.at == active.end;
        if taken_over {
            self.active.remove(&victim);
        }
        Some(self.lease(part, taken_over.then_some(victim), now))
    }

    /// Assigns everything after the bytes at the beginning that are there, for a server that
    /// does not serve ranges.
    pub(crate) fn assign_rest(&mut self, now: Duration) -> Option<Assignment> {
        let end = self.size.unwrap_or(u64::MAX);
        let start = self.received.prefix();
        (start < end && self.active.is_empty()).then(|| self.lease(start..end, None, now))
    }

    /// Assigns the missing bytes at the start of `range`, which a response has already.
    pub(crate) fn assign_within(&mut self, range: Range<u64>, now: Duration) -> Option<Assignment> {
        let gap = self.first_missing()?;
        let part = gap.start..gap.end.min(range.end);
        (part.start == range.start && !part.is_empty()).then(|| self.lease(part, None, now))
    }

    fn lease(&mut self, range: Range<u64>, replaces: Option<Lease>, now: Duration) -> Assignment {
        let lease = Lease(self.next_lease);
        self.next_lease += 1;
        let active = Active {
            start: range.start,
            at: range.start,
            end: range.end,
            since: now,
        };
        self.active.insert(lease, active);
        Assignment {
            lease,
            range,
            replaces,
        }
    }

    fn first_missing(&self) -> Option<Range<u64>> {
        let mut taken = self.received.clone();
        for active in self.active.values() {
            taken.insert(active.at..active.end);
        }
        taken.first_gap(self.size.unwrap_or(u64::MAX))
    }

    /// Chooses the connection that needs longest for the rest of its range, and the part that
    /// another one should receive, so that both finish together.
    fn divide(&self, now: Duration) -> Option<(Lease, Range<u64>)> {
        let (lease, active, rate, time) = self
            .active
            .iter()
            .filter_map(|(lease, active)| {
                let rate = active.rate(now)?;
                Some((lease, active, rate, (active.end - active.at) as f64 / rate))
            })
            .max_by(|a, b| a.3.total_cmp(&b.3))?;
        if time < WORTH_A_SPLIT.as_secs_f64() {
            return None;
        }
        let others = self.active.iter().filter(|(other, _)| *other != lease);
        let best = others
            .filter_map(|(_, active)| active.rate(now))
            .chain(self.usual_rate)
            .fold(rate, f64::max);
        let rest = active.end - active.at;
        let keep = match rate {
            0.0 => 0,
            rate => (rest as f64 * rate / (rate + best)) as u64,
        };
        if keep >= MIN_PART && rest - keep >= MIN_PART {
            return Some((*lease, active.at + keep..active.end));
        }
        (best > rate * FASTER).then_some((*lease, active.at..active.end))
    }

    /// Accepts `count` bytes that arrived for `lease`, as far as they belong to it.
    pub(crate) fn receive(&mut self, lease: Lease, count: usize, now: Duration) -> Accepted {
        let Some(active) = self.active.get_mut(&lease) else {
            return Accepted {
                offset: 0,
                take: 0,
                ended: true,
            };
        };
        let offset = active.at;
        let take = (active.end - offset).min(count as u64);
        active.at += take;
        let ended = active.at == active.end;
        self.received.insert(offset..offset + take);
        self.arrived += take;
        if ended {
            self.release(lease, now);
        }
        Accepted {
            offset,
            take: take as usize,
            ended,
        }
    }

    /// Ends a lease. What it has not received is missing again.
    pub(crate) fn release(&mut self, lease: Lease, now: Duration) {
        let Some(active) = self.active.remove(&lease) else {
            return;
        };
        let seconds = now.saturating_sub(active.since).as_secs_f64().max(0.001);
        let rate = (active.at - active.start) as f64 / seconds;
        if rate > 0.0 {
            let usual = self
                .usual_rate
                .map_or(rate, |usual| 0.7 * usual + 0.3 * rate);
            self.usual_rate = Some(usual);
        }
    }

    /// Ends the lease of a file of unknown size: the connection closed after its last byte.
    pub(crate) fn end_of_file(&mut self, lease: Lease) {
        if let (Some(active), None) = (self.active.remove(&lease), self.size) {
            self.size = Some(active.at);
        }
    }

    /// Ends the lease of a connection that is much slower than the others, and returns it.
    pub(crate) fn end_slow(&mut self, now: Duration) -> Option<Lease> {
        let mut rates: Vec<(f64, Lease)> = self
            .active
            .iter()
            .filter_map(|(lease, active)| Some((active.rate(now)?, *lease)))
            .collect();
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let median = rates.get(rates.len() / 2).filter(|_| rates.len() > 1)?.0;
        let (_, slow) = *rates.iter().find(|(rate, lease)| {
            let age = now.saturating_sub(self.active[lease].since);
            age >= REPLACED_AFTER && rate * MUCH_SLOWER < median
        })?;
        self.release(slow, now);
        Some(slow)
    }

    /// Notes that bytes are on disk.
    pub(crate) fn written(&mut self, range: Range<u64>) {
        self.written.insert(range);
    }

    /// Bytes on disk.
    pub(crate) fn on_disk(&self) -> &Ranges {
        &self.written
    }

    /// Number of connections that receive bytes.
    pub(crate) fn connections(&self) -> usize {
        self.active.len()
    }

    /// Bytes received in this transfer, also if they are not on disk yet.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Size of the file, once known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether all bytes are on disk.
    pub(crate) fn is_complete(&self) -> bool {
        self.size.is_some_and(|size| self.written.prefix() >= size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MIB: u64 = 1 << 20;

    fn seconds(n: u64) -> Duration {
        SECOND * n as u32
    }

    #[test]
    fn half_of_the_rest_of_a_range_goes_to_an_idle_connection() {
        let mut plan = Plan::new(Some(16 * MIB), 16 * MIB, Ranges::default());
        let first = plan.assign(Duration::ZERO).unwrap();
        assert_eq!(first.range, 0..16 * MIB);
        assert_eq!(plan.assign(Duration::ZERO), None, "its rate is not known");
        plan.receive(first.lease, (4 * MIB) as usize, seconds(4));
        let second = plan.assign(seconds(4)).unwrap();
        assert_eq!((second.range, second.replaces), (10 * MIB..16 * MIB, None));
        let rest = plan.receive(first.lease, (16 * MIB) as usize, seconds(9));
        assert_eq!(
            rest,
            Accepted {
                offset: 4 * MIB,
                take: (6 * MIB) as usize,
                ended: true
            }
        );
    }

    #[test]
    fn a_stalled_range_is_taken_over_by_an_idle_connection() {
        let mut plan = Plan::new(Some(2 * MIB), MIB, Ranges::default());
        let stalled = plan.assign(Duration::ZERO).unwrap();
        let other = plan.assign(Duration::ZERO).unwrap();
        plan.receive(other.lease, MIB as usize, SECOND);
        let next = plan.assign(seconds(2)).unwrap();
        assert_eq!((next.range, next.replaces), (0..MIB, Some(stalled.lease)));
        let late = plan.receive(stalled.lease, 10, seconds(3));
        assert_eq!((late.take, late.ended), (0, true));
    }

    #[test]
    fn equally_slow_connections_do_not_take_each_other_over() {
        let mut plan = Plan::new(Some(2 * MIN_PART), MIN_PART, Ranges::default());
        let slow = [(); 2].map(|()| plan.assign(Duration::ZERO).unwrap());
        for assignment in &slow {
            plan.receive(assignment.lease, 1000, seconds(60));
        }
        assert_eq!(plan.assign(seconds(60)), None);
        assert_eq!(plan.end_slow(seconds(60)), None);
    }

    #[test]
    fn a_connection_that_is_much_slower_than_the_others_is_replaced() {
        let mut plan = Plan::new(Some(100 * MIB), 16 * MIB, Ranges::default());
        let all = [(); 4].map(|()| plan.assign(Duration::ZERO).unwrap());
        plan.receive(all[0].lease, 1000, seconds(9));
        for fast in &all[1..] {
            plan.receive(fast.lease, (8 * MIB) as usize, seconds(9));
        }
        assert_eq!(plan.end_slow(seconds(9)), None, "too early");
        assert_eq!(plan.end_slow(seconds(10)), Some(all[0].lease));
        assert_eq!(plan.end_slow(seconds(10)), None);
        assert_eq!(plan.assign(seconds(10)).unwrap().range, 1000..16 * MIB);
    }

    #[test]
    fn a_file_of_unknown_size_ends_with_its_connection() {
        let mut plan = Plan::new(None, MIB, Ranges::default());
        let all = plan.assign_rest(Duration::ZERO).unwrap();
        plan.receive(all.lease, 5, SECOND);
        plan.written(0..5);
        assert!(!plan.is_complete());
        plan.end_of_file(all.lease);
        assert_eq!((plan.size(), plan.is_complete()), (Some(5), true));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Assign,
        /// The n-th of the active connections receives bytes.
        Receive(usize, usize),
        Fail(usize),
        EndSlow,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Assign),
            6 => (0..8_usize, 0..400_000_usize).prop_map(|(n, count)| Step::Receive(n, count)),
            1 => (0..8_usize).prop_map(Step::Fail),
            1 => Just(Step::EndSlow),
            2 => (0..4000_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_received_twice(
            size in 0..4_000_000_u64,
            piece in 1..1_000_000_u64,
            on_disk in prop::collection::vec((0..4_000_000_u64, 0..500_000_u64), 0..4),
            steps in steps(),
        ) {
            let on_disk: Ranges = on_disk
                .into_iter()
                .map(|(start, length)| start.min(size)..(start + length).min(size))
                .collect();
            let mut plan = Plan::new(Some(size), piece, on_disk.clone());
            let mut leases: Vec<Assignment> = Vec::new();
            let mut now = Duration::ZERO;
            let mut arrived = on_disk;
            let mut done = arrived.count();
            let mut received = |plan: &mut Plan, assignment: &Assignment, count, now| {
                let accepted = plan.receive(assignment.lease, count, now);
                let range = accepted.offset..accepted.offset + accepted.take as u64;
                let before = arrived.count();
                arrived.insert(range.clone());
                assert_eq!(arrived.count(), before + accepted.take as u64, "received twice");
                if accepted.take > 0 {
                    assert!(assignment.range.start <= range.start);
                    assert!(range.end <= assignment.range.end);
                }
                plan.written(range);
                assert!(plan.on_disk().count() >= done, "progress went backwards");
                done = plan.on_disk().count();
                accepted.ended
            };
            for step in steps {
                match step {
                    Step::Assign => {
                        if leases.len() < 8 && let Some(new) = plan.assign(now) {
                            leases.retain(|old| Some(old.lease) != new.replaces);
                            leases.push(new);
                        }
                    }
                    Step::Receive(n, count) if n < leases.len() => {
                        if received(&mut plan, &leases[n], count, now) {
                            leases.remove(n);
                        }
                    }
                    Step::Fail(n) if n < leases.len() => {
                        plan.release(leases.remove(n).lease, now);
                    }
                    Step::EndSlow => {
                        if let Some(slow) = plan.end_slow(now) {
                            leases.retain(|old| old.lease != slow);
                        }
                    }
                    Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                    Step::Receive(..) | Step::Fail(_) => {}
                }
            }
            // One connection that works is enough, whatever happened before.
            for left in leases {
                plan.release(left.lease, now);
            }
            while let Some(assignment) = plan.assign(now) {
                prop_assert!(received(&mut plan, &assignment, usize::MAX, now));
            }
            prop_assert!(plan.is_complete());
            prop_assert_eq!(plan.on_disk().count(), size);
        }
    }
}
