//! What fails when.

use crate::{fault::FaultKind, message::ProcessIndex, world::World};

impl World<'_> {
    pub(crate) fn node_has(&self, node: usize, kind: FaultKind) -> bool {
        let mut faults = self.faults[node].iter();
        faults.any(|fault| fault.kind == kind && fault.is_on(self.now))
    }

    pub(crate) fn is_powered(&self, node: usize) -> bool {
        let mut faults = self.links[node].0.iter();
        !faults.any(|fault| fault.kind == FaultKind::NodeCrash && fault.is_on(self.now))
    }

    /// How far the wall clock of a node is ahead, in microseconds.
    pub(crate) fn skew(&self, node: usize) -> i128 {
        let faults = self.faults[node]
            .iter()
            .filter(|fault| fault.is_on(self.now));
        let skews = faults.map(|fault| {
            let amount = i128::from(fault.amount) * 120_000;
            match fault.kind {
                FaultKind::ClockAhead => amount,
                FaultKind::ClockBehind => -amount,
                _ => 0,
            }
        });
        skews.sum()
    }

    pub(super) fn fault_begins(&mut self, index: usize) {
        let fault = self.plan.faults[index];
        let node = fault.node;
        let live = self.processes.iter().enumerate();
        let live = live.filter(|(_, process)| process.node == node && !process.is_dead());
        let live: Vec<ProcessIndex> = live.map(|(index, _)| index).collect();
        let one = live.get(fault.amount as usize % live.len().max(1)).copied();
        match (fault.kind, one) {
            (FaultKind::WorkerCrash, Some(process)) => self.exit(process, false),
            (FaultKind::WorkerFreeze, Some(process)) => {
                let until = &mut self.processes[process].frozen_until;
                *until = (*until).max(fault.until());
            }
            (FaultKind::UserStop, Some(process)) if !self.queen.is_down => {
                self.user_stops(process, fault.amount);
            }
            (FaultKind::HiveCrash, _) => {
                let powered = self.is_powered(node);
                self.crash_hive(node, powered);
            }
            (FaultKind::NodeCrash, _) => {
                self.crash_hive(node, false);
                for process in live {
                    self.exit(process, false);
                }
            }
            (FaultKind::QueenCrash, _) if !self.queen.is_down => self.crash_queen(),
            (FaultKind::Policy, _) => self.update_policy(),
            _ => {}
        }
    }

    pub(super) fn fault_ends(&mut self, index: usize) {
        let fault = self.plan.faults[index];
        let still = |kind: FaultKind| {
            let mut faults = self.plan.faults.iter();
            faults.any(|other| {
                other.kind == kind
                    && other.is_on(self.now)
                    && (kind == FaultKind::QueenCrash || other.node == fault.node)
            })
        };
        let hive_is_down = still(FaultKind::HiveCrash) || still(FaultKind::NodeCrash);
        let queen_is_down = still(FaultKind::QueenCrash);
        match fault.kind {
            FaultKind::HiveCrash | FaultKind::NodeCrash if !hive_is_down => {
                self.hives[fault.node].is_down = false;
            }
            FaultKind::QueenCrash if !queen_is_down && self.queen.is_down => self.start_queen(),
            FaultKind::Policy => self.update_policy(),
            _ => {}
        }
    }
}

pub(super) fn is_of_network(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Loss
            | FaultKind::Delay
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::Partition
            | FaultKind::AsymmetricFrom
            | FaultKind::AsymmetricTo
            | FaultKind::Flapping
            | FaultKind::NodeCrash
    )
}
