//! Models that are unloaded when no request uses them.

use std::{collections::BTreeMap, time::Duration};

use input_validation::ModelRef;

/// The models whose workers are stopped after a time without requests. All others stay loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdleModels(BTreeMap<ModelRef, Idle>);

#[derive(Debug, Clone, Copy)]
struct Idle {
    limit: Duration,
    since: Duration,
}

impl IdleModels {
    /// Sets how long a model stays loaded without requests; `None` is no limit.
    pub(crate) fn set(&mut self, model: ModelRef, limit: Option<Duration>, now: Duration) {
        match limit {
            Some(limit) => {
                self.0.insert(model, Idle { limit, since: now });
            }
            None => {
                self.0.remove(&model);
            }
        }
    }

    /// Returns the models that were idle for their time, and forgets them.
    pub(crate) fn take_overdue(
        &mut self,
        is_used: impl Fn(&ModelRef) -> bool,
        now: Duration,
    ) -> Vec<ModelRef> {
        let mut overdue = Vec::new();
        self.0.retain(|model, idle| {
            if is_used(model) {
                idle.since = now;
                return true;
            }
            let stays = now.saturating_sub(idle.since) < idle.limit;
            if !stays {
                overdue.push(model.clone());
            }
            stays
        });
        overdue
    }

    /// Returns the time after which each model is unloaded if no request uses it.
    pub(crate) fn remaining(&self, now: Duration) -> impl Iterator<Item = (&ModelRef, Duration)> {
        self.0.iter().map(move |(model, idle)| {
            (
                model,
                idle.since.saturating_add(idle.limit).saturating_sub(now),
            )
        })
    }
}
