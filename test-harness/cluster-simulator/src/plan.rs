//! Everything that happens in a run from outside: a run is determined by its plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    deployment_plan::DeploymentChange,
    fault::{Fault, FaultSet},
    random::Random,
};

const GIB: u64 = 1 << 30;
/// Streams of random numbers; see [`Random::new`].
const MACHINES: u64 = 1;
const REQUESTS: u64 = 2;
const FAULTS: u64 = 3;
const DEPLOYMENTS: u64 = 5;

/// What a plan is generated from.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub hives: usize,
    /// Number of models; each of them has at most one worker at a place.
    pub workers: usize,
    pub requests: usize,
    /// How often users deploy something, or remove a deployment.
    pub deployments: usize,
    pub faults: FaultSet,
    /// Whether the machines have memory for all workers at the same time.
    pub roomy: bool,
    /// Requests per second; `None` for a number that keeps the workers about half busy.
    pub rate: Option<u64>,
}

/// A machine with a hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    pub ram_bytes: u64,
    /// The memory of each GPU.
    pub gpu_bytes: Vec<u64>,
    /// Indices of the models whose files it has.
    pub models: Vec<usize>,
}

/// A model that requests name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPlan {
    pub bytes: u64,
    pub load_ms: u64,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestPlan {
    /// Number of the request; its tokens follow from it.
    pub number: u32,
    pub model: usize,
    pub at_us: u64,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    pub deadline_ms: u64,
    /// How long after its arrival the client gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_ms: Option<u64>,
    /// The node that it requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
}

impl RequestPlan {
    pub(crate) fn at(&self) -> Duration {
        Duration::from_micros(self.at_us)
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.at() + Duration::from_millis(self.deadline_ms)
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub nodes: Vec<NodePlan>,
    pub models: Vec<ModelPlan>,
    pub slots: u32,
    /// Duration of a step of an engine.
    pub step_us: u64,
    /// Number of blocks in the KV cache of each worker.
    pub blocks: u32,
    /// Maximum number of requests that wait for a model.
    pub queue_limit: usize,
    pub requests: Vec<RequestPlan>,
    #[serde(default)]
    pub deployments: Vec<DeploymentChange>,
    pub faults: Vec<Fault>,
}

impl Plan {
    pub fn generate(options: &Options) -> Self {
        let mut random = Random::new(options.seed, MACHINES);
        let models: Vec<ModelPlan> = (0..options.workers.max(1))
            .map(|_| ModelPlan {
                bytes: random.between(2, 6) * GIB,
                load_ms: random.between(1_000, 12_000),
            })
            .collect();
        let nodes = machines(options, &models, &mut random);
        let slots = if options.roomy {
            4
        } else {
            random.between(1, 4) as u32
        };
        let mut random = Random::new(options.seed, REQUESTS);
        // A request takes about 0.1 s of a slot.
        let able = (models.len() as u64 * u64::from(slots) * 5).max(1);
        let rate = options.rate.unwrap_or(if options.roomy { able } else { 2 });
        let mut requests: Vec<RequestPlan> = Vec::with_capacity(options.requests);
        let span_us = options.requests as u64 * 1_000_000 / rate.max(1);
        for number in 0..options.requests as u32 {
            requests.push(request(number, span_us, options, nodes.len(), &mut random));
        }
        requests.sort_by_key(|request| request.at_us);
        let horizon = Duration::from_micros(span_us);
        let mut random = Random::new(options.seed, DEPLOYMENTS);
        let count = options.deployments;
        let deployments =
            DeploymentChange::draw(&mut random, count, models.len(), nodes.len(), span_us);
        let mut random = Random::new(options.seed, FAULTS);
        let faults = if options.faults.is_empty() {
            Vec::new()
        } else {
            let most = 3 + horizon.as_secs() * nodes.len() as u64 / 20;
            let count = random.between(1, most);
            options
                .faults
                .draw(&mut random, count, nodes.len(), horizon)
        };
        Self {
            seed: options.seed,
            nodes,
            models,
            slots,
            step_us: if options.roomy {
                5_000
            } else {
                random.between(5_000, 40_000)
            },
            blocks: if options.roomy {
                256
            } else {
                random.between(24, 96) as u32
            },
            queue_limit: if options.roomy {
                256
            } else {
                random.between(4, 32) as usize
            },
            requests,
            deployments,
            faults,
        }
    }

    /// When the last fault has ended, and the last request and deployment have arrived.
    pub(crate) fn calm(&self) -> Duration {
        let faults = self.faults.iter().map(Fault::until);
        let requests = self.requests.iter().map(RequestPlan::at);
        let deployments = self.deployments.iter().map(DeploymentChange::at);
        let all = faults.chain(requests).chain(deployments);
        all.max().unwrap_or_default()
    }
}

fn machines(options: &Options, models: &[ModelPlan], random: &mut Random) -> Vec<NodePlan> {
    let hives = options.hives.max(1);
    let largest = models.iter().map(|model| model.bytes).max().unwrap_or(GIB);
    let mut nodes: Vec<NodePlan> = (0..hives)
        .map(|_| {
            let gpus = if options.roomy {
                1
            } else {
                random.between(0, 2)
            };
            let gpu = |random: &mut Random| {
                if options.roomy {
                    models.len().div_ceil(hives) as u64 * 2 * largest
                } else {
                    largest + random.between(0, 6) * GIB
                }
            };
            NodePlan {
                ram_bytes: largest + random.between(0, 8) * GIB,
                gpu_bytes: (0..gpus).map(|_| gpu(random)).collect(),
                models: Vec::new(),
            }
        })
        .collect();
    for model in 0..models.len() {
        let copies = if options.roomy {
            1
        } else {
            1 + random.index(hives)
        };
        for copy in 0..copies {
            let node = if options.roomy {
                model % hives
            } else {
                random.index(hives)
            };
            if copy < hives && !nodes[node].models.contains(&model) {
                nodes[node].models.push(model);
            }
        }
    }
    nodes
}

fn request(
    number: u32,
    span_us: u64,
    options: &Options,
    nodes: usize,
    random: &mut Random,
) -> RequestPlan {
    let models = options.workers.max(1);
    let at_us = if options.roomy {
        random.between(0, span_us)
    } else {
        // A third of them arrives at once: a herd on a cold model.
        let herd = random.happens(300);
        if herd {
            span_us / 3
        } else {
            random.between(0, span_us)
        }
    };
    let model = if options.roomy {
        random.index(models)
    } else {
        // The first ones are the most wanted.
        random.index(models).min(random.index(models))
    };
    if options.roomy {
        return RequestPlan {
            number,
            model,
            at_us,
            prompt_tokens: random.between(4, 40) as u32,
            output_tokens: random.between(1, 8) as u32,
            deadline_ms: 600_000,
            cancel_ms: None,
            node: None,
        };
    }
    RequestPlan {
        number,
        model,
        at_us,
        prompt_tokens: random.between(1, 200) as u32,
        output_tokens: random.between(1, 120) as u32,
        deadline_ms: if random.happens(200) {
            random.between(500, 20_000)
        } else {
            random.between(20_000, 180_000)
        },
        cancel_ms: random.happens(120).then(|| random.between(0, 20_000)),
        node: random.happens(150).then(|| random.index(nodes)),
    }
}
