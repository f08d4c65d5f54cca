use input_validation::{Backend, DeviceId, EngineName, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Time for which workers beyond the minimum stay loaded without requests, in seconds, unless a
/// deployment says otherwise.
pub const DEFAULT_KEEP_ALIVE_SECONDS: u64 = 300;

/// What a user wants of the workers of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSpec {
    /// Model of the deployment.
    pub model: ModelRef,
    /// Number of workers that are always running, each on a device of its own. With 0, the first
    /// request starts one.
    #[serde(default = "one")]
    #[schema(default = 1, maximum = 1000)]
    pub min_workers: u32,
    /// Number of workers that run at most: requests that wait start further ones. Default: the
    /// minimum, and at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1000)]
    pub max_workers: Option<u32>,
    /// Nodes on which the workers run. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeName>,
    /// Machines that run the only worker together, for a model larger than each of them: the
    /// largest one runs the worker, and the others compute parts of the model for it. Default:
    /// each worker has all of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<NodeName>,
    /// Kind of device on which the workers run. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub backend: Option<Backend>,
    /// Engine that runs the model. Default: the hive chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engine: Option<EngineName>,
    /// Number of tokens of context of each request. Default: that of the model, as far as the
    /// memory permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub context_length: Option<u32>,
    /// Number of requests that each worker runs at a time. Default: the worker decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1024)]
    pub slots: Option<u32>,
    /// Workers beyond the minimum are stopped when they had no request for this time. Default:
    /// 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub keep_alive_seconds: Option<u64>,
    /// A deployment of a higher priority may take the memory of the workers that are always
    /// running. Models without a deployment have priority 0.
    #[serde(default)]
    #[schema(default = 0)]
    pub priority: i32,
}

fn one() -> u32 {
    1
}

impl DeploymentSpec {
    /// A deployment with one worker anywhere.
    pub fn of(model: ModelRef) -> Self {
        Self {
            model,
            min_workers: 1,
            max_workers: None,
            nodes: Vec::new(),
            split: Vec::new(),
            backend: None,
            engine: None,
            context_length: None,
            slots: None,
            keep_alive_seconds: None,
            priority: 0,
        }
    }

    /// Returns the number of workers that run at most.
    pub fn max_workers(&self) -> u32 {
        let least = self.min_workers.max(1);
        self.max_workers.unwrap_or(least).max(least)
    }
}

/// Body of `PUT /v1/deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployCall {
    /// Deployments to create, or to replace.
    #[schema(max_items = 1000)]
    pub deployments: Vec<DeploymentSpec>,
    /// Whether all other deployments are removed. Default: false.
    #[serde(default)]
    pub only: bool,
}

/// Body of `POST /v1/deployments/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndeployCall {
    /// Model of the deployment.
    pub model: ModelRef,
    /// Time that its workers have to finish their requests, in seconds. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 31_536_000)]
    pub drain_seconds: Option<u64>,
}

/// State of a deployment, or of one of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// No worker is running. The next request spawns one.
    Idle,
    /// A worker is being spawned or is loading the model.
    Starting,
    /// As many workers as are wanted accept requests.
    Ready,
    /// Fewer workers than are wanted accept requests.
    Partial,
    /// The last spawn failed. The queen waits before the next one.
    Backoff,
}

/// Model that a user deployed or that requests have named, with its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Model of the deployment.
    pub model: ModelRef,
    /// State of the deployment.
    pub state: DeploymentState,
    /// What is wanted; absent if only requests have named the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub wanted: Option<DeploymentSpec>,
    /// Number of workers that accept requests.
    pub ready_workers: u32,
    /// Why workers are missing; absent if none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_error: Option<String>,
    /// Its workers, in order of their nodes and devices.
    pub workers: Vec<DeployedWorker>,
}

/// Worker of a deployment, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployedWorker {
    /// Id of the worker.
    pub worker_id: WorkerId,
    /// Node that it runs on.
    pub node: NodeName,
    /// Device that it runs on.
    pub device: DeviceId,
    /// Generation of its last spawn.
    pub generation: Generation,
    /// State of the worker.
    pub state: DeploymentState,
    /// Time of its first spawn.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Error of its last spawn; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_error: Option<String>,
    /// What computes parts of the model for it on other machines; empty if it has all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<DeployedPart>,
}

/// What computes a part of a model for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployedPart {
    /// Node that it runs on.
    pub node: NodeName,
    /// Device that it computes on.
    pub device: DeviceId,
}

/// Response of `GET /v1/deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentList {
    /// Deployments in order of their models.
    pub deployments: Vec<Deployment>,
}
