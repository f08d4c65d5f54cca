//! What fails in a run, where and when.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Longest fault, in milliseconds. Longer than the time after which a silent worker is removed.
const LONGEST_MS: u64 = 40_000;
/// Longest suspension of a worker: long enough that it is replaced.
const LONGEST_FREEZE_MS: u64 = 120_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Messages of the node are lost; streams repeat them later.
    Loss,
    /// Messages of the node take longer.
    Delay,
    /// Calls from and to the node arrive twice.
    Duplicate,
    /// Calls from and to the node overtake each other.
    Reorder,
    /// Nothing passes between the queen and the node.
    Partition,
    /// Nothing passes from the node to the queen.
    AsymmetricFrom,
    /// Nothing passes from the queen to the node.
    AsymmetricTo,
    /// The link of the node is cut and restored again and again.
    Flapping,
    /// The wall clock of the node is ahead.
    ClockAhead,
    /// The wall clock of the node is behind.
    ClockBehind,
    /// A worker of the node dies.
    WorkerCrash,
    /// A worker of the node is suspended.
    WorkerFreeze,
    /// A user stops or replaces a worker of the node. In a quarter of the cases no hive knows it, so
    /// that it must exit when it is fenced.
    UserStop,
    /// The hive of the node dies and is started again when the fault ends.
    HiveCrash,
    /// The node loses its power until the fault ends.
    NodeCrash,
    /// The queen dies and is started again when the fault ends.
    QueenCrash,
    /// Models load slowly on the node.
    SlowDisk,
    /// No worker can be started on the node.
    FullDisk,
    /// The workers of the node report that they are free and ready, whatever they do.
    Lying,
    /// The queen has a policy: one that prefers, refuses, fails or does not end.
    Policy,
}

/// What may fail, by the names of `--faults`.
const GROUPS: [(&str, &[FaultKind]); 14] = [
    ("loss", &[FaultKind::Loss]),
    ("delay", &[FaultKind::Delay]),
    ("duplicate", &[FaultKind::Duplicate]),
    ("reorder", &[FaultKind::Reorder]),
    ("partition", &[FaultKind::Partition]),
    (
        "asymmetric",
        &[FaultKind::AsymmetricFrom, FaultKind::AsymmetricTo],
    ),
    ("skew", &[FaultKind::ClockAhead, FaultKind::ClockBehind]),
    (
        "crash",
        &[
            FaultKind::WorkerCrash,
            FaultKind::WorkerFreeze,
            FaultKind::HiveCrash,
            FaultKind::NodeCrash,
            FaultKind::QueenCrash,
        ],
    ),
    ("stop", &[FaultKind::UserStop]),
    ("slow-disk", &[FaultKind::SlowDisk]),
    ("full-disk", &[FaultKind::FullDisk]),
    ("lying", &[FaultKind::Lying]),
    ("flapping", &[FaultKind::Flapping]),
    ("policy", &[FaultKind::Policy]),
];

/// A set of kinds, written as names with commas, `all` or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSet(Vec<FaultKind>);

impl FaultSet {
    pub fn all() -> Self {
        Self(
            GROUPS
                .iter()
                .flat_map(|(_, kinds)| *kinds)
                .copied()
                .collect(),
        )
    }

    pub fn none() -> Self {
        Self(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Draws faults in the time from 5 s to `until`.
    pub(crate) fn draw(
        &self,
        random: &mut Random,
        count: u64,
        nodes: usize,
        until: Duration,
    ) -> Vec<Fault> {
        let last = (until.as_millis() as u64).max(6_000);
        let mut faults: Vec<Fault> = (0..count)
            .map(|_| {
                let kind = self.0[random.index(self.0.len())];
                let from_ms = random.between(5_000, last);
                let longest = match kind {
                    FaultKind::WorkerFreeze => LONGEST_FREEZE_MS,
                    _ => LONGEST_MS,
                };
                Fault {
                    kind,
                    node: random.index(nodes),
                    from_ms,
                    until_ms: from_ms + random.between(500, longest),
                    amount: random.between(1, 1000) as u32,
                }
            })
            .collect();
        faults.sort_by_key(|fault| fault.from_ms);
        faults
    }
}

impl FromStr for FaultSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::none()),
            _ => {}
        }
        let mut kinds = Vec::new();
        for name in text.split(',') {
            let group = GROUPS.iter().find(|(known, _)| *known == name);
            let Some((_, group)) = group else {
                let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "no fault is named `{name}`: known are all, none, {}",
                    known.join(", ")
                ));
            };
            kinds.extend_from_slice(group);
        }
        Ok(Self(kinds))
    }
}

/// Something fails from one moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// Index of the node.
    pub node: usize,
    pub from_ms: u64,
    pub until_ms: u64,
    /// How strong it is, from 1 to 1000; what that means depends on the kind.
    pub amount: u32,
}

impl Fault {
    pub(crate) fn from(&self) -> Duration {
        Duration::from_millis(self.from_ms)
    }

    pub(crate) fn until(&self) -> Duration {
        Duration::from_millis(self.until_ms)
    }

    pub(crate) fn is_on(&self, now: Duration) -> bool {
        self.from() <= now && now < self.until()
    }
}
