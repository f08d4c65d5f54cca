//! The network between the queen and the nodes. Calls can be lost, doubled and reordered; what is
//! sent over a connection arrives once and in order, or later.

use std::time::Duration;

use crate::{
    fault::{Fault, FaultKind},
    message::Event,
    world::World,
};

/// A connection repeats what was lost after this time.
const REPEATED_AFTER: Duration = Duration::from_millis(200);
/// Bounds of the usual time of a message, in microseconds.
const USUAL: (u64, u64) = (100, 900);

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the queen to the node.
    To,
    /// From the node to the queen.
    From,
}

/// The faults of the network at one node.
#[derive(Debug, Default)]
pub(crate) struct Link(pub(crate) Vec<Fault>);

impl Link {
    /// Until when nothing passes, if nothing passes now.
    fn cut_until(&self, way: Way, now: Duration) -> Option<Duration> {
        let cuts = self.0.iter().filter(|fault| fault.is_on(now));
        let ends = cuts.filter_map(|fault| match fault.kind {
            FaultKind::Partition | FaultKind::NodeCrash => Some(fault.until()),
            FaultKind::AsymmetricFrom => (way == Way::From).then(|| fault.until()),
            FaultKind::AsymmetricTo => (way == Way::To).then(|| fault.until()),
            FaultKind::Flapping => {
                let period = u128::from(500 + fault.amount * 8);
                let phase = now.saturating_sub(fault.from()).as_millis() / period;
                let end = fault.from() + Duration::from_millis(((phase + 1) * period) as u64);
                phase.is_multiple_of(2).then(|| end.min(fault.until()))
            }
            _ => None,
        });
        ends.max()
    }

    /// How strong a kind of fault is now, from 0 to 1000.
    fn amount(&self, kind: FaultKind, now: Duration) -> u32 {
        let on = self
            .0
            .iter()
            .filter(|fault| fault.kind == kind && fault.is_on(now));
        on.map(|fault| fault.amount).max().unwrap_or(0)
    }
}

impl World<'_> {
    /// Sends a call, or the response to one.
    pub(crate) fn send(&mut self, node: usize, way: Way, event: Event) {
        let now = self.now;
        let link = &self.links[node];
        if link.0.is_empty() {
            let delay = self.random.micros(USUAL.0, USUAL.1);
            self.at(now + delay, event);
            return;
        }
        if link.cut_until(way, now).is_some() {
            return;
        }
        let amount = |kind| link.amount(kind, now);
        let (loss, reorder) = (amount(FaultKind::Loss) / 2, amount(FaultKind::Reorder));
        let (duplicate, delay) = (amount(FaultKind::Duplicate), amount(FaultKind::Delay));
        let copies = 1 + usize::from(self.random.happens(duplicate));
        for _ in 0..copies {
            if self.random.happens(loss) {
                continue;
            }
            let mut time = self.random.micros(USUAL.0, USUAL.1);
            time += Duration::from_millis(self.random.between(0, u64::from(delay) * 2));
            if self.random.happens(reorder) {
                time += self.random.micros(0, 3_000_000);
            }
            self.at(now + time, event.clone());
        }
    }

    /// Sends something over a connection after what was sent before, which arrives at `before`.
    /// Returns when it arrives.
    pub(crate) fn stream(
        &mut self,
        node: usize,
        way: Way,
        before: Duration,
        event: Event,
    ) -> Duration {
        let now = self.now;
        let mut sent = now;
        if !self.links[node].0.is_empty() {
            while let Some(end) = self.links[node].cut_until(way, sent) {
                sent = end + REPEATED_AFTER;
            }
            let link = &self.links[node];
            let (loss, delay) = (
                link.amount(FaultKind::Loss, sent) / 2,
                link.amount(FaultKind::Delay, sent),
            );
            sent += Duration::from_millis(self.random.between(0, u64::from(delay) * 2));
            while self.random.happens(loss) {
                sent += REPEATED_AFTER;
            }
        }
        let arrival = (sent + self.random.micros(USUAL.0, USUAL.1)).max(before);
        self.at(arrival, event);
        arrival
    }
}
