use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Severity of a narration event.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Details for troubleshooting.
    Debug,
    /// Normal progress.
    #[default]
    Info,
    /// The work continues, but not as planned.
    Warn,
    /// The work failed.
    Error,
}

/// Progress message of a component, for display to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Narration {
    /// Component that sends it: `queen`, `hive`, `worker` or `keeper`.
    pub actor: String,
    /// What the component does, in one word: `spawn`, `load`, `ready`.
    pub action: String,
    /// Complete sentence for display.
    pub message: String,
    /// Severity.
    #[serde(default)]
    #[schema(required)]
    pub level: Level,
}

impl Narration {
    /// Creates an event of level `info`.
    pub fn info(actor: &str, action: &str, message: impl Into<String>) -> Self {
        Self {
            actor: actor.to_owned(),
            action: action.to_owned(),
            message: message.into(),
            level: Level::Info,
        }
    }

    /// Creates an event of level `warn`.
    pub fn warn(actor: &str, action: &str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            ..Self::info(actor, action, message)
        }
    }
}
