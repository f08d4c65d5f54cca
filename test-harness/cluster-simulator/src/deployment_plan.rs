//! What users deploy in the course of a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// What a user wants of the workers of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedWorkers {
    pub min: u32,
    pub max: u32,
    /// Indices of the nodes on which they run. Empty: any node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<usize>,
    /// Whether they run on GPUs only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpu: bool,
    pub keep_alive_ms: u64,
    pub priority: i32,
}

/// A user deploys a model, changes its deployment, or removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentChange {
    pub at_us: u64,
    pub model: usize,
    /// `None`: the deployment is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<WantedWorkers>,
}

impl DeploymentChange {
    pub(crate) fn at(&self) -> Duration {
        Duration::from_micros(self.at_us)
    }

    /// Draws `count` changes before `span_us`, in the order of their times.
    pub(crate) fn draw(
        random: &mut Random,
        count: usize,
        models: usize,
        nodes: usize,
        span_us: u64,
    ) -> Vec<Self> {
        let change = |_| Self {
            at_us: random.between(0, span_us),
            model: random.index(models),
            wanted: (!random.happens(250)).then(|| wanted(random, nodes)),
        };
        let mut changes: Vec<Self> = (0..count).map(change).collect();
        changes.sort_by_key(|change| change.at_us);
        changes
    }
}

fn wanted(random: &mut Random, nodes: usize) -> WantedWorkers {
    let min = random.between(0, 3) as u32;
    let some = random.happens(400);
    WantedWorkers {
        min,
        max: (min + random.between(0, 2) as u32).max(1),
        nodes: (0..nodes).filter(|_| some && random.happens(500)).collect(),
        gpu: random.happens(200),
        keep_alive_ms: random.between(0, 120_000),
        priority: random.between(0, 2) as i32,
    }
}
