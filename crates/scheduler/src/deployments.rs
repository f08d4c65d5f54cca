use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::Diagnostic;
use input_validation::ModelRef;

use crate::{DeploymentMap, Shortfall, SpawnTarget};

/// The deployments and what is done about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deployments {
    pub(crate) wanted: DeploymentMap,
    /// Those with fewer workers than wanted, for which no worker is being started.
    pub(crate) short: BTreeMap<ModelRef, Shortfall>,
    /// Those with fewer registered workers than wanted.
    pub(crate) incomplete: BTreeSet<ModelRef>,
    /// Spawns that were under way when their deployment was removed: nobody wants their workers.
    pub(crate) abandoned: BTreeSet<SpawnTarget>,
    /// Since when requests wait although workers serve the model.
    pub(crate) busy_since: BTreeMap<ModelRef, Duration>,
    /// Spawns that were refused for their input, and when: nothing changes by trying at once.
    pub(crate) refused: BTreeMap<SpawnTarget, (Duration, Diagnostic)>,
}

impl Deployments {
    pub(crate) fn priority(&self, model: &ModelRef) -> i32 {
        self.wanted
            .get(model)
            .map_or(0, |deployment| deployment.priority)
    }

    /// Returns whether a worker at the target is wanted although no request waits for it.
    pub(crate) fn lacks(&self, target: &SpawnTarget) -> bool {
        self.incomplete.contains(&target.model)
            && self
                .wanted
                .get(&target.model)
                .is_some_and(|deployment| deployment.allows(&target.node, target.backend))
    }
}
