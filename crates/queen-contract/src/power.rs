use hive_contract::Power;
use input_validation::{MacAddress, WakeAddress};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest time without work after which a node is put to sleep: 30 days.
pub const MAX_SLEEP_AFTER_SECONDS: u32 = 30 * 24 * 3600;

/// How a node is woken, and when it is put to sleep. Body of `PUT /v1/nodes/{name}/power`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PowerSettings {
    /// MAC address of its network card. Default: that which its hive has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mac: Option<MacAddress>,
    /// Where the packets that wake it are sent. Default: the broadcast addresses of all networks of
    /// the queen's machine and of other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub wake_address: Option<WakeAddress>,
    /// It is put to sleep when it had nothing to do for this time. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_592_000, nullable = false)]
    pub sleep_after_seconds: Option<u32>,
}

/// Why a node is asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SleepCause {
    /// A user put it to sleep.
    User,
    /// It had nothing to do for the time that its settings name.
    Idle,
}

/// Since when a node is asleep, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asleep {
    /// Since this time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why.
    pub cause: SleepCause,
}

/// How a node sleeps and is woken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePower {
    /// What users have set.
    #[serde(default)]
    pub settings: PowerSettings,
    /// What its hive reported last.
    #[serde(default)]
    pub reported: Power,
    /// Since when it is asleep; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub asleep: Option<Asleep>,
}

impl NodePower {
    /// The cards for which packets are sent to wake the node; none if it cannot be woken.
    #[must_use]
    pub fn cards(&self) -> Vec<MacAddress> {
        if let Some(mac) = self.settings.mac {
            return vec![mac];
        }
        let cards = self.reported.cards.iter().map(|card| card.mac);
        let mut cards: Vec<MacAddress> = cards.collect();
        cards.dedup();
        cards
    }

    /// Whether nothing is known and set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Body of `POST /v1/nodes/{name}/sleep`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SleepCall {
    /// Whether to suspend the node although it cannot be woken, or downloads or builds are running
    /// there. Default: false.
    pub force: bool,
    /// Time that running requests have to finish, in seconds. Then they continue on other nodes, if
    /// there are any. Default: 30.
    pub drain_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_that_the_user_names_is_woken_instead_of_those_that_were_reported() {
        let text = r#"{"reported": {"cards": [{"name": "a", "mac": "52:54:00:00:00:01"},
            {"name": "b", "mac": "52:54:00:00:00:02"}]}}"#;
        let mut power: NodePower = serde_json::from_str(text).unwrap();
        assert_eq!(power.cards().len(), 2);
        let mac = "52:54:00:00:00:03".parse().unwrap();
        power.settings.mac = Some(mac);
        assert_eq!(power.cards(), [mac]);
        assert!(NodePower::default().cards().is_empty());
        assert!(NodePower::default().is_default() && !power.is_default());
    }
}
