use hive_contract::DeviceProcess;
use input_validation::DeviceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When the GPUs of a node are left to other programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum GpuYield {
    /// While other programs use much of their memory.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Now, whether or not other programs use them.
    Now(YieldNow),
}

impl GpuYield {
    /// Whether this is the default.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// How long GPUs are left to other programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct YieldNow {
    /// Until this time, and `auto` from then on; absent: until it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// How far a GPU is left to other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum YieldPhase {
    /// Workers on it are being stopped.
    Yielding,
    /// No worker is on it.
    Yielded,
    /// The other programs have ended, or use little of its memory. It is used again soon.
    Returning,
}

/// A GPU that is left to other programs: no worker is started on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct YieldedDevice {
    /// The GPU.
    pub device: DeviceId,
    /// How far it is left to them.
    pub phase: YieldPhase,
    /// Why, and until when, as a sentence.
    pub reason: String,
    /// Processes of others that use its memory, those with the most memory first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<DeviceProcess>,
}
