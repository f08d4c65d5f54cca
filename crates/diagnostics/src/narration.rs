use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much a narration matters.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For someone who looks for a fault.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// It goes on, but not as planned.
    Warn,
    /// It failed.
    Error,
}

/// What a component tells its user while it works: who does what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Narration {
    /// Who: `queen`, `hive`, `worker`, `keeper`.
    pub actor: String,
    /// What, one word: `spawn`, `load`, `ready`.
    pub action: String,
    /// The sentence for a person.
    pub message: String,
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
}

impl Narration {
    /// A narration at level info.
    pub fn info(actor: &str, action: &str, message: impl Into<String>) -> Self {
        Self {
            actor: actor.to_owned(),
            action: action.to_owned(),
            message: message.into(),
            level: Level::Info,
        }
    }

    /// A narration at level warn.
    pub fn warn(actor: &str, action: &str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            ..Self::info(actor, action, message)
        }
    }
}
