use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Process that uses the memory of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceProcess {
    /// Process id.
    pub pid: u32,
    /// Name of its program, without the directory; empty if unknown.
    #[serde(default)]
    pub name: String,
    /// Memory of the GPU that it uses, in bytes.
    pub memory_bytes: u64,
}
