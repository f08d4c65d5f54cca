//! The policies that the queen has from time to time.

use std::sync::Arc;

use scheduler::{SchedulerEvent, SpawnTarget};
use scheduling_policy::Policy;

use crate::{
    bug::Bug,
    fault::{Fault, FaultKind},
    promise::Promise,
    world::World,
};

/// What a policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Prefers what rbee itself would choose last.
    Reverse,
    /// Refuses a node.
    Refuse,
    /// Has an opinion that is none, about some candidates.
    Wrong,
    /// Does not end.
    Endless,
    /// Changes its opinion with the load.
    Changing,
}

impl Script {
    const ALL: [Self; 5] = [
        Self::Reverse,
        Self::Refuse,
        Self::Wrong,
        Self::Endless,
        Self::Changing,
    ];

    fn of(fault: &Fault) -> Self {
        Self::ALL[fault.amount as usize % Self::ALL.len()]
    }

    /// The body of both functions, which have the candidate as `c`.
    fn body(self, node: &str) -> String {
        match self {
            Self::Reverse => "c.rank".to_owned(),
            Self::Refuse => format!("if c.node == \"{node}\" {{ \"not there\" }}"),
            Self::Wrong => "if request.waiting > 2 { [c.rank] } else { c.rank }".to_owned(),
            Self::Endless => "if c.rank == 1 { loop {} }".to_owned(),
            Self::Changing => "request.waiting * 7 % 5 - c.rank".to_owned(),
        }
    }
}

impl World<'_> {
    /// The policy that was set last.
    fn policy(&self) -> Option<&Fault> {
        let faults = self.plan.faults.iter();
        faults
            .filter(|fault| fault.kind == FaultKind::Policy && fault.is_on(self.now))
            .max_by_key(|fault| fault.from_ms)
    }

    /// Gives the queen the policy of this time.
    pub(super) fn update_policy(&mut self) {
        if self.queen.is_down || self.planted(Bug::ForgetPolicy) {
            return;
        }
        let script = self.policy().map(|fault| {
            let body = Script::of(fault).body(self.names.nodes[fault.node].as_str());
            format!("fn route(request, c) {{ {body} }} fn place(request, c) {{ {body} }}")
        });
        match script.as_deref().map(Policy::compile).transpose() {
            Ok(policy) => self.scheduler_event(SchedulerEvent::Policy(policy.map(Arc::new))),
            Err(error) => self.violate(Promise::Policy, format!("a policy is none: {error:?}")),
        }
    }

    /// Checks that the policy permits a worker of a node.
    pub(crate) fn check_policy(&mut self, node: usize, what: &str) {
        let is_refused = self
            .policy()
            .is_some_and(|fault| fault.node == node && Script::of(fault) == Script::Refuse);
        if is_refused {
            let message = format!("{what} on node {node}, which the policy refuses");
            self.violate(Promise::Policy, message);
        }
    }

    /// Checks that the policy permits a spawn.
    pub(crate) fn check_spawn_policy(&mut self, target: &SpawnTarget) {
        let mut nodes = self.names.nodes.iter();
        if let Some(node) = nodes.position(|node| *node == target.node) {
            self.check_policy(node, &format!("a spawn of {}", target.model));
        }
    }
}
