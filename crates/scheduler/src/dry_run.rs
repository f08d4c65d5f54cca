//! What would be decided.

use std::{sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use jiff::Timestamp;
use queen_contract::Decision;
use scheduling_policy::Policy;

use crate::{
    NewRequest, PolicyState, Scheduler, decisions::DecisionLog, policy::ActivePolicy,
    prefixes::PrefixTable,
};

impl Scheduler {
    /// Returns what would be decided for a request that arrived now, with this policy or without
    /// one. Nothing changes. The queen is assumed to have computed no prompt before.
    ///
    /// Errors: those of [`submit`](Self::submit).
    pub fn dry_run(
        &self,
        request: NewRequest,
        policy: Option<Arc<Policy>>,
        now: Duration,
        time: impl Fn(Duration) -> Timestamp,
    ) -> Result<Vec<Decision>, Diagnostic> {
        let mut copy = Self {
            settings: self.settings.clone(),
            nodes: self.nodes.clone(),
            registry: self.registry.clone(),
            queue: self.queue.clone(),
            requests: self.requests.clone(),
            targets: self.targets.clone(),
            draining: self.draining,
            deployments: self.deployments.clone(),
            counts: self.counts,
            service_times: self.service_times.clone(),
            idle: self.idle.clone(),
            decisions: DecisionLog::default(),
            residency: self.residency.clone(),
            prefixes: PrefixTable::default(),
            policy: ActivePolicy::new(policy),
            displaced: self.displaced.clone(),
        };
        let id = request.id.clone();
        copy.submit(request, now)?;
        Ok(copy.decisions(Some(id.as_str()), usize::MAX, time))
    }

    /// The policy in use, if there is one.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.policy()
    }

    /// How the policy in use does.
    pub fn policy_state(&self) -> &PolicyState {
        self.policy.state()
    }
}
