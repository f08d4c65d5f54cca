use input_validation::{MacAddress, WakeAddress};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Network card of a machine, by which it can be woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkCard {
    /// Name of the interface: `enp3s0`.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Whether it is set to wake the machine; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub wakes: Option<bool>,
}

/// Whether a machine can be suspended, and how it can be woken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Power {
    /// Whether the kernel can suspend the machine; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub can_suspend: Option<bool>,
    /// Ethernet cards by which the machine reaches its network, or all that have a connection.
    #[serde(default)]
    pub cards: Vec<NetworkCard>,
}

/// Body of `POST /v1/suspend`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SuspendRequest {
    /// Whether to suspend although workers, downloads or builds are running. Default: false.
    pub force: bool,
}

/// Body of `POST /v1/wake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WakeRequest {
    /// MAC address of the machine to wake.
    pub mac: MacAddress,
    /// Where the magic packets are sent. Default: the broadcast addresses of all networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub address: Option<WakeAddress>,
}
